"""One reader: the same pixels for training and for use, of every odd file, or a refusal in words."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import topwork as tw
from topwork._data.decoding import decode_file
from topwork._data.headers import Undecodable
from topwork._data.images import Setting, read_image, resized
from topwork._data.origin import in_order, learn_names, origin_of
from topwork._data.randomness import randomness_in
from topwork._networks.record import read_record

SEEN = np.kron(np.arange(240, dtype="uint8").reshape(8, 10, 3), np.ones((8, 8, 1), "uint8"))


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "eel"):
        for i in range(5):
            save(tmp_path / name / f"{i}.jpg", rng.integers(0, 255, (40, 30 + i, 3), "uint8"))
    return tmp_path


def classifier(n: int = 3, size: int = 16) -> keras.Model:
    image = keras.Input((size, size, 3))
    features = keras.layers.Conv2D(4, 3, name="features")(image)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    model = keras.Model(image, keras.layers.Dense(n, "softmax")(pooled))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def all_images(data: Any) -> np.ndarray:
    return np.concatenate([images for images, _ in data])


def all_labels(data: Any) -> np.ndarray:
    return np.concatenate([labels for _, labels in data])


class TestDecoding:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_every_orientation(self, tmp_path: Path, kind: str, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = Image.fromarray(SEEN)
        ways = Image.Transpose
        undo = [None, None, ways.FLIP_LEFT_RIGHT, ways.ROTATE_180, ways.FLIP_TOP_BOTTOM]
        undo += [ways.TRANSPOSE, ways.ROTATE_90, ways.TRANSVERSE, ways.ROTATE_270]
        if undo[orientation] is not None:
            turned = turned.transpose(undo[orientation])
        options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
        turned.save(tmp_path / "x", kind, exif=exif, **options)
        found = decode_file(tmp_path / "x")
        assert found.shape == SEEN.shape
        assert np.abs(found.astype(int) - SEEN).mean() < 4

    def test_jpeg_is_what_pillow_reads(self, tmp_path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (50, 60, 3), "uint8")
        for mode in ("RGB", "L", "CMYK"):
            Image.fromarray(pixels).convert(mode).save(tmp_path / "x.jpg")
            expected = np.asarray(Image.open(tmp_path / "x.jpg").convert("RGB")).astype(int)
            assert np.abs(decode_file(tmp_path / "x.jpg") - expected).max() <= 1

    def test_what_is_transparent_is_shown_on_white(self, tmp_path: Path) -> None:
        rgba = np.zeros((4, 4, 4), "uint8")
        rgba[:2, :, 3] = 255
        for kind in ("PNG", "WEBP"):
            Image.fromarray(rgba).save(tmp_path / "x", kind, lossless=True)
            found = decode_file(tmp_path / "x")
            assert (found[:2] == 0).all()
            assert (found[2:] == 255).all()
        grey = Image.fromarray(rgba[..., 3] // 3)
        grey.save(tmp_path / "x", "PNG", transparency=85)
        assert (decode_file(tmp_path / "x")[:2] == 255).all()
        palette = Image.new("P", (4, 4), 1)
        palette.putpalette([9, 9, 9, 5, 5, 5])
        for kind in ("PNG", "GIF"):
            palette.save(tmp_path / "x", kind, transparency=1)
            assert (decode_file(tmp_path / "x") == 255).all(), kind

    def test_half_transparent_is_mixed(self, tmp_path: Path) -> None:
        save(tmp_path / "x.png", np.full((2, 2, 4), [100, 0, 200, 128], "uint8"))
        expected = [(c * 128 + 255 * 127 + 127) // 255 for c in (100, 0, 200)]
        assert decode_file(tmp_path / "x.png")[0, 0].tolist() == expected

    def test_grey_is_grey(self, tmp_path: Path) -> None:
        save(tmp_path / "x.png", SEEN)
        expected = np.asarray(Image.fromarray(SEEN).convert("L"))[..., None]
        np.testing.assert_array_equal(decode_file(tmp_path / "x.png", 1), expected)
        save(tmp_path / "x.png", SEEN[..., 0])
        np.testing.assert_array_equal(decode_file(tmp_path / "x.png", 1), SEEN[..., :1])

    def test_four_channels_and_arrays(self, tmp_path: Path) -> None:
        rgba = np.arange(64, dtype="uint8").reshape(4, 4, 4)
        save(tmp_path / "x.png", rgba)
        np.testing.assert_array_equal(decode_file(tmp_path / "x.png", 4), rgba)
        bands = np.random.default_rng(0).normal(size=(5, 6, 9))
        np.save(tmp_path / "x.npy", bands)
        np.testing.assert_array_equal(decode_file(tmp_path / "x.npy", 9), bands.astype("float32"))
        with pytest.raises(Undecodable, match=r"array of shape \(5, 6, 9\), and \(height, width, 3\)"):
            decode_file(tmp_path / "x.npy", 3)
        with pytest.raises(Undecodable, match=r"9 channels are wanted, which only .npy files have"):
            decode_file(tmp_path / "x.png", 9)
        np.save(tmp_path / "x.npy", np.array(["a"]))
        with pytest.raises(Undecodable, match=r"array of shape \(1,\)"):
            decode_file(tmp_path / "x.npy")
        np.save(tmp_path / "x.npy", np.zeros((2, 2, 3), bool))
        with pytest.raises(Undecodable, match="array of bool, and numbers are read"):
            decode_file(tmp_path / "x.npy")
        np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
        with pytest.raises(Undecodable, match="cannot be decoded"):
            decode_file(tmp_path / "x.npy")

    def test_sixteen_bits(self, tmp_path: Path) -> None:
        deep = (np.arange(64).reshape(8, 8) * 1000).astype("uint16")
        for name in ("x.png", "x.tif"):
            Image.fromarray(deep).save(tmp_path / name)
            np.testing.assert_array_equal(decode_file(tmp_path / name, 1)[..., 0], deep >> 8)

    def test_numbers_of_unknown_range_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((3, 3), "float32")).save(tmp_path / "x.tif")
        with pytest.raises(Undecodable, match="pixels of floating point, whose range is not known"):
            decode_file(tmp_path / "x.tif")

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x.png")
        with pytest.raises(Undecodable, match="is no regular file"):
            decode_file(tmp_path / "x.png")
        with pytest.raises(Undecodable, match="is a folder"):
            decode_file(tmp_path)

    def test_claims_are_compared_before_anything_is_allocated(self, tmp_path: Path) -> None:
        header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
        with pytest.raises(Undecodable, match="says that it has 60,000 x 60,000 pixels, and at most"):
            decode_file(tmp_path / "x.png")
        with (tmp_path / "y.png").open("wb") as sparse:
            sparse.truncate(2**40)
        with pytest.raises(Undecodable, match="is 1,099,511,627,776 bytes large, and at most"):
            decode_file(tmp_path / "y.png")

    def test_without_pillow_the_common_kinds_are_read_and_others_named(self, tmp_path: Path) -> None:
        save(tmp_path / "x.jpg", SEEN)
        save(tmp_path / "x.png", SEEN)
        save(tmp_path / "x.tif", SEEN)
        code = (
            "import sys; sys.modules['PIL'] = None\n"
            "from topwork._data.decoding import decode_file, first_look\n"
            "from pathlib import Path\n"
            f"folder = Path({str(tmp_path)!r})\n"
            "print(decode_file(folder / 'x.png').shape, decode_file(folder / 'x.jpg').shape)\n"
            "print(first_look(folder / 'x.tif'))"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout.splitlines() == [
            "(64, 80, 3) (64, 80, 3)",
            "is a TIFF file, which only Pillow reads: pip install pillow, or make it JPEG or PNG",
        ]


class TestSize:
    def test_a_strip_and_a_huge_picture_cost_little(self, tmp_path: Path) -> None:
        save(tmp_path / "strip.png", np.full((2, 4000, 3), 77, "uint8"))
        began = time.perf_counter()
        found = read_image(tmp_path / "strip.png", 224, 224)
        np.testing.assert_allclose(found, 77, rtol=1e-5)
        assert time.perf_counter() - began < 5  # it took 62 seconds before

    def test_a_large_jpeg_is_decoded_to_a_part_of_its_size(self, tmp_path: Path) -> None:
        rows = np.linspace(0, 255, 1600, dtype="float32")[:, None, None]
        save(tmp_path / "x.jpg", np.broadcast_to(rows, (1600, 1600, 3)).astype("uint8"), quality=95)
        assert decode_file(tmp_path / "x.jpg", 3, 200).shape == (200, 200, 3)
        whole = resized(decode_file(tmp_path / "x.jpg"), 50, 50)
        assert np.abs(read_image(tmp_path / "x.jpg", 50, 50) - whole).max() < 2

    def test_crop_and_squeeze(self) -> None:
        wide = np.zeros((10, 30, 3), "uint8")
        wide[:, 10:20] = 255
        np.testing.assert_allclose(resized(wide, 20, 20)[:, 4:-4], 255, rtol=1e-5)
        assert resized(wide, 10, 10, Setting(crop=False)).mean() == pytest.approx(85, abs=2)

    def test_each_pixel_is_the_mean_of_its_area(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), "uint8")
        blocks = pixels[:, 15:75].reshape(20, 3, 20, 3, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(resized(pixels, 20, 20), blocks, rtol=1e-5)
        whole = pixels.reshape(20, 3, 30, 3, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(resized(pixels, 20, 30, Setting(crop=False)), whole, rtol=1e-5)

    def test_what_fits_is_cut_and_not_resized(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (20, 31, 3), "uint8")
        np.testing.assert_array_equal(resized(pixels, 20, 20), pixels[:, 5:25])

    @pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (9, 1, 3), (7, 300, 3), (300, 7, 3)])
    @pytest.mark.parametrize("setting", [Setting(), Setting(crop=False), Setting(part=0.875)])
    def test_every_form_keeps_its_brightness(self, shape: tuple[int, int, int], setting: Setting) -> None:
        found = resized(np.full(shape, 200, "uint8"), 16, 24, setting)
        np.testing.assert_allclose(found, np.full((16, 24, 3), 200), rtol=1e-5)

    @pytest.mark.thorough
    def test_memory_and_time_are_bounded(self, tmp_path: Path) -> None:
        save(tmp_path / "strip.png", np.full((2, 4000, 3), 77, "uint8"))
        Image.new("RGB", (5000, 5000)).save(tmp_path / "black.png")  # 73 kB
        run = subprocess.run(
            [sys.executable, "-c", COSTS_OF_PREDICT, str(tmp_path)], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        seconds, megabytes = map(float, run.stdout.split())
        assert megabytes < 600  # the pixels are 75
        assert seconds < 60


COSTS_OF_PREDICT = """
import pathlib, resource, sys, time, keras, topwork as tw
image = keras.Input((224, 224, 3))
pooled = keras.layers.GlobalAveragePooling2D()(image)
model = keras.Model(image, keras.layers.Dense(2, "softmax")(pooled))
files = [pathlib.Path(sys.argv[1], name) for name in ("strip.png", "black.png")]
tw.predict(model, files[0])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, began = peak(), time.perf_counter()
tw.predict(model, files)
print(time.perf_counter() - began, peak() - before)
"""


ODD = ("pillow__truncated_image.png", "pillow__truncated_jpeg.jpg", "image__rgb32f_color.tiff")
REFUSED = {*ODD, "pillow__broken.png", "pillow__decompression_bomb.gif"}


class TestOddFiles:
    @pytest.fixture
    def files(self, shared_material: Path) -> list[Path]:
        folder = shared_material / "data" / "odd_files"
        return sorted(path for path in folder.iterdir() if path.suffix != ".csv")

    def test_each_is_read_or_refused_by_all_alike(self, files: list[Path]) -> None:
        model = classifier()
        bad = {b.path.name for b in tw.data.find_bad_images(files[0].parent, verbose=False)}
        assert bad == REFUSED
        table = {"path": [str(path) for path in files], "label": ["a", "b"] * 13}
        with pytest.warns(UserWarning, match="left out 5 of 26 files: .*broken.png"):
            data = tw.data.read_folder(table, model, skip_bad=True, shuffle=False)
        assert {Path(path).name for path in data.file_paths} == {path.name for path in files} - REFUSED
        pixels = all_images(data)
        for path, image in zip(data.file_paths, pixels, strict=True):
            np.testing.assert_array_equal(tw.interpret.grad_cam(model, path).image, image)
        for path in files:
            if path.name in REFUSED:
                for use in (tw.predict, tw.interpret.grad_cam):
                    with pytest.raises(ValueError, match=re.escape(path.name)):
                        use(model, path)

    def test_what_is_read_is_what_pillow_shows_on_white(self, files: list[Path]) -> None:
        for path in files:
            with Image.open(path) if path.name not in REFUSED else Image.new("1", (1, 1)) as image:
                if path.name in REFUSED or image.mode.startswith("I;16"):
                    continue
                seen = Image.new("RGBA", image.size, "white")
                seen.alpha_composite(image.convert("RGBA"))
                expected = np.asarray(seen.convert("RGB")).astype(int)
            assert np.abs(decode_file(path) - expected).max() <= 1, path.name


class TestReadFolder:
    def test_classes_files_and_pixels(self, photos: Path) -> None:
        data = tw.data.read_folder(photos, (16, 16), shuffle=False, batch_size=4)
        assert data.class_names == ["cat", "dog", "eel"]
        assert data.file_paths == sorted(map(str, photos.rglob("*.jpg")))
        assert all_labels(data).tolist() == [0] * 5 + [1] * 5 + [2] * 5
        assert [len(labels) for _, labels in data] == [4, 4, 4, 3]
        assert data.element_spec[0].dtype == tf.float32
        np.testing.assert_array_equal(all_images(data)[7], read_image(data.file_paths[7], 16, 16))

    def test_the_size_may_be_a_model_a_number_or_have_channels(self, photos: Path) -> None:
        for size, shape in ((classifier(), (16, 16, 3)), (12, (12, 12, 3)), ((9, 8, 1), (9, 8, 1))):
            assert all_images(tw.data.read_folder(photos, size)).shape == (15, *shape)
        single = tw.data.read_folder(photos, 12, batch_size=None)
        assert single.element_spec[0].shape == (12, 12, 3)

    def test_split_is_even_over_the_classes_and_the_same_whatever_the_order(self, photos: Path) -> None:
        options = {"validation_split": 0.2, "seed": 3}
        train, validation = tw.data.read_folder(photos, 8, subset="both", **options)
        again = tw.data.read_folder(photos, 8, subset="validation", shuffle=False, **options)
        assert validation.file_paths == again.file_paths
        assert not set(train.file_paths) & set(validation.file_paths)
        assert (len(train.file_paths), len(validation.file_paths)) == (12, 3)
        assert sorted(all_labels(validation)) == [0, 1, 2]
        options["seed"] = 4
        other = tw.data.read_folder(photos, 8, subset="validation", **options)
        assert other.file_paths != validation.file_paths

    def test_shuffled_by_seed_and_anew_each_epoch(self, photos: Path) -> None:
        first, second = (tw.data.read_folder(photos, 8, seed=1) for _ in range(2))
        orders = [all_labels(data).tolist() for data in (first, second, first)]
        assert orders[0] == orders[1] != orders[2]
        assert orders[0] != sorted(orders[0])

    def test_files_are_known_in_order_though_it_is_shuffled(self, photos: Path) -> None:
        data = tw.data.read_folder(photos, 8)
        ordered, paths = in_order(data)
        assert list(paths or ()) == data.file_paths
        assert all_labels(ordered).tolist() == sorted(all_labels(ordered))

    def test_names_survive_map_and_batch(self, photos: Path) -> None:
        data = tw.data.read_folder(photos, 8, batch_size=None)
        changed = data.map(lambda x, y: (x, y)).batch(4).prefetch(1)
        origin = origin_of(changed)
        assert origin is not None
        assert (origin.class_names, origin.paths) == (("cat", "dog", "eel"), None)
        assert origin.setting == Setting()
        assert in_order(changed) == (changed, None)

    def test_the_iterators_of_older_code_know_them_too(self) -> None:
        class Iterator(keras.utils.PyDataset):
            class_indices: ClassVar = {"dog": 1, "cat": 0, "eel": 2}

        model = classifier()
        learn_names(model, Iterator())
        assert read_record(model).class_names == ("cat", "dog", "eel")
        assert read_record(model).reader == "other"

    def test_it_is_known_to_be_constant(self, photos: Path) -> None:
        data = tw.data.read_folder(photos, 8)
        assert randomness_in(data) is None
        assert randomness_in(data.map(lambda x, y: (x, y))) is None
        random = data.map(lambda x, y: (tf.image.random_flip_left_right(x), y))
        assert "random operations" in str(randomness_in(random))

    def test_hidden_and_other_files_are_no_images(self, photos: Path) -> None:
        (photos / "cat" / "._0.jpg").write_bytes(b"mac")
        (photos / "cat" / "Thumbs.db").write_bytes(b"windows")
        (photos / ".cache").mkdir()
        assert len(tw.data.read_folder(photos, 8).file_paths) == 15

    def test_class_names_choose_the_order(self, photos: Path) -> None:
        names = ["eel", "dog", "cat"]
        data = tw.data.read_folder(photos, 8, class_names=names, shuffle=False)
        assert data.class_names == names
        assert Path(data.file_paths[0]).parent.name == "eel"

    def test_a_class_without_images_keeps_its_number(self, photos: Path) -> None:
        names = ["ape", "cat", "dog", "eel"]
        with pytest.warns(UserWarning, match=r"found no image of 'ape' in .*keep their numbers"):
            data = tw.data.read_folder(photos, 8, class_names=names)
        assert sorted(set(all_labels(data))) == [1, 2, 3]

    def test_a_broken_file_is_named(self, photos: Path) -> None:
        whole = (photos / "dog" / "3.jpg").read_bytes()
        (photos / "dog" / "3.jpg").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"the image '.*3\.jpg' cannot be read"):
            all_images(tw.data.read_folder(photos, 8))
        with pytest.warns(UserWarning, match=r"left out 1 of 15 files: '.*dog.3\.jpg' cannot be dec"):
            data = tw.data.read_folder(photos, 8, skip_bad=True)
        assert len(all_images(data)) == len(data.file_paths) == 14

    def test_what_is_no_image_is_named_at_once(self, photos: Path) -> None:
        (photos / "dog" / "3.jpg").write_bytes(b"<html>")
        (photos / "dog" / "4.jpg").write_bytes(b"")
        message = (
            r"^read_folder: 2 of 15 files cannot be read: '.*3\.jpg' is a web page .*; '.*4\.jpg' is e"
        )
        with pytest.raises(ValueError, match=message):
            tw.data.read_folder(photos, 8)

    def test_nothing_that_can_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x.png").touch()
        with pytest.raises(ValueError, match="none of the 1 files can be read"):
            tw.data.read_folder(tmp_path, 8, skip_bad=True)


class TestTables:
    def test_csv_of_names(self, photos: Path) -> None:
        text = "filename,label\ncat/1.jpg,tom\ndog/0.jpg,rex\ncat/2.jpg,tom\n"
        (photos / "t.csv").write_text(text, "utf-8-sig")
        data = tw.data.read_folder(photos / "t.csv", 8, shuffle=False)
        assert data.class_names == ["rex", "tom"]
        assert all_labels(data).tolist() == [1, 0, 1]
        assert data.file_paths[0] == str(photos / "cat" / "1.jpg")

    def test_numbers_of_classes_keep_their_order(self, photos: Path) -> None:
        table = {"path": ["cat/1.jpg", "dog/1.jpg", "eel/1.jpg"], "grade": [10, 2, 10]}
        data = tw.data.read_folder(table, 8, root=photos, shuffle=False)
        assert data.class_names == ["2", "10"]
        assert all_labels(data).tolist() == [1, 0, 1]

    def test_columns_of_labels(self, photos: Path) -> None:
        (photos / "t.csv").write_text("file,fur,bark\ncat/1.jpg,1,0\ndog/1.jpg,1,1\n")
        data = tw.data.read_folder(photos / "t.csv", 8, shuffle=False)
        assert data.class_names == ["fur", "bark"]
        np.testing.assert_array_equal(all_labels(data), np.array([[1, 0], [1, 1]], "float32"))

    def test_several_labels_in_one_column(self, photos: Path) -> None:
        rows = [{"image": "cat/1.jpg", "shows": "fur"}, {"image": "dog/1.jpg", "shows": "bark|fur"}]
        data = tw.data.read_folder(rows, 8, root=photos, task="labels", shuffle=False)
        assert data.class_names == ["bark", "fur"]
        assert all_labels(data).tolist() == [[0, 1], [1, 1]]

    def test_numbers(self, photos: Path) -> None:
        table = {"path": ["cat/1.jpg", "dog/1.jpg"], "kg": ["4.5", "30"], "age": [3, 7]}
        data = tw.data.read_folder(table, 8, root=photos, shuffle=False)
        assert data.class_names is None
        assert all_labels(data).tolist() == [[4.5, 3], [30, 7]]
        del table["kg"]
        numbers = tw.data.read_folder(table, 8, root=photos, task="numbers", shuffle=False)
        assert all_labels(numbers).tolist() == [[3], [7]]

    def test_structured_arrays(self, photos: Path) -> None:
        rows = [("cat/1.jpg", "a"), ("dog/1.jpg", "b")]
        table = np.array(rows, [("path", "U20"), ("label", "U1")])
        assert tw.data.read_folder(table, 8, root=photos).class_names == ["a", "b"]

    @pytest.mark.parametrize(
        ("text", "options", "message"),
        [
            ("a,b\n1,2\n", {}, r"column of paths, named one of path, .*Received the columns: a, b"),
            ("path\ncat/1.jpg\n", {}, r"Received the columns: path"),
            ("path,y\n", {}, r"Received the columns: path, y, without a row"),
            ("", {}, r"Received the columns: none"),
            (
                "path,y\ncat/1.jpg\n",
                {},
                r"there are 1 values in row 2 of .*, which has 2 columns: path, y",
            ),
            ("path,y\ncta/1.jpg,a\n", {}, r"no file '.*cta.1.jpg', which the table names. Paths"),
            ("path,y,z\ncat/1.jpg,a,b\n", {}, r"classes are in one column. Received: y, z"),
            ("path,y\ncat/1.jpg,a\n", {"task": "numbers"}, r"the column 'y' has others: 'a' \.\.\."),
            (
                "path,y,z\ncat/1.jpg,1,2\n",
                {"task": "labels"},
                r"columns of 0 and 1, .*'z' has others: '2'",
            ),
            (
                "path,y\ncat/1.jpg,a\n",
                {"class_names": ["b"]},
                r"class_names is \['b'\], and there are cl",
            ),
            ("path,y,z\ncat/1.jpg,1,0\n", {"class_names": ["b", "y"]}, r"columns of labels y, z\. Name"),
        ],
    )
    def test_errors(self, photos: Path, text: str, options: Any, message: str) -> None:
        (photos / "t.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            tw.data.read_folder(photos / "t.csv", 8, **options)

    def test_more_errors(self, photos: Path) -> None:
        with pytest.raises(ValueError, match=r"of dicts or of pairs \(path, label\). Received: int"):
            tw.data.read_folder(3, 8)
        with pytest.raises(
            ValueError, match=r"columns of a table are of one length. Received: \{'path': 2, 'y': 1\}"
        ):
            tw.data.read_folder({"path": ["a", "b"], "y": [1]}, 8)


class TestErrors:
    def test_folders(self, photos: Path) -> None:
        with pytest.raises(
            ValueError, match=r"folder for each class in it. Received: '.*cat', which has none"
        ):
            tw.data.read_folder(photos / "cat", 8)
        with pytest.raises(ValueError, match=r"no folder or table of this name. .*does not exist.*'cat'"):
            tw.data.read_folder(photos / "cta", 8)
        (photos / "empty" / "a").mkdir(parents=True)
        with pytest.raises(ValueError, match=r"no image below '.*empty': no file's name ends in"):
            tw.data.read_folder(photos / "empty", 8)

    @pytest.mark.parametrize("names", [["cat", "dog"], ["cat", "dog", "eel", "eel"]])
    def test_class_names(self, photos: Path, names: Any) -> None:
        with pytest.raises(ValueError, match=r"class_names is .*folders named \['cat', 'dog', 'eel'\]"):
            tw.data.read_folder(photos, 8, class_names=names)

    def test_no_class_is_there(self, tmp_path: Path) -> None:
        save(tmp_path / "cat" / "1.png", SEEN)
        for names in (["cats"], []):
            with pytest.raises(ValueError, match=r"Name each of them, once, .*'cat' is missing"):
                tw.data.read_folder(tmp_path, 8, class_names=names)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"validation_split": 2, "subset": "both"}, r"fraction between 0 and 1. Received: 2"),
            ({"validation_split": 0.2}, r"together, .*Received: validation_split=0.2, subset=None"),
            ({"subset": "training"}, r"together, .*Received: validation_split=None, subset='training'"),
            ({"validation_split": 0.2, "subset": "test"}, r"subset='test'"),
            ({"batch_size": 0}, r"batch_size must be a whole number of at least 1, or None. Received: 0"),
            (
                {"task": "class"},
                r"one of 'classes', 'labels', 'numbers', or None for .* Received: 'class'",
            ),
            ({"validation_split": 0.01, "subset": "both"}, r"of 15 images leaves one part without any"),
        ],
    )
    def test_arguments(self, photos: Path, options: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            tw.data.read_folder(photos, 8, **options)

    @pytest.mark.parametrize("size", [(8,), (8, 8, 3, 1), "big", (8.5, 8), (0, 8), None])
    def test_size(self, photos: Path, size: Any) -> None:
        with pytest.raises(ValueError, match=r"is a model, or the size of its images"):
            tw.data.read_folder(photos, size)

    def test_model_of_any_size(self, photos: Path) -> None:
        model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()])
        with pytest.raises(ValueError, match=r"takes any. Give the size instead of the model"):
            tw.data.read_folder(photos, model)


IN_A_FRESH_PROCESS = """
import sys, numpy as np, keras, topwork as tw
model = keras.saving.load_model(sys.argv[1])
crop = sys.argv[3] == "crop"
data = tw.data.read_folder(sys.argv[2], model, shuffle=False, crop=crop)
expected = model.predict(data, verbose=0)
for given in (data.file_paths, data, sys.argv[2], tw.data.read_folder(sys.argv[2], model, crop=crop)):
    found = tw.predict(model, given, top=99)
    order = [[dict(p)[name] for name in data.class_names] for p in found]
    assert np.array_equal(np.array(order, "float32"), expected), (order, expected)
    assert [p.image for p in found] == data.file_paths
