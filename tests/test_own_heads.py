"""Heads that topwork did not make: what they are for is known by their loss, wherever it is asked."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import topwork as tw
from topwork._networks.classifier import Task, probabilities, task_of
from topwork._networks.record import read_record

losses, layers = keras.losses, keras.layers


def own_mse(y: Any, predicted: Any) -> Any:
    return keras.ops.mean(keras.ops.square(y - predicted), axis=-1)


class OwnLoss(losses.Loss):
    def call(self, y_true: Any, y_pred: Any) -> Any:
        return own_mse(y_true, y_pred)


def model_of(units: int, activation: Any, loss: Any, last: Any = None) -> keras.Model:
    image = keras.Input((8, 8, 3))
    x = layers.Dense(units, activation=activation, name="top")(layers.GlobalAveragePooling2D()(image))
    model = keras.Model(image, x if last is None else last(x))
    if loss is not None:
        model.compile("sgd", loss)
    return model


KINDS = [
    (3, "sigmoid", losses.BinaryCrossentropy(), "labels"),
    (3, "sigmoid", "binary_crossentropy", "labels"),
    (3, "sigmoid", "binary_focal_crossentropy", "labels"),
    (3, "sigmoid", {"top": "binary_crossentropy"}, "labels"),
    (3, None, losses.BinaryCrossentropy(from_logits=True), "labels"),
    (3, None, losses.BinaryFocalCrossentropy(from_logits=True), "labels"),
    (3, None, functools.partial(losses.binary_crossentropy, from_logits=True), "labels"),
    (3, "sigmoid", own_mse, "labels"),
    (3, "sigmoid", None, "labels"),
    (1, "sigmoid", "binary_crossentropy", "classes"),
    (1, None, losses.BinaryCrossentropy(from_logits=True), "classes"),
    (3, "softmax", "sparse_categorical_crossentropy", "classes"),
    (3, "softmax", "mse", "classes"),
    (2, "softmax", "binary_crossentropy", "classes"),
    (3, "softmax", own_mse, "classes"),
    (3, "sigmoid", "categorical_crossentropy", "classes"),
    (3, None, losses.SparseCategoricalCrossentropy(from_logits=True), "classes"),
    (3, None, losses.CategoricalCrossentropy(from_logits=True), "classes"),
    (3, None, functools.partial(losses.sparse_categorical_crossentropy, from_logits=True), "classes"),
    (1, None, "mse", "numbers"),
    (1, None, losses.MeanSquaredError(), "numbers"),
    (4, None, ["mae"], "numbers"),
    (1, "relu", losses.Huber(), "numbers"),
    (1, "exponential", "poisson", "numbers"),
    (4, "sigmoid", "mse", "numbers"),
    (2, None, own_mse, "numbers"),
    (2, None, OwnLoss(), "numbers"),
    (2, None, lambda y, p: own_mse(y, p), "numbers"),
    (1, "tanh", "log_cosh", "numbers"),
]


@pytest.mark.parametrize(("units", "activation", "loss", "kind"), KINDS)
def test_known_by_its_loss(units: int, activation: Any, loss: Any, kind: str) -> None:
    model = model_of(units, activation, loss)
    task = task_of(model)
    assert (task.kind, task.units) == (kind, units)
    (found,) = tw.predict(model, np.full((8, 8, 3), 9, "uint8"))
    outputs = model.predict(np.full((1, 8, 8, 3), 9, "float32"), verbose=0)[0].astype("float64")
    shares = dict(found)
    if kind == "numbers":
        assert [shares[str(i)] for i in range(units)] == pytest.approx(outputs.tolist())
    if kind == "classes":
        assert sum(shares.values()) == pytest.approx(1)
    if kind == "labels" and activation is None:
        assert shares["1"] == pytest.approx(1 / (1 + np.exp(-outputs[1])))
    if activation == "sigmoid" and loss == "categorical_crossentropy":  # Keras divides by the sum
        assert shares["1"] == pytest.approx(outputs[1] / outputs.sum())


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (layers.Activation("sigmoid"), "labels"),
        (layers.Activation(keras.activations.sigmoid), "labels"),
        (keras.ops.sigmoid, "labels"),
        (keras.activations.sigmoid, "labels"),
        (layers.Softmax(), "classes"),
        (keras.ops.softmax, "classes"),
        (lambda x: layers.Activation("linear", dtype="float32")(layers.Softmax()(x)), "classes"),
        (lambda x: layers.Identity()(keras.ops.sigmoid(x)), "labels"),
        (keras.Sequential([keras.Input((3,)), layers.Dense(3, "sigmoid")]), "labels"),
    ],
)
def test_the_activation_may_be_anywhere_at_the_end(last: Any, kind: str) -> None:
    assert task_of(model_of(3, None, None, last)).kind == kind


def test_what_names_say_goes_before_a_loss_that_says_nothing() -> None:
    unit = model_of(1, "sigmoid", "mse")
    assert task_of(unit).kind == "numbers"
    tw.interpret.name_classes(unit_named := model_of(1, "sigmoid", "binary_crossentropy"), ["cat", "dog"])
    unit_named.compile("sgd", "mse")
    assert task_of(unit_named).kind == "classes"
    logits = tw.interpret.name_classes(model_of(3, "softmax", None), ["a", "b", "c"])
    logits.get_layer("top").activation = keras.activations.linear
    logits.compile("sgd", own_mse)
    assert task_of(logits).kind == "classes"
    with pytest.raises(ValueError, match=r"compile it with a loss that has from_logits=True"):
        tw.predict(logits, np.full((8, 8, 3), 9, "uint8"))


def test_outputs_that_are_no_probabilities() -> None:
    task = Task("classes", 3, units=3)
    with pytest.raises(
        ValueError, match="the model must end in softmax, in sigmoid units, or in numbers"
    ):
        probabilities(np.array([[1.0, 2.0, 3.0]]), task)


IMAGES = np.random.default_rng(0).uniform(0, 255, (40, 8, 8, 3)).astype("float32")
SHADE = IMAGES.mean(axis=(1, 2))


@pytest.mark.parametrize(
    ("units", "activation", "loss", "labels"),
    [
        (3, "sigmoid", losses.BinaryCrossentropy(), SHADE > 127),
        (3, None, losses.BinaryCrossentropy(from_logits=True), SHADE > 127),
        (3, None, functools.partial(losses.binary_crossentropy, from_logits=True), SHADE > 127),
        (3, None, losses.SparseCategoricalCrossentropy(from_logits=True), SHADE.argmax(axis=1)),
        (1, None, "mse", SHADE[:, 0]),
        (3, None, losses.MeanSquaredError(), SHADE),
    ],
)
def test_solved_reported_and_saved(
    units: int, activation: Any, loss: Any, labels: Any, tmp_path: Path
) -> None:
    """The colours' means are the features: each head can learn its labels."""
    model = model_of(units, activation, loss)
    labels = labels.astype("float32") if labels.dtype == bool else labels
    tw.fit_head(model, IMAGES, labels, verbose=0)
    found = tw.interpret.report(model, (IMAGES, labels))
    quality = getattr(found, "r2", None) or getattr(found, "mean_average_precision", None)
    assert (quality or found.accuracy) > 0.85
    if not isinstance(loss, functools.partial):  # of which Keras saves nothing
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras")
        assert str(tw.predict(again, IMAGES[0])) == str(tw.predict(model, IMAGES[0]))


