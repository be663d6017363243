"""Where computing once is easily wrong: state, randomness and batches in the frozen part."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import topwork as tw
from topwork._features.split import split
from versions import KERAS

IMAGES = np.random.default_rng(0).uniform(0, 1, (16, 6, 6, 3)).astype("float32")
CLASSES = np.arange(16) % 3


def compiled(inputs: Any, x: Any) -> keras.Model:
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    optimizer = keras.optimizers.SGD(0.1)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    return model


def image() -> Any:
    return keras.Input((6, 6, 3))


def frozen(x: Any) -> Any:
    return layers.Conv2D(3, 1, trainable=False)(x)


def pooled(x: Any) -> Any:
    return layers.GlobalAveragePooling2D()(x)


class Block(layers.Layer):
    """Two layers in a layer of one's own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.a, self.b = layers.Dense(4), layers.Dense(4)

    def build(self, shape: Any) -> None:
        self.a.build(shape)
        self.b.build((*shape[:-1], 4))
        self.built = True

    def call(self, x: Any) -> Any:
        return self.b(self.a(x))


class Counts(layers.Layer):
    """Counts how often it is called, in a weight."""

    def build(self, shape: Any) -> None:
        self.n = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.built = True

    def call(self, x: Any) -> Any:
        self.n.assign_add(1.0)
        return x


class CountsElsewhere(layers.Layer):
    """Counts in a variable that Keras does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.n = tf.Variable(0.0)

    def call(self, x: Any) -> Any:
        self.n.assign_add(1.0)
        return x


def thawed_inside() -> keras.Model:
    inputs, block = image(), Block()
    x = block(frozen(inputs))
    block.trainable = False
    block.b.trainable = True
    return compiled(inputs, pooled(x))


def counting() -> keras.Model:
    inputs = image()
    return compiled(inputs, pooled(frozen(Counts()(frozen(inputs)))))


def centred_on_the_batch() -> keras.Model:
    inputs = image()
    x = frozen(inputs)
    return compiled(inputs, pooled(x - ops.mean(x, axis=0)))


def turned_batch() -> keras.Model:
    inputs = image()
    return compiled(inputs, ops.flip(pooled(frozen(inputs)), axis=0))


def several_rows_an_image() -> keras.Model:
    inputs = image()
    x = layers.Dense(2, trainable=False)(ops.reshape(frozen(inputs), (-1, 3)))
    return compiled(inputs, ops.reshape(layers.Dense(2)(x), (-1, 72)))


def batch_for_an_axis() -> keras.Model:
    inputs = image()
    return compiled(inputs, pooled(layers.UnitNormalization(axis=0)(frozen(inputs))))


def sequential_that_was_not_built() -> keras.Model:
    model = keras.Sequential(
        [layers.Conv2D(3, 3, trainable=False), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=False)
    return model


EDGES: dict[str, tuple[Callable[[], keras.Model], Any]] = {
    "thawed inside": (thawed_inside, {"conv"}),
    "counting": (counting, {"conv"}),
    "centred on the batch": (centred_on_the_batch, {"conv"}),
    "turned batch": (turned_batch, {"conv", "pool"}),
    "several rows an image": (several_rows_an_image, {"conv"}),
    "the batch for an axis": (batch_for_an_axis, {"conv"}),
    "sequential": (sequential_that_was_not_built, {"conv", "pool"}),
}


@pytest.mark.parametrize("name", EDGES)
def test_the_numbers_of_keras_and_what_is_computed_once(name: str) -> None:
    build, expected = EDGES[name]
    weights = []
    for fit in (keras.Model.fit, tw.fit):
        keras.utils.set_random_seed(3)
        model = build()
        fit(model, IMAGES, CLASSES, epochs=2, batch_size=5, shuffle=False, verbose=0)
        weights.append([np.asarray(weight.numpy()) for weight in model.weights])
    for theirs, ours in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    kinds = {layers.Conv2D: "conv", layers.GlobalAveragePooling2D: "pool"}
    inside = {kinds.get(type(layer)) for layer in split(model, [IMAGES]).prefix.layers}
    assert inside - {None} == expected


def test_a_counter_that_keras_does_not_know_of_is_trained_plainly() -> None:
    inputs, counter = image(), CountsElsewhere()
    model = compiled(inputs, pooled(frozen(counter(inputs))))
    before = counter.n.numpy()
    with pytest.warns(UserWarning, match=r"\(CountsElsewhere\) changes its own state whenever it is run"):
        tw.fit(model, IMAGES, CLASSES, epochs=2, batch_size=4, verbose=0)
    assert counter.n.numpy() >= before + 8


def test_trying_a_call_leaves_its_state_as_it_was() -> None:
    inputs, counter = image(), Counts()
    model = compiled(inputs, pooled(frozen(counter(frozen(inputs)))))
    split(model, [IMAGES])
    assert float(counter.n.numpy()) == 0


def test_a_base_with_dropout_that_is_called_for_inference_is_computed_once() -> None:
    inner = image()
    base = keras.Model(inner, layers.Dropout(0.5)(layers.Conv2D(3, 1)(inner)))
    base.trainable = False
    inputs = image()
    model = compiled(inputs, pooled(base(inputs, training=False)))
    assert {id(layer) for layer in base.layers[1:]} <= {id(x) for x in split(model).prefix.layers}
    tw.fit(model, IMAGES, CLASSES, verbose=0)  # without a warning
    random = split(compiled(inputs, pooled(base(inputs))), [IMAGES])
    assert random.prefix.layers[1] is base.layers[1]
    assert base.layers[2] in random.tail.layers


class Maybe(layers.Layer):
    def call(self, x: Any, extra: Any = None) -> Any:
        return x if extra is None else x + ops.sum(extra)


@pytest.mark.skipif(KERAS < (3, 13), reason="an older Keras may not train without an optional input")
def test_an_optional_input_that_is_left_out() -> None:
    weights = []
    for fit in (keras.Model.fit, tw.fit):
        keras.utils.set_random_seed(3)
        inputs, extra = image(), keras.Input((2,), optional=True, name="extra")
        model = compiled([inputs, extra], Maybe()(pooled(frozen(inputs)), extra))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(model, [IMAGES, None], CLASSES, batch_size=5, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    assert any("an optional input is left out" in str(each.message) for each in caught)
    for theirs, ours in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["early"], r"objects of keras.callbacks.Callback, or a list of them. Received: 'early'"),
        (keras.callbacks.EarlyStopping, r"Make one of the class: EarlyStopping\(...\)"),
    ],
)
def test_callbacks_that_are_none(given: Any, message: str) -> None:
    inputs = image()
    with pytest.raises(ValueError, match=message):
        tw.fit(compiled(inputs, pooled(frozen(inputs))), IMAGES, CLASSES, callbacks=given, verbose=0)
