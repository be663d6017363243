"""Labels and images as lists, columns, objects, and what is none of these: taken, or refused in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import topwork as tw

IMAGES = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 3)).astype("float32")
LABELS = np.arange(8) % 2
NAMES = np.array(["cat", "dog"])[LABELS]
ONE_HOT = np.eye(2, dtype="float32")[LABELS]


class Column:
    """What pandas has as a column of a table, or as a Categorical: an array on request."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.values, dtype)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Any:
        raise KeyError(index)  # the labels of its rows begin elsewhere


class Polars:
    def __init__(self, values: Any) -> None:
        self.to_numpy = lambda: np.asarray(values)


class Missing:
    """As pandas.NA."""

    def __ne__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    def __str__(self) -> str:
        return "<NA>"


def backbone() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    outputs = layers.Conv2D(2, 3, name="a")(layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, outputs, name="small")


def model(loss: Any = None) -> keras.Model:
    made = tw.add_head(2, hidden_units=None)(tw.freeze(backbone()))
    if loss is not None:
        made.compile("adam", loss)
    return made


VERBS: dict[str, Callable[[Any, Any], Any]] = {
    "fit": lambda x, y: tw.fit(model(), x, y, verbose=0),
    "fit_head": lambda x, y: tw.fit_head(model(), x, y, verbose=0),
    "compare_cuts": lambda x, y: tw.compare_cuts(backbone(), (x, y), (IMAGES + 1, LABELS), verbose=0),
    "report": lambda x, y: tw.interpret.report(model(), (x, y)),
    "predict": lambda x, y: tw.predict(model(), (x, y)),
}
NO_LABELS = [verb for verb in VERBS if verb != "predict"]  # it does not look at them


def refused(verb: str, x: Any, y: Any) -> str:
    with pytest.raises(ValueError, match=f"^{verb}: ") as caught:
        VERBS[verb](x, y)
    return str(caught.value)