def test_a_sigmoid_by_keras_ops_is_solved_too() -> None:
    model = model_of(3, None, "binary_crossentropy", keras.ops.sigmoid)
    tw.fit_head(model, IMAGES, (SHADE > 127).astype("float32"), verbose=0)
    assert tw.interpret.report(model, (IMAGES, (SHADE > 127).astype("float32"))).accuracy > 0.85


class TestNameClasses:
    def test_names_go_along_with_the_file(self, tmp_path: Path) -> None:
        model = model_of(3, "softmax", "sparse_categorical_crossentropy")
        model.fit(IMAGES, SHADE.argmax(axis=1), verbose=0)
        assert tw.interpret.name_classes(model, np.array(["red", "green", "blue"])) is model
        model.fit(IMAGES, SHADE.argmax(axis=1), verbose=0)  # still compiled
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras")
        assert set(dict(tw.predict(again, IMAGES[0])[0])) == {"red", "green", "blue"}
        tw.interpret.name_classes(again, ("r", "g", "b"))
        assert set(dict(tw.predict(again, IMAGES[0])[0])) == {"r", "g", "b"}

    def test_a_data_set_tells_the_reader_too(self, make_photos: Any, tmp_path: Path) -> None:
        folder = make_photos(tmp_path / "photos", ("a", "b"), 2, size=9)
        model = model_of(1, "sigmoid", "binary_crossentropy")
        tw.interpret.name_classes(model, tw.data.read_folder(folder, model, crop=False))
        record = read_record(model)
        assert (record.class_names, record.reader) == (("a", "b"), {"crop": False, "part": 1.0})
        keras_own = keras.utils.image_dataset_from_directory(folder, image_size=(8, 8), verbose=False)
        tw.interpret.name_classes(model, keras_own)
        assert read_record(model).reader == "other"

    def test_names_that_cannot_be(self) -> None:
        model = model_of(3, "softmax", None)
        with pytest.raises(ValueError, match=r"^name_classes: .* name for each of the model's 3 classes"):
            tw.interpret.name_classes(model, ["a", "b"])
        data = tf.data.Dataset.from_tensor_slices((IMAGES, SHADE)).batch(4)
        for wrong in (data, None, 3, "abc"):
            with pytest.raises(ValueError, match=r"^name_classes: names is a list with a name for each"):
                tw.interpret.name_classes(model, wrong)
