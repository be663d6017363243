"""`interpret.suspects`: labels that were changed are found, in every kind of data, and named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import topwork as tw
from topwork._evidence.doubts import doubts_of_classes, doubts_of_labels, doubts_of_numbers

suspects = tw.interpret.suspects
RNG = np.random.default_rng(0)
N_IMAGES, WRONG = 60, (3, 20, 41)


@pytest.fixture(scope="module")
def means() -> keras.Model:
    """A network whose features are what is in the images."""
    image = keras.Input((4, 4, 3))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))


def images_of(features: Any) -> Any:
    noise = RNG.normal(0, 10, (len(features), 4, 4, 3))
    return np.clip(np.asarray(features)[:, None, None, :] + noise, 0, 255).astype("float32")


def coloured(n_classes: int = 3) -> tuple[Any, Any, Any]:
    """Images each of the colour of its class; right labels; and some wrong ones."""
    right = np.arange(N_IMAGES) % n_classes
    wrong = right.copy()
    wrong[list(WRONG)] = (wrong[list(WRONG)] + 1) % n_classes
    return images_of(60 + 120 * np.eye(3)[right]), right, wrong


def found_in(model: keras.Model, data: Any, **options: Any) -> tw.interpret.Suspects:
    return suspects(model, data, verbose=0, **options)


class TestWhatIsFound:
    def test_changed_labels_come_first(self, means: keras.Model) -> None:
        images, right, wrong = coloured()
        found = found_in(means, (images, wrong), class_names=["red", "green", "blue"])
        assert {row.index for row in found[:3]} == set(WRONG)
        names = np.array(["red", "green", "blue"])
        assert [row.given for row in found[:3]] == [names[wrong[row.index]] for row in found[:3]]
        assert [row.suggested for row in found[:3]] == [names[right[row.index]] for row in found[:3]]
        assert found.n_likely == 3
        assert found.agreement == pytest.approx(57 / 60, abs=0.02)
        doubts = [row.doubt for row in found]
        assert doubts == sorted(doubts, reverse=True)

    @pytest.mark.parametrize("kind", ["numbers", "one-hot", "names", "column", "from -1", "far apart"])
    def test_however_labels_are_written(self, means: keras.Model, kind: str) -> None:
        images, _, wrong = coloured()
        written = {
            "numbers": wrong.astype("float32"),
            "one-hot": np.eye(3)[wrong],
            "names": np.array(["a", "b", "c"])[wrong],
            "column": wrong[:, None],
            "from -1": wrong - 1,
            "far apart": wrong * 10**8,
        }[kind]
        found = found_in(means, (images, written))
        assert {row.index for row in found[:3]} == set(WRONG)
        names = {
            "names": ("a", "b", "c"),
            "from -1": ("-1", "0", "1"),
            "far apart": ("0", "100000000", "200000000"),
        }
        assert found[0].given in names.get(kind, ("0", "1", "2"))

    def test_classes_that_do_not_occur(self, means: keras.Model) -> None:
        images, _, wrong = coloured()
        names = [f"class {i}" for i in range(2000)]
        found = found_in(means, (images, wrong + 1500), class_names=names)
        assert {row.index for row in found[:3]} == set(WRONG)
        assert {row.given for row in found[:3]} <= {"class 1500", "class 1501", "class 1502"}

    def test_two_classes_and_a_head(self, means: keras.Model) -> None:
        images, _, wrong = coloured(2)
        model = tw.add_head(1, hidden_units=4)(tw.freeze(means))
        found = found_in(model, (images, wrong))
        assert {row.index for row in found[:3]} == set(WRONG)

    def test_several_labels_an_image(self, means: keras.Model) -> None:
        right = RNG.integers(0, 2, (N_IMAGES, 3))
        right[0] = 1  # so that it is not one-hot
        wrong = right.copy()
        wrong[list(WRONG), [0, 1, 2]] ^= 1
        found = found_in(means, (images_of(40 + 150 * right), wrong), class_names=["r", "g", "b"])
        expected = {
            (image, name if wrong[image, i] else f"not {name}")
            for i, (image, name) in enumerate(zip(WRONG, "rgb", strict=True))
        }
        assert {(row.index, row.given) for row in found[:3]} == expected
        assert found.task == "labels"
        assert found.n_labels == 3 * N_IMAGES
        assert str(found[0].suggested).removeprefix("not ") == str(found[0].given).removeprefix("not ")

    @pytest.mark.parametrize("n_numbers", [1, 2])
    def test_numbers_that_are_far_off(self, means: keras.Model, n_numbers: int) -> None:
        features = RNG.uniform(50, 200, (N_IMAGES, 3))
        numbers = features[:, :n_numbers] / 10 + RNG.normal(0, 0.1, (N_IMAGES, n_numbers))
        numbers[list(WRONG), 0] += 50
        found = found_in(means, (images_of(features), numbers))
        assert {row.index for row in found[:3]} == set(WRONG)
        assert all(row.doubt > 3.5 and row.probability is None for row in found[:3])
        assert {row.name for row in found[:3]} == ({None} if n_numbers == 1 else {"0"})
        assert "numbers are far from what the probe expects" in str(found)
        assert isinstance(found[0].given, float)

    def test_whole_numbers_are_numbers_to_a_model_for_numbers(self, means: keras.Model) -> None:
        model = tw.add_head(1, hidden_units=None, task="numbers")(tw.freeze(means))
        features = RNG.uniform(50, 200, (N_IMAGES, 3))
        found = found_in(model, (images_of(features), features[:, 0].round()))
        assert found.task == "numbers"


class TestWhatIsGiven:
    def test_a_folder_names_files_and_classes(
        self, means: keras.Model, tmp_path: Path, make_photos: Callable[..., Path]
    ) -> None:
        folder = make_photos(tmp_path, ("cats", "dogs"), per_class=10)
        moved = folder / "dogs" / "moved.jpg"
        (folder / "cats" / "cats_3.jpg").rename(moved)
        data = tw.data.read_folder(folder, (4, 4), seed=0)
        found = found_in(means, data)
        assert (found[0].file, found[0].given, found[0].suggested) == (str(moved), "dogs", "cats")
        assert found[0].image is not None
        paths = tw.data.read_folder(folder, (4, 4), shuffle=False).file_paths
        assert paths[found[0].index] == str(moved)
        pixels = np.concatenate([x for x, _ in tw.data.read_folder(folder, (4, 4), shuffle=False)])
        np.testing.assert_array_equal(found[0].image, pixels[found[0].index])

    def test_a_folder_that_was_mapped_over_keeps_its_names(
        self, means: keras.Model, tmp_path: Path, make_photos: Callable[..., Path]
    ) -> None:
        folder = make_photos(tmp_path, ("cats", "dogs"), per_class=10)
        data = tw.data.read_folder(folder, (4, 4), shuffle=False).map(lambda x, y: (x / 2, 1 - y))
        found = found_in(means, data, n=1)
        assert found[0].file == tw.data.read_folder(folder, (4, 4)).file_paths[found[0].index]
        assert {found[0].given, found[0].suggested} == {"cats", "dogs"}
        pixels = np.concatenate([x for x, _ in data])
        np.testing.assert_array_equal(found[0].image, pixels[found[0].index])

    def test_pictures_are_the_right_ones_in_any_order(self, means: keras.Model) -> None:
        images, _, wrong = coloured()
        data = tf.data.Dataset.from_tensor_slices((images, wrong)).shuffle(N_IMAGES).batch(16)
        with pytest.warns(UserWarning, match="suspects: the data comes in another order each time"):
            found = found_in(means, data)
        shown = [np.flatnonzero((images == row.image).all(axis=(1, 2, 3))) for row in found[:3]]
        assert {int(places[0]) for places in shown} == set(WRONG)

    def test_keras_reader_without_shuffling_names_files(
        self, means: keras.Model, tmp_path: Path, make_photos: Callable[..., Path]
    ) -> None:
        folder = make_photos(tmp_path, ("a", "b"), per_class=8)
        data = keras.utils.image_dataset_from_directory(
            folder, image_size=(4, 4), shuffle=False, verbose=False
        )
        found = found_in(means, data, n=2)
        assert [row.file for row in found] == [data.file_paths[row.index] for row in found]

    def test_features_are_kept(self, means: keras.Model, tmp_path: Path, capfd: Any) -> None:
        images, _, wrong = coloured()
        suspects(means, (images, wrong), cache_dir=tmp_path, verbose=2)
        suspects(means, (images, wrong), cache_dir=tmp_path, verbose=2)
        assert f"0 computed and {N_IMAGES} found" in capfd.readouterr().out

    def test_n(self, means: keras.Model) -> None:
        images, _, wrong = coloured()
        assert len(found_in(means, (images, wrong), n=20)) == 20
        assert sum(row.image is not None for row in found_in(means, (images, wrong), n=20)) == 16
        for n in (0, 2.5, True):
            with pytest.raises(ValueError, match=r"suspects: n must be a whole number"):
                found_in(means, (images, wrong), n=n)


class TestWhatIsSaid:
    def test_it_prints_and_renders(self, means: keras.Model) -> None:
        images, _, wrong = coloured()
        found = found_in(means, (images, wrong), n=12)
        printed = str(found).splitlines()
        assert re.match(r"\d+ of 60 labels contradict the probe, which agrees with 9\d\.\d%", printed[0])
        assert "about 3 are probably wrong" in printed[0]
        assert printed[2].split() == ["image", "given", "suggested", "probability"]
        assert printed[-1] == "... and 2 more, in .records"
        assert "<table" in found._repr_html_()
        assert set(found.records[0]) == {
            *("index", "file", "given", "suggested", "doubt", "probability", "name")
        }
        assert str(found[0]).startswith(f"image {found[0].index}: ")

    def test_nothing_to_say(self, means: keras.Model) -> None:
        images, right, _ = coloured()
        found = found_in(means, (images, right))
        assert len(found) == 0
        assert str(found).startswith("0 of 60 labels")
        assert found.plot().axes[0].texts[0].get_text() == "no suspects"
        assert found._repr_html_().startswith("<div><b>0 of 60")

    def test_the_picture(self, means: keras.Model) -> None:
        images, _, wrong = coloured()
        figure = found_in(means, (images, wrong), n=3, class_names=["r", "g", "b"]).plot()
        titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
        assert len(titles) == 3
        assert re.fullmatch(r"\d+: [rgb]\n→ [rgb]\?", titles[0])

    def test_errors(self, means: keras.Model) -> None:
        images, right, _ = coloured()
        with pytest.raises(
            ValueError, match=r"suspects: all images of the data have the label 0, and there must be"
        ):
            found_in(means, (images, 0 * right))
        with pytest.raises(ValueError, match=r"suspects: the data must have one array of labels"):
            found_in(means, images)
        with pytest.raises(
            ValueError, match=r"is a number for each image, finite, and the data has other.*nan for"
        ):
            found_in(means, (images, np.where(right == 1, np.nan, 0.5)))
        with pytest.raises(ValueError, match=r"class_names has 2 names, and the data 3 classes"):
            found_in(means, (images, right), class_names=["a", "b"])

    def test_a_classifier_that_learned_nothing(self, means: keras.Model) -> None:
        images = np.full((20, 4, 4, 3), 100.0, "float32")
        with pytest.warns(
            UserWarning, match=r"suspects: the classifier agrees with .* of the labels, and 50"
        ):
            found_in(means, (images, np.arange(20) % 2))

    def test_warnings(self, means: keras.Model) -> None:
        images, right, _ = coloured()
        right[0] = 3
        message = r"suspects: too little is learned of a class of fewer than 5 images .* as of 3"
        with pytest.warns(UserWarning, match=message):
            found_in(means, (images, right))
        flipped = tf.data.Dataset.from_tensor_slices((images, right % 3)).batch(16)
        flipped = flipped.map(lambda x, y: (tf.image.random_flip_left_right(x, seed=1), y))
        with pytest.warns(UserWarning, match=r"suspects: the data is augmented at random") as caught:
            found_in(means, flipped)
        assert len(caught) <= 2

    def test_layers_that_have_seen_the_labels(self) -> None:
        image = keras.Input((4, 4, 3))
        trained = keras.layers.Conv2D(4, 1)(image)
        backbone = keras.Model(image, keras.layers.GlobalAveragePooling2D()(trained))
        model = tw.add_head(3, hidden_units=None)(backbone)
        images, right, _ = coloured()
        model.fit(images, right, verbose=0)
        with pytest.warns(UserWarning, match=r"layers of '.*' before its head were trained"):
            found_in(model, (images, right))


class TestDoubts:
    def test_of_classes(self) -> None:
        scores = np.log([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        doubts = doubts_of_classes(scores, np.array([0, 0, 1]))
        np.testing.assert_allclose(doubts.doubt, np.log([1 / 9, 4, 1.5]))
        np.testing.assert_allclose(doubts.probability, [0.9, 0.2, 0.4])
        assert doubts.suggested.tolist() == [1, 1, 0]
        assert doubts.is_suspect.tolist() == [False, True, True]

    def test_of_labels(self) -> None:
        doubts = doubts_of_labels(np.array([[2.0, -1.0]]), np.array([[0, 0]]))
        np.testing.assert_allclose(doubts.doubt, [2, -1])
        np.testing.assert_allclose(doubts.probability, 1 / (1 + np.exp([2, -1])))

    def test_of_numbers_that_are_all_the_same(self) -> None:
        doubts = doubts_of_numbers(np.ones((5, 1)), np.ones((5, 1)))
        assert not doubts.is_suspect.any()
        assert doubts.share_right == 0


@pytest.mark.thorough
def test_changed_labels_of_real_photographs(shared_material: Path) -> None:
    folder = shared_material / "data/cats_vs_dogs/train"
    data = tw.data.read_folder(folder, (96, 96), validation_split=0.15, subset="validation", seed=1)
    weights = shared_material / "weights/mobilenet_1_0_224_imagenet_notop.h5"
    backbone = tw.load_backbone("mobilenet", "conv_pw_12_relu", weights=weights, input_shape=(96, 96, 3))
    images, labels = (np.concatenate(part) for part in zip(*data.as_numpy_iterator(), strict=True))
    changed = np.random.default_rng(0).choice(len(labels), 30, replace=False)
    labels[changed] = 1 - labels[changed]
    found = found_in(backbone, (images, labels), n=30)
    assert len({row.index for row in found} & set(changed.tolist())) >= 15
