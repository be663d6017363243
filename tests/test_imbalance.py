"""What is said of classes that the training data shows rarely or never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import topwork as tw
from topwork._data.imbalance import warn_of_rare_classes
from topwork._data.reading import open_source

IMAGES = np.random.default_rng(0).uniform(0, 255, (40, 4, 4, 3)).astype("float32")
RARE = np.array([0] * 36 + [1] * 2 + [2] * 2)
NEVER = np.arange(40) % 2


def make_model(n_units: int = 3, loss: str = "sparse_categorical_crossentropy") -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(4, 1, trainable=False)(layers.Rescaling(1 / 255)(inputs))
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(n_units, activation="sigmoid" if n_units == 1 else "softmax")(x)
    model = keras.Model(inputs, outputs, name="small")
    model.compile("sgd", loss)
    return model


def fit(*data: Any, **options: Any) -> Any:
    return tw.fit(make_model(), *data, verbose=0, **options)


def fit_head(*data: Any, **options: Any) -> Any:
    return tw.fit_head(make_model(), *data, verbose=0, **options)


def warn_of(model: keras.Model, labels: Any) -> None:
    warn_of_rare_classes(model, open_source(model, IMAGES[: len(labels)], labels), labels, None, None)


def as_data_set(images: Any, labels: Any) -> tuple[Any]:
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    data.class_names = ["ant", "bee", "cow"]
    return (data,)


@pytest.mark.parametrize("train", [fit, fit_head])
@pytest.mark.parametrize("given", [lambda *data: data, as_data_set])
def test_rare_and_missing_classes_are_said_once(
    train: Callable[..., Any], given: Callable[..., Any]
) -> None:
    names = (" ('ant')", " ('bee')", " ('cow')") if given is as_data_set else ("", "", "")
    with pytest.warns(UserWarning, match="the training data has") as record:
        train(*given(IMAGES, RARE))
    (said,) = record
    text = f"the training data has 2 images of class 1{names[1]} and 36 of class 0{names[0]}: "
    assert str(said.message).startswith(f"{train.__name__}: {text}")
    assert "class_weight='balanced'" in str(said.message)
    with pytest.warns(UserWarning, match="the training data has") as record:
        train(*given(IMAGES, NEVER))
    (said,) = record
    text = f"the training data has no image of class 2{names[2]}, of the model's 3 classes"
    assert text in str(said.message)


@pytest.mark.parametrize("train", [fit, fit_head])
def test_weights_are_the_answer(train: Callable[..., Any]) -> None:
    train(IMAGES, RARE, class_weight="balanced")
    train(IMAGES, RARE, sample_weight=np.ones(40))


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        (make_model(), np.array([0] * 30 + [1] * 7 + [2] * 3)),  # ten to one
        (make_model(), RARE[-19:]),  # too few to tell
        (make_model(1, "mse"), RARE),  # numbers
        (make_model(3, "categorical_crossentropy"), np.eye(3)[np.arange(40) % 3]),
    ],
)
def test_nothing_is_said(model: keras.Model, labels: Any) -> None:
    warn_of(model, labels)


def test_one_hot_and_binary_labels_are_counted() -> None:
    with pytest.warns(UserWarning, match=r"2 images of class 1 and 36 of class 0"):
        warn_of(make_model(3, "categorical_crossentropy"), np.eye(3)[RARE])
    with pytest.warns(UserWarning, match=r"2 images of class 1 and 38 of class 0"):
        warn_of(make_model(1, "binary_crossentropy"), RARE == 2)
