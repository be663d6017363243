"""What is found does not depend on what data is kept in, nor on the order that it comes in."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import topwork as tw
from reordered import Reordered

RANDOM = np.random.default_rng(0)
CLASSES = RANDOM.permutation(np.arange(48) % 3)
# Of colours by which a linear head tells all classes; each image is another, and two come twice.
IMAGES = RANDOM.uniform(0, 90, (48, 8, 8, 3)).round().astype("float32")
for _class in range(3):
    IMAGES[_class == CLASSES, ..., _class] += 120
IMAGES[40:42], CLASSES[40:42] = IMAGES[2:4], CLASSES[2:4]
LABELS = CLASSES.copy()
LABELS[[7, 20]] = (LABELS[[7, 20]] + 1) % 3


def batches_in(order: Callable[[int], Any], images: Any, labels: Any) -> Iterator[Any]:
    rows = order(len(images))
    for i in range(0, len(rows), 7):
        yield images[rows[i : i + 7]], labels[rows[i : i + 7]]


def shuffled(images: Any, labels: Any, **options: Any) -> Any:
    return tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(48, **options).batch(7)


def folder_of(images: Any, labels: Any, place: Path) -> Path:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (place / str(label)).mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(place / str(label) / f"{number:02}.png", image, scale=False)
    return place


def from_keras(images: Any, labels: Any, place: Path, **options: Any) -> Any:
    read = keras.utils.image_dataset_from_directory
    return read(folder_of(images, labels, place), image_size=(8, 8), verbose=False, **options)


def from_folder(images: Any, labels: Any, place: Path) -> Any:
    return tw.data.read_folder(folder_of(images, labels, place), (8, 8), batch_size=7)


# Each takes images, labels and a folder that may be filled.
IN_ORDER: dict[str, Callable[..., Any]] = {
    "arrays": lambda images, labels, _: (images, labels),
    "batches": lambda images, labels, _: tf.data.Dataset.from_tensor_slices((images, labels)).batch(7),
    "shuffled once": lambda images, labels, _: shuffled(images, labels, reshuffle_each_iteration=False),
    "generator": lambda images, labels, _: functools.partial(batches_in, np.arange, images, labels),
    "folder": from_folder,
    "Keras' reader in order": functools.partial(from_keras, shuffle=False),
}
REORDERED: dict[str, Callable[..., Any]] = {
    "shuffled": lambda images, labels, _: shuffled(images, labels),
    "dict": lambda images, labels, _: shuffled(images, labels).map(lambda x, y: {"image": x, "label": y}),
    "PyDataset": lambda images, labels, _: Reordered(images, labels),
    "random generator": lambda images, labels, _: functools.partial(
        batches_in, np.random.default_rng().permutation, images, labels
    ),
    "folder with a map": lambda *given: from_folder(*given).map(lambda x, y: (x, y)),
    "Keras' reader": from_keras,
}
KINDS = IN_ORDER | REORDERED


@pytest.fixture(scope="module")
def backbone() -> keras.Model:
    """Its features are the mean of each colour."""
    image = keras.Input((8, 8, 3))
    scaled = keras.layers.Rescaling(1 / 50, -1)(image)
    conv = keras.layers.Conv2D(3, 1, name="colours")
    model = keras.Model(image, conv(scaled), name="means")
    conv.set_weights([np.eye(3, dtype="float32")[None, None], np.zeros(3, "float32")])
    return tw.freeze(model)


@pytest.fixture(scope="module")
def solved(backbone: keras.Model) -> keras.Model:
    model = tw.add_head(3, hidden_units=None)(backbone)
    tw.fit_head(model, IMAGES, LABELS, verbose=0)
    return model


def labels_of(image: Any) -> set[str]:
    """What an image is labelled with, found by its pixels."""
    return {str(label) for label in LABELS[(image == IMAGES).all(axis=(1, 2, 3))]}


@pytest.mark.filterwarnings(
    "ignore:.*another order each time", "ignore:.*byte for byte", "ignore:.*is the training data itself"
)
@pytest.mark.parametrize("kind", ["arrays", "shuffled", "PyDataset", "folder", "Keras' reader"])
class TestWhatIsFound:
    @pytest.fixture
    def data(self, kind: str, tmp_path: Path) -> Any:
        return KINDS[kind](IMAGES, LABELS, tmp_path)

    def test_fit_head(self, data: Any, backbone: keras.Model) -> None:
        model = tw.add_head(3, hidden_units=None)(backbone)
        found = tw.fit_head(model, data, validation_data=data, verbose=0).history
        loss, accuracy = model.evaluate(IMAGES, LABELS, verbose=0)
        assert accuracy == pytest.approx(46 / 48)
        for name in ("", "val_"):
            assert found[f"{name}accuracy"][0] == pytest.approx(accuracy)
            assert found[f"{name}loss"][0] == pytest.approx(loss, abs=1e-4)

    def test_fit(self, data: Any, backbone: keras.Model) -> None:
        model = tw.add_head(3, hidden_units=None)(backbone)
        model.compile(keras.optimizers.Adam(0.2), model.loss, metrics=["accuracy"])
        guard = tw.callbacks.KeepBest("val_loss", verbose=False)
        tw.fit(model, data, validation_data=data, epochs=8, callbacks=[guard], verbose=0)
        loss, accuracy = model.evaluate(IMAGES, LABELS, verbose=0)
        assert accuracy == pytest.approx(46 / 48)
        assert guard.best == pytest.approx(loss, abs=1e-4)

    def test_comparisons(self, data: Any, backbone: keras.Model, solved: keras.Model) -> None:
        (cut,) = tw.compare_cuts(backbone, data, data, cut_layers=["colours"], verbose=0)
        untouched, tuned = tw.compare_boundaries(
            solved, data, data, boundaries=["colours"], epochs=1, learning_rate=1e-7, verbose=0
        )
        assert [cut.score, untouched.score, tuned.score] == pytest.approx([46 / 48] * 3)

    def test_features(self, data: Any, backbone: keras.Model) -> None:
        found, expected = (np.sort(tw.features(backbone, x, verbose=0), axis=0) for x in (data, IMAGES))
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_report_and_suspects(self, data: Any, backbone: keras.Model, solved: keras.Model) -> None:
        report = tw.interpret.report(solved, data)
        assert report.accuracy == pytest.approx(46 / 48)
        suspects = tw.interpret.suspects(backbone, data, verbose=0)
        for found in ([(x, x.true) for x in report.mistakes], [(x, x.given) for x in suspects]):
            assert len(found) == 2
            assert all(labels_of(x.image) == {label} for x, label in found)
            assert all(x.file is None or Path(x.file).parent.name == label for x, label in found)

    def test_duplicates(self, data: Any) -> None:
        found = tw.data.find_duplicates(data, near=False, verbose=0)
        assert len(found) == 2
        for each in (copy for pair in found for copy in (pair.first, pair.second)):
            assert each.file is not None or labels_of(each.image) == {each.label}

    def test_predict(self, data: Any, solved: keras.Model) -> None:
        found = tw.predict(solved, data)
        expected = np.sort(solved.predict(IMAGES, verbose=0).max(axis=1))
        np.testing.assert_allclose(np.sort([each.probability for each in found]), expected, atol=1e-5)


VERBS: dict[str, Callable[..., Any]] = {
    "features": lambda model, data: tw.features(model, data, verbose=0),
    "predict": tw.predict,
    "suspects": lambda model, data: tw.interpret.suspects(model, data, verbose=0),
    "find_duplicates": lambda _, data: tw.data.find_duplicates(data, near=False, verbose=0),
}


class TestTheOrderThatIsGone:
    @pytest.mark.parametrize(
        ("verb", "kind"),
        [*product(["features"], KINDS), *product(list(VERBS)[1:], ("PyDataset", "batches"))],
    )
    def test_it_is_said(self, verb: str, kind: str, solved: keras.Model, tmp_path: Path) -> None:
        data = KINDS[kind](IMAGES, LABELS, tmp_path)
        message = f"{verb}: the data comes in another order each time that it is read: results and the"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            VERBS[verb](solved, data)
        said = [str(each.message).startswith(message) for each in caught]
        assert sum(said) == (kind in REORDERED)

    def test_nothing_is_said_where_no_image_is_named(self) -> None:
        assert not tw.data.find_duplicates(shuffled(IMAGES[:8], LABELS[:8]), near=False, verbose=0)

    def test_files_of_a_data_set_that_is_reordered_are_not_known(self, solved: keras.Model) -> None:
        def files(data: Any) -> set[Any]:
            data.file_paths = [f"{number}.png" for number in range(48)]
            return {each.file for each in tw.interpret.report(solved, data).mistakes}

        assert files(Reordered(IMAGES, LABELS)) == {None}
        in_order = Reordered(IMAGES, LABELS, np.arange)
        assert files(in_order) == {None}
        in_order.shuffle = False  # type: ignore[attr-defined]
        assert files(in_order) == {"7.png", "20.png"}
