from __future__ import annotations

import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from topwork.data import augmentation, find_bad_images

OFF = {
    "rotation": 0,
    "width_shift": 0,
    "height_shift": 0,
    "shear": 0,
    "zoom": 0,
    "horizontal_flip": False,
}


def photograph(height: int = 32, width: int = 32) -> np.ndarray:
    """A white disc a little off the centre of a black picture."""
    y, x = np.mgrid[:height, :width]
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 4) ** 2
    return np.repeat(255.0 * disc[..., None], 3, axis=-1).astype("float32")


def augmented(images: np.ndarray, **values: float) -> np.ndarray:
    model = augmentation(**{**OFF, "seed": 1, **values})
    return np.asarray(model(images, training=True))


class TestAugmentation:
    def test_defaults_are_those_of_the_course_notebooks(self) -> None:
        signature = inspect.signature(augmentation)
        assert {name: value.default for name, value in signature.parameters.items()} == {
            "rotation": 40,
            "width_shift": 0.2,
            "height_shift": 0.2,
            "shear": 0.2,
            "zoom": 0.2,
            "horizontal_flip": True,
            "seed": None,
        }

    def test_shape_type_and_range_stay(self) -> None:
        images = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), dtype="uint8")
        varied = np.asarray(augmentation(seed=3)(images, training=True))
        assert varied.shape == images.shape
        assert varied.dtype == np.float32
        assert 100 < varied.max() <= 255
        assert varied.min() >= 0

    def test_nothing_happens_outside_of_training(self) -> None:
        images = photograph()[None]
        model = augmentation()
        np.testing.assert_array_equal(model(images, training=False), images)
        np.testing.assert_array_equal(model.predict(images, verbose=0), images)

    def test_a_seed_repeats_it(self) -> None:
        images = np.stack([photograph()] * 3)
        first, second = augmented(images, rotation=90, zoom=0.5), augmented(images, rotation=90, zoom=0.5)
        np.testing.assert_array_equal(first, second)

    def test_a_seed_does_not_tie_the_movements_together(self) -> None:
        seeds = [layer.seed for layer in augmentation(seed=5).layers]
        assert seeds == [5, 6, 7, 8, 9]

    def test_all_off_changes_nothing(self) -> None:
        images = photograph()[None]
        np.testing.assert_array_equal(augmented(images), images)

    def test_rotation_is_in_degrees(self) -> None:
        ramp = np.tile(np.arange(64, dtype="float32"), (64, 1))[None, ..., None]
        steepest = 0.0
        for image in augmented(np.repeat(ramp, 32, 0), rotation=30):
            right, down = image[32, 36, 0] - image[32, 28, 0], image[36, 32, 0] - image[28, 32, 0]
            steepest = max(steepest, abs(np.degrees(np.arctan2(down, right))))
        assert 24 < steepest <= 31

    def test_shear_is_in_degrees(self) -> None:
        ramp = np.tile(np.arange(64, dtype="float32"), (64, 1))[None, ..., None]
        steepest = 0.0
        for image in augmented(np.repeat(ramp, 32, 0), shear=20):
            right, down = image[32, 36, 0] - image[32, 28, 0], image[36, 32, 0] - image[28, 32, 0]
            steepest = max(steepest, abs(np.degrees(np.arctan(down / right))))
        assert 15 < steepest <= 21

    @pytest.mark.parametrize(("name", "axis"), [("width_shift", 1), ("height_shift", 0)])
    def test_shifts_are_fractions(self, name: str, axis: int) -> None:
        moves = []
        for image in augmented(np.stack([photograph(40, 40)] * 32), **{name: 0.2}):
            centre = np.argwhere(image[..., 0] > 127).mean(axis=0)
            assert centre[1 - axis] == pytest.approx(19.5, abs=1)
            moves.append(abs(centre[axis] - 19.5))
        assert 6 < max(moves) <= 8.5

    def test_zoom_is_a_fraction_to_either_side(self) -> None:
        before = (photograph(48, 48)[..., 0] > 127).any(axis=0).sum()
        varied = augmented(np.stack([photograph(48, 48)] * 32), zoom=0.4)
        seen = [before / (image[..., 0] > 127).any(axis=0).sum() for image in varied]
        assert 0.55 < min(seen) < 0.75
        assert 1.25 < max(seen) < 1.5

    def test_flip(self) -> None:
        images = np.tile(np.arange(8, dtype="float32")[:, None], (16, 8, 1, 3))
        varied = augmented(images, horizontal_flip=True)
        flipped = [np.array_equal(image, images[0][:, ::-1]) for image in varied]
        assert 0 < sum(flipped) < 16

    def test_it_maps_over_a_dataset_and_is_saved(self, tmp_path: Path) -> None:
        model = augmentation()
        dataset = tf.data.Dataset.from_tensors(photograph()[None]).repeat(2)
        varied = list(dataset.map(model))
        assert varied[0].shape == (1, 32, 32, 3)
        assert not np.array_equal(varied[0], varied[1])
        model.save(tmp_path / "augmentation.keras")
        loaded = keras.saving.load_model(tmp_path / "augmentation.keras")
        assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]

    @pytest.mark.parametrize(
        ("name", "value", "valid"),
        [
            ("rotation", 200, "in degrees, 0 to 180"),
            ("rotation", -1, "in degrees, 0 to 180"),
            ("width_shift", 20, r"as a fraction of the image \(whole pixels"),
            ("height_shift", 1.0, "as a fraction of the image"),
            ("shear", 50, "in degrees, 0 to 45"),
            ("zoom", 1.2, "as a fraction, 0 to below 1"),
            ("zoom", float("nan"), "as a fraction, 0 to below 1"),
        ],
    )
    def test_values_out_of_range(self, name: str, value: float, valid: str) -> None:
        message = rf"{name} is a number {valid}.* Received: {value!r}\. .* {name}=0 switches it off"
        with pytest.raises(ValueError, match=message):
            augmentation(**{name: value})


