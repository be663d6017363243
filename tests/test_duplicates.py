"""`data.find_duplicates`: copies are found in whatever form they come, and other images are not."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import topwork as tw
from topwork._evidence.likeness import near_pairs

RNG = np.random.default_rng(0)


def scenes(n: int, size: int = 96, seed: int = 0) -> Any:
    """Images that differ from each other as photographs do: large forms, small ones, colours."""
    rng = np.random.default_rng(seed)
    made = np.zeros((n, size, size, 3), "float32")
    for cells in (3, 6, 12, 24):
        part = rng.uniform(-1, 1, (n, cells, cells, 3)).astype("float32") * 60 / cells**0.4
        made += tf.image.resize(part, (size, size), "bicubic").numpy()
    return np.clip(made + 128, 0, 255).astype("uint8")


SCENES = scenes(12)


def found_in(*data: Any, **options: Any) -> tw.types.Duplicates:
    return tw.data.find_duplicates(*data, verbose=0, **options)


def places(found: tw.types.Duplicates) -> set[tuple[str, int, str, int]]:
    return {(a.part, a.index, b.part, b.index) for a, b in found}


def jpeg(image: Any, quality: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def grey(image: Any) -> Any:
    return (image @ np.array([0.299, 0.587, 0.114])).astype("uint8")


COPIES: dict[str, Callable[[Any], Any]] = {
    "compressed": lambda x: tf.io.decode_jpeg(jpeg(x, 20)).numpy(),
    "smaller": lambda x: tf.image.resize(x, (40, 40), antialias=True).numpy().astype("uint8"),
    "squeezed": lambda x: tf.image.resize(x, (60, 110)).numpy().astype("uint8"),
    "mirrored": lambda x: x[:, ::-1],
    "grey": lambda x: np.repeat(grey(x)[..., None], 3, axis=-1),
    "dark": lambda x: (x * 0.6).astype("uint8"),
    "cut": lambda x: x[4:-2, 1:-5],
    "mirrored and cut": lambda x: x[2:-3, 5:-1][:, ::-1],
    "from 0 to 1": lambda x: x / np.float32(255),
    "one channel": lambda x: grey(x),
    "transparent": lambda x: np.concatenate([x, np.full_like(x[..., :1], 255)], axis=-1),
}


class TestWhatIsFound:
    @pytest.mark.parametrize("kind", COPIES)
    def test_copies(self, kind: str) -> None:
        copies = [COPIES[kind](SCENES[i]) for i in (2, 7)]
        found = found_in(SCENES, copies)
        assert places(found) == {("train", 2, "validation", 0), ("train", 7, "validation", 1)}
        assert {row.kind for row in found} == {"near"}
        assert {row.mirrored for row in found} == {kind.startswith("mirrored")}
        assert all(0.95 < row.similarity <= 1 for row in found)

    def test_identical_ones(self) -> None:
        found = found_in(np.concatenate([SCENES, SCENES[3:5]]))
        assert places(found) == {("train", 3, "train", 12), ("train", 4, "train", 13)}
        assert {row.kind for row in found} == {"identical"}
        assert found.across == ()

    def test_only_identical_ones(self) -> None:
        assert len(found_in(SCENES, SCENES[:1, :, ::-1], near=False)) == 0
        assert len(found_in(SCENES, SCENES[:1], near=False)) == 1

    def test_other_images_are_none(self) -> None:
        assert len(found_in(scenes(300, 32, seed=1), scenes(100, 32, seed=2))) == 0

    def test_another_colour_is_another_thing(self) -> None:
        red = np.full((1, 64, 64, 3), 230, "uint8")
        red[:, 20:44, 20:44] = (200, 40, 40)
        green = red.copy()
        green[:, 20:44, 20:44] = (40, 140, 40)
        assert len(found_in(red, green)) == 0
        assert len(found_in(red, np.clip(red * 0.8, 0, 255).astype("uint8"))) == 1

    def test_images_without_contrast_are_compared_by_their_bytes(self) -> None:
        plain = np.full((40, 16, 16, 3), 100, "uint8")
        plain[:20] += np.arange(20, dtype="uint8")[:, None, None, None]
        found = found_in(plain)
        # Each of the 20 that are the same makes one pair, and not one with every other.
        assert len(found) == 20
        assert {row.first.index for row in found} == {0}

    def test_many_neighbours_cost_no_more(self) -> None:
        noisy = np.clip(SCENES[:1] + RNG.normal(0, 4, (60, 96, 96, 3)), 0, 255).astype("uint8")
        found = found_in(noisy)
        assert 59 <= len(found) <= 60 * 5
        assert {copy.index for row in found for copy in row} == set(range(60))

    def test_across_comes_first(self) -> None:
        train = np.concatenate([SCENES, SCENES[:1]])
        found = found_in(train, [COPIES["compressed"](SCENES[5]), SCENES[6]])
        kinds = [(row.is_across, row.kind) for row in found]
        assert kinds == [(True, "identical"), (True, "near"), (False, "identical")]
        assert len(found.across) == 2
        assert str(found).startswith("2 identical and 1 near pairs in 13 + 2 images; 2 across")

    def test_memory_grows_with_the_number(self) -> None:
        import tracemalloc

        pictures = RNG.integers(0, 255, (6000, 32, 32, 3), "uint8")
        tracemalloc.start()
        near_pairs(pictures)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 120e6  # of which the squares of all would be 144 MB


class TestWhatIsGiven:
    def folder(self, path: Path) -> Path:
        for number, image in enumerate(SCENES):
            place = path / ("cats", "dogs")[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:02}.jpg").write_bytes(jpeg(image, 95))
        return path

    def test_folders(self, tmp_path: Path) -> None:
        train = self.folder(tmp_path / "train")
        copy = tmp_path / "validation" / "dogs" / "copy.png"
        copy.parent.mkdir(parents=True)
        keras.utils.save_img(copy, SCENES[4][:, ::-1], scale=False)
        shutil.copy(train / "cats" / "02.jpg", copy.parent / "same.jpg")
        found = found_in(train, str(tmp_path / "validation"))
        assert [(row.first.file, row.second.file, row.kind) for row in found] == [
            (str(train / "cats" / "02.jpg"), str(copy.parent / "same.jpg"), "identical"),
            (str(train / "cats" / "04.jpg"), str(copy), "near"),
        ]
        assert [(row.first.label, row.second.label) for row in found] == [("cats", "dogs")] * 2
        assert found.contradictions == found.rows
        assert "cats / dogs" in str(found)
        first = {"part_1": "train", "index_1": 2, "file_1": found[1].first.file, "label_1": "cats"}
        second = {"part_2": "validation", "index_2": 0, "file_2": str(copy), "label_2": "dogs"}
        rest = {"kind": "near", "similarity": found[1].similarity, "mirrored": True}
        assert found.records[1] == {**first, **second, **rest}

    def test_a_list_of_files(self, tmp_path: Path) -> None:
        files = sorted(self.folder(tmp_path).glob("*/*.jpg"))
        found = found_in([*files, files[3]])
        assert [(row.first.index, row.second.index) for row in found] == [(3, 12)]
        assert found[0].first.label is None

    def test_read_folder_names_files_and_classes(self, tmp_path: Path) -> None:
        train = tw.data.read_folder(self.folder(tmp_path / "train"), (32, 32), seed=0)
        again = tw.data.read_folder(tmp_path / "train", (40, 40))
        found = found_in(train, again)
        assert {row.kind for row in found} == {"identical"}
        assert all(
            row.first.file == row.second.file == train.file_paths[row.first.index] for row in found
        )
        assert {row.first.label for row in found} == {"cats", "dogs"}

    @pytest.mark.parametrize("kind", ["tuple", "dataset", "one by one", "dict", "PyDataset", "generator"])
    def test_arrays_and_data_sets(self, kind: str) -> None:
        class Sequence(keras.utils.PyDataset):
            def __len__(self) -> int:
                return 3

            def __getitem__(self, i: int) -> Any:
                return images[5 * i : 5 * i + 5], labels[5 * i : 5 * i + 5]

        images, labels = np.concatenate([SCENES, SCENES[4:7]]), np.eye(3)[np.arange(15) % 3]
        as_dataset = tf.data.Dataset.from_tensor_slices((images, labels))
        data = {
            "tuple": (images, labels),
            "dataset": as_dataset.batch(4),
            "one by one": as_dataset,
            "dict": as_dataset.map(lambda x, y: {"image": x, "label": y}).batch(4),
            "PyDataset": Sequence(),
            "generator": lambda: iter(as_dataset.batch(4).as_numpy_iterator()),
        }[kind]
        found = found_in(data)
        assert places(found) == {("train", i, "train", i + 8) for i in (4, 5, 6)}
        assert [(row.first.label, row.second.label) for row in found] == [
            ("1", "0"), ("2", "1"), ("0", "2")
        ]  # fmt: skip
        np.testing.assert_array_equal(found[0].first.image, images[4])

    def test_images_of_several_sizes(self, tmp_path: Path) -> None:
        images = [SCENES[0], SCENES[1, :50], SCENES[0, :, :70], SCENES[1, :50]]
        for data in (
            images,
            tf.ragged.stack(images),
            tf.data.Dataset.from_tensor_slices(tf.ragged.stack(images)).batch(2),
            [keras.utils.array_to_img(image, scale=False) for image in images],
        ):
            assert ("train", 1, "train", 3) in places(found_in(data))

    def test_paths_as_glob_or_a_column_gives_them(self, tmp_path: Path) -> None:
        files = sorted(self.folder(tmp_path).glob("*/*.jpg"))
        shutil.copy(files[0], tmp_path / "dogs" / "99.jpg")
        for data in (tmp_path.glob("*/*.jpg"), np.array([*files, tmp_path / "dogs" / "99.jpg"])):
            assert len(found_in(data)) == 1
        for data in (keras.Sequential(), None, [1, 2], iter([3])):
            with pytest.raises(ValueError, match=r"images are a folder, a list of files, an array"):
                found_in(data)

    def test_labels_of_every_kind(self) -> None:
        names = np.array(["cat", "dog", "cat"])
        several = np.array([[1, 1], [1, 0], [0, 0]])
        images = SCENES[[0, 1, 0]]
        for labels, expected in (
            (names, ("cat", "cat")),
            (several, ("1, 1", "0, 0")),
            (np.array([0.5, 1, 2]), ("0.5", "2")),
            (tf.constant(["a", "b", "c"]), ("a", "c")),
        ):
            (row,) = found_in((images, labels))
            assert (row.first.label, row.second.label) == expected

    def test_broken_files_are_passed_over(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path)
        for number in range(7):
            (folder / "cats" / f"broken{number}.jpg").write_bytes(b"\xff\xd8\xff broken")
        with pytest.warns(UserWarning, match=r"find_duplicates: passed over 7 files .* and 2 more"):
            found = found_in(folder)
        assert len(found) == 0
        assert found.n_images == {"train": 19}

    def test_errors(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        with pytest.raises(ValueError, match=r"find_duplicates: there is no image in .*train"):
            found_in(tmp_path / "train")
        with pytest.raises(ValueError, match=r"which does not exist. In .* there are: 'train'"):
            found_in(tmp_path / "trian")
        with pytest.raises(ValueError, match=r"no images in validation: an empty list"):
            found_in(SCENES, [])
        with pytest.raises(ValueError, match=r"images are a folder, a list of files, an array"):
            found_in(np.zeros((3, 4, 4, 3, 2)))
        with pytest.raises(ValueError, match=r"images are a folder, a list of files, an array"):
            found_in({"pixels": SCENES})
        endless = tf.data.Dataset.from_tensor_slices(SCENES).batch(4).repeat()
        with pytest.raises(ValueError, match=r"find_duplicates: the data set repeats without end"):
            found_in(endless)
        with pytest.raises(ValueError, match=r"verbose must be 0"):
            tw.data.find_duplicates(SCENES, verbose="x")


def test_it_prints_renders_and_draws() -> None:
    found = found_in(np.concatenate([SCENES] * 2))
    printed = str(found).splitlines()
    assert printed[0] == "12 identical and 0 near pairs in 24 images"
    assert printed[2].split() == ["kind", "similarity", "one", "other"]
    assert printed[-1] == "... and 2 more, in .records"
    assert "<table" in found._repr_html_()
    titles = [axes.get_title() for axes in found.plot().axes]
    assert titles[:2] == ["train 0", "train 12"]
    assert len(titles) == 24
    assert str(found[0]) == "train 0 and train 12 (identical)"
    none = found_in(SCENES)
    assert str(none) == "0 identical and 0 near pairs in 12 images"
    assert none.plot().axes[0].texts[0].get_text() == "no duplicates"
    assert none._repr_html_().startswith("<div>")


@pytest.mark.thorough
def test_real_photographs(shared_material: Path, tmp_path: Path) -> None:
    folder = shared_material / "data/cats_vs_dogs/train/dogs"
    found = found_in(folder)
    assert [{Path(copy.file or "").name for copy in row} for row in found] == [
        {"dog.74.jpg", "dog.180.jpg"}
    ]