NUMBERS: dict[str, Any] = {
    "objects": LABELS.astype(object),
    "objects that are floats": LABELS.astype(float).astype(object),
    "objects of NumPy": np.array([*LABELS, None], object)[:8],
    "a column": Column(LABELS),
    "a column of objects": Column(LABELS.astype(object)),
    "a column without __array__": Polars(LABELS),
    "a list of arrays": [np.array(label) for label in LABELS],
    "a list of tensors": [keras.ops.convert_to_tensor(label) for label in LABELS],
    "a range": [*range(2)] * 4,
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_every_kind_are_labels(kind: str) -> None:
    losses = [
        tw.fit_head(model_of_seed(), IMAGES, labels, verbose=0).history["loss"]
        for labels in (LABELS, NUMBERS[kind])
    ]
    assert losses[1] == pytest.approx(losses[0])
    for verb in ("fit", "report", "predict"):
        VERBS[verb](IMAGES, NUMBERS[kind])


def test_numbers_of_every_kind_in_a_comparison() -> None:
    for labels in (LABELS.astype(object), Polars(LABELS)):
        VERBS["compare_cuts"](IMAGES, labels)


def model_of_seed() -> keras.Model:
    keras.utils.set_random_seed(0)
    return model()


def test_images_of_objects() -> None:
    VERBS["fit"](IMAGES.astype(object), LABELS)


NO_NUMBERS: dict[str, tuple[Any, str]] = {
    "names": (NAMES, r"Number the classes, names, labels = np\.unique\(labels, return_inverse=True\)\."),
    "objects": (NAMES.astype(object), r"Number the classes, names, labels = np\.unique"),
    "a list": (list(NAMES), r"Number the classes"),
    "a column": (Column(NAMES.astype(object)), r"Number the classes"),
    "digits": (LABELS.astype(str), r"Make them numbers, labels\.astype\(int\)\."),
    "fractions": (np.array(["0.5", "1"] * 4), r"Make them numbers, labels\.astype\(float\)\."),
    "decimals": (np.array([Decimal(1)] * 8, object), r"Make them numbers, labels\.astype\(int\)\."),
    "missing": ([0, 1, None, 1] * 2, "Some are missing: leave such images out"),
    "NaN": (np.array(["cat", np.nan] * 4, object), "Some are missing"),
    "NA": (Column(np.array([0, Missing()] * 4, object)), "Some are missing"),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
@pytest.mark.parametrize("verb", NO_LABELS)
def test_what_makes_numbers_of_other_labels(verb: str, kind: str) -> None:
    labels, advice = NO_NUMBERS[kind]
    assert re.search(advice, refused(verb, IMAGES, labels))


NO_ARRAY: dict[str, tuple[Callable[[], Any], str]] = {
    "a set": (lambda: {0, 1}, r"Received: set of 2\. A set has no order, .* the list"),
    "a generator": (
        lambda: (label for label in LABELS),
        r"Received: generator, .* Make an array of it, np\.array\(list",
    ),
    "values": (lambda: dict(enumerate(LABELS)).values(), r"Received: dict_values, .*np\.array\(list"),
    "a text": (lambda: "label", r"Received: str, 'label'\. What lies .* column of a table.*read_folder"),
    "a path": (lambda: Path("labels.csv"), r"labels\.csv.*read_folder"),
    "a function": (lambda: len, r"Received: builtin_function_or_method, .* Make an array of it\."),
    "a data set": (
        lambda: tf.data.Dataset.from_tensor_slices(LABELS),
        r"A data set has images and labels in each batch: pass one alone\.",
    ),
}


@pytest.mark.parametrize("kind", NO_ARRAY)
@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_array(verb: str, kind: str) -> None:
    make, message = NO_ARRAY[kind]
    found = refused(verb, IMAGES, make())
    assert re.search(rf"y.* must be an array, a tensor, or a list .*{message}", found)


def test_weights_and_images_that_are_no_array() -> None:
    with pytest.raises(ValueError, match=r"^fit: sample_weight must be an array.*Received: set of 1"):
        tw.fit(model(), IMAGES, LABELS, sample_weight={1.0}, verbose=0)
    with pytest.raises(ValueError, match=r"^fit: y must be an array.*Received: set of 1"):
        tw.fit(model(), IMAGES, {1.0}, validation_split=0.5, verbose=0)
    with pytest.raises(ValueError, match=r"^fit: x must be an array.*Received: set of 1"):
        tw.fit(model(), {Path("a.jpg")}, LABELS, verbose=0)


@pytest.mark.parametrize("verb", VERBS)
def test_rows_that_differ_in_length(verb: str) -> None:
    message = "is a list of 8 rows, and they differ in length: that is no array. Of several labels"
    assert message in refused(verb, IMAGES, [[0], [0, 1]] * 4)


@pytest.mark.parametrize("verb", NO_LABELS)
def test_lists_and_dicts_of_labels(verb: str) -> None:
    assert "np.stack(" in refused(verb, IMAGES, list(ONE_HOT))
    found = refused(verb, IMAGES, {"a": LABELS})
    assert "labels for 'a', and the outputs are named head_output" in found or (
        "must be one array, with an entry for each image. Received: dict of 1." in found
    )
    assert refused(verb, IMAGES, 1).count(
        "Each image needs one" if verb != "compare_cuts" else "shape ()"
    )
    found = refused(verb, IMAGES, [None] * 8)
    assert "all 8 labels in y are None" in found or "Received: tuple of 8" in found


# Images

PATHS = [Path(f"{i}.jpg") for i in range(8)]


@pytest.mark.parametrize("paths", [PATHS, tuple(PATHS), [str(path) for path in PATHS]])
@pytest.mark.parametrize("verb", NO_LABELS)
def test_files_in_the_place_of_images(verb: str, paths: Any) -> None:
    found = refused(verb, paths, LABELS)
    assert "takes pixels" in found
    assert "0.jpg" in found
    assert "np.str_" not in found
    for way in ("topwork.data.read_folder", "image_dataset_from_directory", "keras.utils.load_img"):
        assert way in found


BATCHES = [(IMAGES[:5], LABELS[:5]), (IMAGES[5:], LABELS[5:])]
PAIRS = list(zip(IMAGES, LABELS, strict=True))
PAIRED: dict[str, Callable[[Any], Any]] = {
    "fit": lambda data: tw.fit(model(), data, verbose=0),
    "fit_head": lambda data: tw.fit_head(model(), data, verbose=0),
    "compare_cuts": lambda data: tw.compare_cuts(backbone(), data, (IMAGES + 1, LABELS), verbose=0),
    "report": lambda data: tw.interpret.report(model(), data),
    "predict": lambda data: tw.predict(model(), data),
}


@pytest.mark.parametrize("verb", PAIRED)
def test_a_list_of_batches(verb: str) -> None:
    for data in (BATCHES, BATCHES[:1], (BATCHES, LABELS)):
        if verb == "predict" and isinstance(data, tuple):  # several images, of which one is a list
            continue
        with pytest.raises(
            ValueError, match=rf"^{verb}: .* is a list of \d batches of \(images, labels\)"
        ):
            PAIRED[verb](data)
    with pytest.raises(
        ValueError, match=rf"^{verb}: .* list of 8 \(image, label\), .*map\(np\.stack, zip"
    ):
        PAIRED[verb](PAIRS)


def batches_with_lists() -> Iterator[Any]:
    for images, labels in BATCHES:
        yield images, list(labels)


def batches_with_names() -> Iterator[Any]:
    yield IMAGES, list(NAMES)


@pytest.mark.parametrize("verb", PAIRED)
def test_a_generator_of_lists(verb: str) -> None:
    PAIRED[verb](batches_with_lists)
    if verb in ("fit", "fit_head", "report"):
        with pytest.raises(
            ValueError, match=rf"^{verb}: .*Number the classes, names, labels = np\.unique"
        ):
            PAIRED[verb](batches_with_names)


def test_what_the_message_says_makes_arrays() -> None:
    images, labels = map(np.concatenate, zip(*BATCHES, strict=True))
    np.testing.assert_array_equal(images, IMAGES)
    tw.fit(model(), images, labels, verbose=0)
    images, labels = map(np.stack, zip(*PAIRS, strict=True))
    np.testing.assert_array_equal(images, IMAGES)
    tw.fit(model(), images, labels, verbose=0)


def test_no_images() -> None:
    with pytest.raises(ValueError, match=r"^report: there are no images: x is None\."):
        tw.interpret.report(model(), (None, LABELS))


# Labels that the loss does not take


@pytest.mark.parametrize("verb", [tw.fit, tw.fit_head])
def test_rows_without_a_class(verb: Callable[..., Any]) -> None:
    rows = ONE_HOT.copy()
    rows[[3, 6]] = 0
    compiled = model("categorical_crossentropy")
    with pytest.raises(
        ValueError, match=r"one-hot labels with 2 rows of zeros only, .* of image 3 \(coun"
    ):
        verb(compiled, IMAGES, rows, verbose=0)
    verb(compiled, IMAGES, rows, sample_weight=rows.any(axis=1).astype("float32"), verbose=0)


def own(labels: Any, outputs: Any) -> Any:
    labels = keras.ops.reshape(labels, (-1,))
    known = keras.ops.cast(labels >= 0, "float32")
    labels = keras.ops.maximum(labels, 0)
    return known * keras.losses.sparse_categorical_crossentropy(labels, outputs)


def test_a_label_that_a_loss_of_ones_own_may_not_take(recwarn: pytest.WarningsRecorder) -> None:
    tw.fit(model(own), IMAGES, LABELS, verbose=0)
    assert not recwarn.list
    with pytest.warns(
        UserWarning, match=r"^fit: the training data has the label -1, and the model has 2"
    ):
        tw.fit(model(own), IMAGES, LABELS - 1, verbose=0)


@pytest.mark.parametrize("augment", [None, keras.layers.RandomFlip()])
def test_labels_of_a_folder_are_checked_before_plain_training(augment: Any, tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / "abc"[min(number // 13, 2)] / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        keras.utils.save_img(path, IMAGES[number % 8], scale=False)
    data = tw.data.read_folder(tmp_path, 8, batch_size=4, shuffle=False)
    compiled = model()
    before = [np.array(weight) for weight in compiled.trainable_weights]
    with pytest.raises(ValueError, match=r"has the label 2, .* First seen in the file .*26\.png\."):
        tw.fit(compiled, data, cache=False, augment=augment, verbose=0)
    for old, new in zip(before, compiled.trainable_weights, strict=True):
        np.testing.assert_array_equal(old, np.array(new))