def encoded(kind: str) -> bytes:
    pixels = tf.cast(np.random.default_rng(0).integers(0, 256, (40, 40, 3)), tf.uint8)
    encode = {"jpeg": tf.io.encode_jpeg, "png": tf.io.encode_png}[kind]
    return bytes(encode(pixels).numpy())


# The smallest GIF: one transparent pixel.
GIF = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)


class TestFindBadImages:
    def reasons(self, folder: Path) -> dict[str, str]:
        found = find_bad_images(folder, verbose=False)
        return {bad.path.relative_to(folder).as_posix(): bad.reason for bad in found}

    def test_good_images_and_other_files_are_not_listed(self, tmp_path: Path) -> None:
        (tmp_path / "cats").mkdir()
        (tmp_path / "cats" / "a.jpg").write_bytes(encoded("jpeg"))
        (tmp_path / "cats" / "b.JPEG").write_bytes(encoded("jpeg"))
        (tmp_path / "c.png").write_bytes(encoded("png"))
        (tmp_path / "d.gif").write_bytes(GIF)
        (tmp_path / "notes.txt").write_text("hello")
        assert find_bad_images(tmp_path, verbose=False) == []

    def test_what_is_bad_and_why(self, tmp_path: Path) -> None:
        (tmp_path / "dogs").mkdir()
        contents = {
            "dogs/cut.jpg": encoded("jpeg")[:-600],
            "dogs/half.png": encoded("png")[:500],
            "dogs/none.jpg": b"",
            "page.jpg": b"<html>404</html>",
            "text.jpg": b"no image at all",
            "webp.jpg": b"RIFF\x10\x00\x00\x00WEBPVP8 ",
            "phone.jpg": b"\x00\x00\x00\x18ftypheic",
        }
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        # A file is read by what it is, whatever its name says.
        (tmp_path / "good.jpg").write_bytes(encoded("png"))
        reasons = self.reasons(tmp_path)
        assert sorted(reasons) == sorted(contents)
        assert reasons["dogs/cut.jpg"].startswith("cannot be decoded (truncated or damaged): ")
        assert reasons["dogs/half.png"].startswith("cannot be decoded (truncated or damaged): ")
        assert reasons["dogs/none.jpg"] == "is empty"
        assert reasons["page.jpg"] == "is a web page and no image: its download failed"
        assert reasons["text.jpg"] == "is not an image of a kind that Pillow reads, or is damaged"
        assert reasons["webp.jpg"].startswith("cannot be decoded")  # Pillow's versions differ
        assert reasons["phone.jpg"].startswith("is a")

    def test_a_file_that_cannot_be_opened(self, tmp_path: Path) -> None:
        (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
        assert self.reasons(tmp_path) == {"gone.jpg": "cannot be read: No such file or directory"}

    def test_it_prints_as_path_and_reason(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").touch()
        (bad,) = find_bad_images(str(tmp_path), verbose=False)
        assert str(bad) == f"{tmp_path / 'a.png'}: is empty"

    def test_progress_is_shown_unless_silent(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "a.png").write_bytes(encoded("png"))
        find_bad_images(tmp_path, verbose=False)
        assert capsys.readouterr().out == ""
        find_bad_images(tmp_path)
        assert "0 of 1 images in " in capsys.readouterr().out

    def test_no_such_folder(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        message = (
            r"there is no such folder. Received: '.*trian', which does not exist. .*'train'. Correct"
        )
        with pytest.raises(ValueError, match=message):
            find_bad_images(tmp_path / "trian")
        with pytest.raises(ValueError, match=r"which does not exist. Correct the path."):
            find_bad_images(tmp_path / "no" / "where")

    def test_a_file_in_place_of_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").touch()
        with pytest.raises(ValueError, match=r"a file. Give the folder it lies in: '"):
            find_bad_images(tmp_path / "a.png")

    def test_no_images(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"no image in .*\.bmp, .*Give the folder that holds"):
            find_bad_images(tmp_path)
