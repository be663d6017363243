"""Graphs drawn at random, trained by `model.fit` and by `tw.fit`: the same numbers.

`TOPWORK_FUZZ` says how many are drawn in the slow test; 500 if it does not.
"""

from __future__ import annotations

import os
import random
import warnings
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import topwork as tw
from topwork._features.split import NotSplittable, split

# Trained and validated on one small set of images; test_shared_images.py looks at what is said of that.
pytestmark = pytest.mark.filterwarnings("ignore:.*training data (too|itself)")

N_IMAGES, SIZE = 12, 6
N_SLOW = int(os.environ.get("TOPWORK_FUZZ", "500"))


MAP_STEPS = ["conv", "conv", "norm", "group", "shared", "nested", "sequential", "plain", "add"]
MAP_STEPS += ["loss", "random", "layernorm", "off", "mean", "getitem", "depthwise", "noise"]


class AddsToTheLoss(layers.Layer):
    def call(self, x: Any) -> Any:
        self.add_loss(0.1 * ops.mean(ops.square(ops.cast(x, "float32"))))
        return x


class Graph:
    """A recipe that builds the same model whenever it is called."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.names = 0

    def pick(self, *options: Any) -> Any:
        return self.rng.choice(options)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def build(self) -> keras.Model:
        keras.config.set_dtype_policy(
            self.pick("float32", "float32", "float32", "float64", "mixed_bfloat16")
        )
        try:
            return self._build()
        finally:
            keras.config.set_dtype_policy("float32")

    def _build(self) -> keras.Model:
        frozen_share = self.pick(0.5, 0.8, 1.0)
        inputs = [keras.Input((SIZE, SIZE, 3), name=f"image_{i}") for i in range(self.pick(1, 1, 2))]
        maps = list(inputs)
        shared = layers.Conv2D(3, 3, padding="same", trainable=not self.chance(frozen_share))
        for _ in range(self.pick(2, 3, 5)):
            maps.append(self.map_step(self.pick(*maps), shared, frozen_share))
        vectors = [layers.GlobalAveragePooling2D(dtype="float32")(m) for m in self.rng.sample(maps, 2)]
        vectors.append(layers.Flatten(dtype="float32")(maps[-1]))
        for image in inputs:
            vectors.append(layers.Flatten(dtype="float32")(layers.MaxPooling2D(3)(image)))
        x = layers.Concatenate(dtype="float32")(vectors)
        for _ in range(self.pick(0, 1, 2)):
            x = self.vector_step(x)
        return self.compiled(inputs, x)

    def map_step(self, x: Any, shared: Any, frozen_share: float) -> Any:
        trainable = not self.chance(frozen_share)
        kind = self.pick(*MAP_STEPS)
        if kind == "conv":
            regularizer = self.pick(None, None, keras.regularizers.L2(0.01))
            return layers.Conv2D(3, 3, padding="same", activation=self.pick(None, "relu", "tanh"),
                                 kernel_regularizer=regularizer, trainable=trainable)(x)  # fmt: skip
        if kind == "depthwise":
            return layers.DepthwiseConv2D(3, padding="same", trainable=trainable)(x)
        if kind == "norm":
            return layers.BatchNormalization(trainable=trainable, momentum=0.9)(x)
        if kind == "group":
            return layers.GroupNormalization(3, trainable=trainable)(x)
        if kind == "layernorm":
            return layers.LayerNormalization(trainable=trainable)(x)
        if kind == "shared":
            return shared(x)
        if kind in ("nested", "sequential"):
            return self.nested(x, kind, trainable)
        if kind == "plain":
            return (x - 0.5) * 2.0
        if kind == "add":
            return layers.Add()([x, layers.Conv2D(3, 1, trainable=trainable)(x)])
        if kind == "mean":
            return x - ops.mean(x, axis=self.pick(0, (1, 2), -1), keepdims=True)
        if kind == "getitem":
            return x[..., ::-1]
        if kind == "noise":
            return layers.GaussianNoise(0.0)(x)
        if kind == "loss":
            return AddsToTheLoss()(x)
        if kind == "random":
            return layers.SpatialDropout2D(0.2, seed=3)(x)
        return layers.Dropout(0.0)(x)

    def nested(self, x: Any, kind: str, trainable: bool) -> Any:
        inner = [layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
        if kind == "sequential":
            model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), *inner])
        else:
            image = keras.Input((SIZE, SIZE, 3))
            y = image
            for layer in inner:
                y = layer(y)
            model = keras.Model(image, layers.Add()([image, y]))
        model.trainable = trainable
        training = self.pick("not said", None, False, True)
        return model(x) if training == "not said" else model(x, training=training)

    def vector_step(self, x: Any) -> Any:
        kind = self.pick("dense", "dense", "norm", "activity", "layernorm", "dropout", "noise", "loss")
        if kind == "dropout":
            return layers.Dropout(0.3, seed=1, dtype="float32")(x)
        if kind == "noise":
            return layers.GaussianNoise(0.1, seed=2, dtype="float32")(x)
        if kind == "loss":
            return AddsToTheLoss(dtype="float32")(x)
        if kind == "norm":
            return layers.BatchNormalization(momentum=0.9, dtype="float32")(x)
        if kind == "layernorm":
            return layers.LayerNormalization(dtype="float32")(x)
        regularizer = "l2" if kind == "activity" else None
        return layers.Dense(5, activation="tanh", activity_regularizer=regularizer, dtype="float32")(x)

    def compiled(self, inputs: Any, x: Any) -> keras.Model:
        kind = layers.Dense(3, activation="softmax", name="kind", dtype="float32")(x)
        self.n_outputs = self.pick(1, 1, 2)
        if self.n_outputs == 1:
            model = keras.Model(inputs, kind)
            loss: Any = "sparse_categorical_crossentropy"
            metrics: Any = self.pick(
                ["accuracy"], [keras.metrics.SparseCategoricalAccuracy(name="acc")], None
            )
            loss_weights = None
        else:
            model = keras.Model(inputs, [kind, layers.Dense(1, name="age", dtype="float32")(x)])
            loss = ["sparse_categorical_crossentropy", self.pick("mse", "mae")]
            metrics = self.pick(None, [["accuracy"], ["mae"]])
            loss_weights = self.pick(None, [1.0, 0.3])
        model.compile(self.optimizer(), loss, metrics=metrics, loss_weights=loss_weights,
                      weighted_metrics=None, jit_compile=False)  # fmt: skip
        return model

    def optimizer(self) -> keras.optimizers.Optimizer:
        rate: Any = self.pick(0.01, keras.optimizers.schedules.CosineDecay(0.01, 6))
        options: dict[str, Any] = self.pick(
            {}, {}, {"clipnorm": 0.5}, {"use_ema": True, "ema_overwrite_frequency": 2},
            {"gradient_accumulation_steps": 2}, {"weight_decay": 0.01}, {"global_clipnorm": 1.0},
        )  # fmt: skip
        if self.chance(0.5):
            return keras.optimizers.SGD(rate, momentum=0.9, **options)
        return keras.optimizers.AdamW(rate, epsilon=1e-3, **{"weight_decay": 0.004, **options})

    def arguments(self) -> dict[str, Any]:
        rng = np.random.default_rng(self.rng.randrange(2**31))
        weights = self.pick(None, None, rng.uniform(0, 2, N_IMAGES))
        class_weight = self.pick(None, {0: 1.0, 1: 3.0, 2: 0.5}) if self.n_outputs == 1 else None
        return {
            "batch_size": self.pick(3, 5, 12),
            "epochs": self.pick(1, 2),
            "sample_weight": weights,
            "class_weight": class_weight if weights is None else None,
            "validation_split": self.pick(0.0, 0.25),
            "shuffle": False,
            "verbose": 0,
        }


def check(seed: int) -> bool:
    """Compare both ways on one graph; whether something was computed once."""
    graph, models = None, []
    for _ in range(2):
        keras.utils.set_random_seed(seed)
        graph = Graph(seed)
        models.append(graph.build())
    by_keras, by_us = models
    arguments = graph.arguments()
    rng = np.random.default_rng(seed)
    x = [rng.uniform(0, 1, (N_IMAGES, SIZE, SIZE, 3)).astype("float32") for _ in by_us.inputs]
    y: Any = np.arange(N_IMAGES) % 3
    if graph.n_outputs == 2:
        y = [y, rng.normal(size=N_IMAGES).astype("float32")]
    try:
        split(by_us, x)
        is_split = True
    except NotSplittable:
        is_split = False
    keras.utils.set_random_seed(seed)
    try:
        by_keras.fit(x if len(x) > 1 else x[0], y, **arguments)
    except TypeError:  # Keras adds losses of float32 and float64
        return False
    keras.utils.set_random_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of topwork, that says what is trained plainly
        tw.fit(by_us, x if len(x) > 1 else x[0], y, **arguments)
    is_exact = all(weight.dtype == "float32" for weight in by_us.weights) and not any(
        layer.compute_dtype == "bfloat16" for layer in by_us.layers
    )
    tolerance = {"rtol": 2e-4, "atol": 5e-6} if is_exact else {"rtol": 5e-2, "atol": 1e-2}
    for name, values in by_keras.history.history.items():
        np.testing.assert_allclose(by_us.history.history[name], values, **tolerance, err_msg=name)
    for a, b in zip(by_keras.weights, by_us.weights, strict=True):
        np.testing.assert_allclose(np.array(b), np.array(a), **tolerance, err_msg=f"{seed} {a.path}")
    scores = [m.evaluate(x if len(x) > 1 else x[0], y, verbose=0) for m in (by_us, by_keras)]
    np.testing.assert_allclose(*scores, **tolerance)
    return is_split


@pytest.mark.parametrize("seed", range(2))
def test_a_few_graphs(seed: int) -> None:
    check(seed)


@pytest.mark.thorough
def test_some_graphs() -> None:
    assert sum(map(check, range(10, 22))) >= 4


@pytest.mark.slow
def test_many_graphs() -> None:
    assert sum(map(check, range(1000, 1000 + N_SLOW))) >= N_SLOW // 4
