"""Layers of one's own that take `training`, or hold a random generator: judged by what they do."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import topwork as tw
from topwork._features.split import NotSplittable, split

IMAGES = np.random.default_rng(0).uniform(0, 1, (6, 8, 8, 3)).astype("float32")


class TakesTraining(keras.layers.Layer):
    """Passes the argument on, as layers of other packages do, and has no use for it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = keras.layers.Conv2D(2, 3)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x, training=None):
        return self.inner(x, training=training)


class DropsBranches(keras.layers.Layer):
    """Stochastic depth, which does nothing at a rate of 0."""

    def __init__(self, rate, **options):
        super().__init__(**options)
        self.rate, self.seed = rate, keras.random.SeedGenerator(0)

    def call(self, x, training=None):
        if not training or self.rate == 0:
            return x
        keep = keras.random.uniform((keras.ops.shape(x)[0], 1, 1, 1), seed=self.seed) > self.rate
        return x * keras.ops.cast(keep, x.dtype)


class HalfOfAll(keras.layers.Dropout):
    """Of a class of Keras' own."""


def model_of(*layers):
    image = x = keras.Input((8, 8, 3))
    for layer in (keras.layers.Conv2D(2, 3, name="first"), *layers):
        x = layer(x)
        layer.trainable = False
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(2, name="head")(x))


def names(model):
    return {layer.name for layer in model.layers}


@pytest.mark.parametrize("make", [TakesTraining, lambda name: DropsBranches(0.0, name=name)])
def test_what_does_the_same_in_training_is_computed_once(make):
    assert {"first", "mine"} <= names(split(model_of(make(name="mine")), [IMAGES]).prefix)


@pytest.mark.parametrize(
    "make", [lambda name: DropsBranches(0.5, name=name), lambda name: HalfOfAll(0.5, name=name)]
)
def test_what_does_not_is_run_every_time(make):
    parts = split(model_of(make(name="mine")), [IMAGES])
    assert "first" in names(parts.prefix)
    assert "mine" in names(parts.tail)


@pytest.mark.parametrize("make", [TakesTraining, lambda name: DropsBranches(0.5, name=name)])
def test_it_is_trained_as_keras_trains_it(make):
    def compiled():
        keras.utils.set_random_seed(0)
        model = model_of(make(name="mine"))
        model.compile(keras.optimizers.SGD(0.1), "mse")
        return model

    ours, theirs = compiled(), compiled()
    targets = np.random.default_rng(1).normal(size=(6, 2)).astype("float32")
    arguments = {"batch_size": 3, "epochs": 2, "shuffle": False, "verbose": 0}
    expected = theirs.fit(IMAGES, targets, **arguments).history["loss"]
    received = tw.fit(ours, IMAGES, targets, **arguments).history["loss"]
    np.testing.assert_allclose(received, expected, rtol=1e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_what_draws_numbers_without_using_them_changes_its_state():
    class Draws(DropsBranches):
        def call(self, x, training=None):
            keras.random.uniform((1,), seed=self.seed)
            return x

    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 3)(Draws(0.0, name="mine")(image))
    with pytest.raises(NotSplittable, match=r"'mine' \(Draws\) changes its own state"):
        split(keras.Model(image, x), [IMAGES])