print(*found[0][0][0:1], tw.interpret.grad_cam(model, data.file_paths[0]).class_name)
"""


class TestTheFileKnows:
    def test_use_reproduces_training_in_a_fresh_process(self, photos: Path, tmp_path: Path) -> None:
        model = classifier()
        model.layers[1].trainable = False
        model.compile("sgd", "sparse_categorical_crossentropy")
        data = tw.data.read_folder(photos, model, crop=False)
        tw.fit(model, data, epochs=1, verbose=0)
        assert read_record(model).class_names == ("cat", "dog", "eel")
        assert read_record(model).reader == {"crop": False, "part": 1.0}
        assert read_record(model).version == tw.__version__
        model.save(tmp_path / "m.keras")
        arguments = [str(tmp_path / "m.keras"), str(photos), "squeeze"]
        run = subprocess.run(
            [sys.executable, "-c", IN_A_FRESH_PROCESS, *arguments], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        names = run.stdout.split()
        assert len(names) == 2
        assert set(names) <= {"cat", "dog", "eel"}

    @pytest.mark.thorough
    def test_and_of_real_photographs(self, shared_material: Path, tmp_path: Path) -> None:
        material = shared_material / "data"
        for name in ("glass", "metal", "paper"):
            shutil.copytree(material / "trash/test" / name, tmp_path / "photos" / name)
        odd = tmp_path / "photos" / "odd"
        shutil.copytree(material / "odd_files", odd)
        for name in REFUSED:
            (odd / name).unlink()
        backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(96, 80, 3), alpha=0.25)
        model = tw.add_head(4, hidden_units=None)(tw.freeze(backbone))
        tw.fit_head(model, tw.data.read_folder(tmp_path / "photos", model), verbose=0)
        model.save(tmp_path / "m.keras")
        arguments = [str(tmp_path / "m.keras"), str(tmp_path / "photos"), "crop"]
        run = subprocess.run(
            [sys.executable, "-c", IN_A_FRESH_PROCESS, *arguments], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout

    def test_plain_keras_loads_it(self, photos: Path, tmp_path: Path) -> None:
        model = classifier()
        tw.fit(model, tw.data.read_folder(photos, model), epochs=1, verbose=0)
        model.save(tmp_path / "m.keras")
        pixels = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
        np.save(tmp_path / "x.npy", pixels)
        code = (
            "import sys; sys.modules['topwork'] = None\n"
            "import keras, numpy as np\n"
            f"folder = {str(tmp_path)!r}\n"
            "model = keras.saving.load_model(folder + '/m.keras')\n"
            "np.save(folder + '/y.npy', model.predict(np.load(folder + '/x.npy'), verbose=0))\n"
            "model.save(folder + '/again.keras')"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model.predict(pixels, verbose=0))
        again = keras.saving.load_model(tmp_path / "again.keras")
        assert read_record(again).class_names == ("cat", "dog", "eel")

    def test_names_given_go_before(self, photos: Path) -> None:
        model = classifier()
        tw.fit(model, tw.data.read_folder(photos, model), epochs=1, verbose=0)
        found = tw.predict(model, photos / "cat" / "1.jpg", class_names=["x", "y", "z"])
        assert found[0].name in "xyz"

    def test_names_of_another_number_are_not_taken(self, photos: Path) -> None:
        model = classifier(5)
        tw.fit(model, tw.data.read_folder(photos, model), epochs=1, verbose=0)
        assert read_record(model).class_names is None
        assert tw.predict(model, photos / "cat" / "1.jpg")[0].name in "01234"

    def test_read_in_another_way_is_said(self, photos: Path) -> None:
        model = classifier()
        data = keras.utils.image_dataset_from_directory(photos, image_size=(16, 16), verbose=False)
        tw.fit(model, data.map(lambda x, y: (x, y)), epochs=1, verbose=0)
        with pytest.warns(UserWarning, match=r"predict: files are read as .*read_folder reads them, and"):
            (found,) = tw.predict(model, photos / "cat" / "1.jpg")
        assert found.name in ("cat", "dog", "eel")


def small(path: Path) -> Path:
    return save(path, np.full((9, 8, 3), 100, "uint8"))


class TestOddFolders:
    def read(self, folder: Any, **options: Any) -> Any:
        return tw.data.read_folder(folder, (8, 8), shuffle=False, **options)

    def test_links_are_followed_once_and_never_above(self, tmp_path: Path) -> None:
        for name in ("photos/cat/1.jpg", "photos/dog/2.JPEG", "elsewhere/3.png"):
            small(tmp_path / name)
        (tmp_path / "photos/cat/more").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "photos/cat/again").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "photos/cat/up").symlink_to(tmp_path / "photos")
        (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "photos/eel").symlink_to(tmp_path / "elsewhere")
        data = self.read(tmp_path / "photos")
        assert [Path(path).name for path in data.file_paths] == ["1.jpg", "3.png", "2.JPEG", "3.png"]
        assert all_labels(data).tolist() == [0, 0, 1, 2]

    def test_what_systems_put_beside_photographs(self, tmp_path: Path) -> None:
        for name in ("cat/1.jpg", "dog/2.jpg", "__MACOSX/cat/1.jpg", "dog/@eaDir/3.jpg", "dog/._2.jpg"):
            small(tmp_path / name)
        (tmp_path / "dog/4.jpg").mkdir()
        data = self.read(tmp_path)
        assert (data.class_names, len(data.file_paths)) == (["cat", "dog"], 2)

    def test_unicode_and_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("Кошка/фото 1.jpg", "犬/写真é.png", "naïve/a b#%&[1].jpg"):
            small(tmp_path / "photos" / name)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        data = self.read("~/photos")
        assert data.class_names == ["naïve", "Кошка", "犬"]
        assert all_images(data).shape == (3, 8, 8, 3)
        assert self.read(os.fsencode(tmp_path / "photos")).file_paths == data.file_paths

    def test_the_folder_above(self, tmp_path: Path) -> None:
        for part in ("train", "Validation"):
            small(tmp_path / part / "cat" / "1.jpg")
        with pytest.raises(
            ValueError, match=r"has 'Validation', 'train': parts of the data and no classes"
        ):
            self.read(tmp_path)

    def test_images_beside_the_classes(self, tmp_path: Path) -> None:
        small(tmp_path / "cat" / "1.jpg")
        small(tmp_path / "2.jpg")
        with pytest.warns(
            UserWarning, match=r"itself has 1 images that are in no folder of a class, first '2"
        ):
            data = self.read(tmp_path)
        assert len(data.file_paths) == 1

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"seed": 1.5}, "seed is a whole number, or None. Received: 1.5"),
            ({"crop": "center"}, "crop is True, .* Received: 'center'"),
            ({"validation_split": "0.2", "subset": "both"}, "between 0 and 1. Received: '0.2'"),
        ],
    )
    def test_choices(self, photos: Path, options: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.read(photos, **options)


class TestOddTables:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("a.jpg", "b.jpg", "sub/c.png"):
            small(tmp_path / name)
        return tmp_path

    def read(self, folder: Path, table: Any, **options: Any) -> Any:
        if isinstance(table, str):
            (folder / "table.csv").write_text(table, "utf-8")
            table = folder / "table.csv"
        else:
            options["root"] = folder
        return tw.data.read_folder(table, (8, 8), shuffle=False, **options)

    @pytest.mark.parametrize(
        "text",
        [
            "path,label\na.jpg,cat\nb.jpg,dog\nsub/c.png,cat\n",
            "\ufeffpath;label\na.jpg;cat\nb.jpg;dog\nsub/c.png;cat\n",
            "path\tlabel\na.jpg\tcat\nb.jpg\tdog\nsub/c.png\tcat\n",
            "path, label\na.jpg, cat\nb.jpg , dog\n\nsub/c.png,cat\n",
            ",Path,Label\n0,a.jpg,cat\n1,b.jpg,dog\n2,sub/c.png,cat\n",
            "id,breed\na,cat\nb,dog\nsub/c,cat\n",
            "path,label\na.jpg,cat\nb.jpg,dog\nsub\\c.png,cat\n",
            'file,label\n"a.jpg",cat\n"b.jpg","dog"\nsub/c.png,cat\n',
        ],
    )
    def test_every_way_to_write_it(self, folder: Path, text: str) -> None:
        data = self.read(folder, text)
        assert [Path(path).name for path in data.file_paths] == ["a.jpg", "b.jpg", "c.png"]
        assert data.class_names == ["cat", "dog"]
        assert all_labels(data).tolist() == [0, 1, 0]

    def test_pairs(self, folder: Path) -> None:
        data = self.read(folder, [("a.jpg", "x"), (folder / "b.jpg", "y")])
        assert (data.class_names, all_labels(data).tolist()) == (["x", "y"], [0, 1])

    def test_codes_are_no_numbers(self, folder: Path) -> None:
        data = self.read(folder, {"path": ["a.jpg", "b.jpg"], "label": ["007", "10"]})
        assert data.class_names == ["007", "10"]
        data = self.read(folder, {"path": ["a.jpg", "b.jpg"], "label": ["10", "9"]})
        assert data.class_names == ["9", "10"]

    def test_lists_of_labels(self, folder: Path) -> None:
        data = self.read(folder, {"path": ["a.jpg", "b.jpg"], "label": [["x", "y"], []]})
        assert data.class_names == ["x", "y"]
        assert all_labels(data).tolist() == [[1, 1], [0, 0]]
        data = self.read(folder, "path,label\na.jpg,x|y\nb.jpg,\n", task="labels")
        assert all_labels(data).tolist() == [[1, 1], [0, 0]]

    def test_a_path_that_is_the_index(self, folder: Path) -> None:
        class Index(list):
            name = "path"

        class Frame:  # as pandas has it
            index, columns = Index(["a.jpg", "b.jpg"]), ["label"]

            def reset_index(self) -> dict[str, list[str]]:
                return Reset()

        class Reset(dict):
            def __init__(self) -> None:
                super().__init__(path=["a.jpg", "b.jpg"], label=["x", "y"])
                self.columns = ["path", "label"]

        assert self.read(folder, Frame()).class_names == ["x", "y"]

    def test_rows_whose_file_is_missing_are_left_out_if_asked(self, folder: Path) -> None:
        table = {"path": ["a.jpg", "z.jpg", "b.jpg"], "label": ["x", "y", "y"]}
        with pytest.raises(ValueError, match=r"no file '.*z.jpg', which the table names.*skip_bad=True"):
            self.read(folder, table)
        with pytest.warns(UserWarning, match=r"left out 1 of 3 files: '.*z.jpg' cannot be read"):
            data = self.read(folder, table, skip_bad=True)
        assert all_labels(data).tolist() == [0, 1]

    @pytest.mark.parametrize("missing", ["", None, float("nan"), np.nan])
    def test_rows_without_a_label(self, folder: Path, missing: Any) -> None:
        for other in ("x", 1.5):
            table = {"path": ["a.jpg", "b.jpg"], "label": [other, missing]}
            with pytest.raises(
                ValueError, match=r"no label in 1 of 2 rows of the column 'label', first in row 1"
            ):
                self.read(folder, table)

    def test_rows_without_a_path(self, folder: Path) -> None:
        with pytest.raises(ValueError, match=r"no path in row 1 \(counted from 0\)"):
            self.read(folder, "path,label\na.jpg,x\n,y\n")

    def test_a_file_that_is_named_twice(self, folder: Path) -> None:
        with pytest.warns(UserWarning, match=r"more than once: 1, first '.*a.jpg'"):
            self.read(folder, "path,label\na.jpg,x\na.jpg,x\nb.jpg,y\n")
        with pytest.warns(UserWarning, match=r"more than once, some of them with different labels: 1"):
            self.read(folder, "path,label\na.jpg,x\na.jpg,y\n")

    def test_no_headings(self, folder: Path) -> None:
        with pytest.raises(ValueError, match=r"Has it no line of headings\?"):
            self.read(folder, "a.jpg,x\nb.jpg,y\n")

    def test_rows_of_other_keys(self, folder: Path) -> None:
        with pytest.raises(
            ValueError, match=r"rows of a table have the same keys, path, label. Received: row 1"
        ):
            self.read(folder, [{"path": "a.jpg", "label": "x"}, {"path": "b.jpg"}])
