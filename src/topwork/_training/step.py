"""Letting Keras train the user's own model on features: only its step runs the tail."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from topwork._features.table import frontier_of
from topwork._private_keras import compilation

_STEPS = ("train_step", "test_step")
# Functions that Keras compiled from the steps and caches. They would be used for the other steps.
_FUNCTIONS = ("train_function", "test_function")


@contextlib.contextmanager
def takes_features(model: keras.Model, tail: Callable[..., Any]) -> Iterator[None]:
    """Let `model.fit` and `model.evaluate` take features of the frontier, beside images.

    All else is Keras' own, and the model's: its loop, callbacks, metrics, losses and optimizer. A batch
    of anything but features, such as images that a callback evaluates on, goes through the whole model.

    Args:
        model: A compiled model. As it was at the end, whatever happens.
        tail: What of the model comes after the frontier, `tail(features, training=...)`; shares its
            layers.
    """
    stand_in = _StandIn(model, tail)
    compiled, functions = compilation(model), {name: getattr(model, name) for name in _FUNCTIONS}
    for name in _FUNCTIONS:
        setattr(model, name, None)
    for name in _STEPS:
        setattr(model, name, _step(name, model, stand_in))
    try:
        yield
    finally:
        for name in _STEPS:
            delattr(model, name)
        same = compilation(model) is compiled
        for name in _FUNCTIONS:
            setattr(model, name, functions[name] if same else None)


def _step(name: str, model: keras.Model, stand_in: _StandIn) -> Any:
    own = getattr(type(model), name)

    def step(data: Any) -> Any:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return own(model if frontier_of(x) is None else stand_in, data)

    return step


class _StandIn:
    """The model, as Keras' own step sees it, but for its call: that is the call of the tail."""

    def __init__(self, model: keras.Model, tail: Callable[..., Any]) -> None:
        self._model, self._tail = model, tail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, x: Any, training: bool | None = None) -> Any:
        return self._tail(frontier_of(x), training=training)


def is_distributed(model: keras.Model) -> bool:
    """Whether the model was made under a distribution strategy."""
    return tf.distribute.has_strategy() or model.distribute_strategy is not tf.distribute.get_strategy()


def build_metrics(model: keras.Model, tail: keras.Model, batch: tuple[Any, ...]) -> None:
    """Create the variables of loss and metrics from a batch of features with labels.

    Under a distribution strategy Keras does so by calling the whole model on what it trains on.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    with model.distribute_strategy.scope():
        outputs = tail(frontier_of(x), training=False)
        model.compute_loss(x, y, outputs, sample_weight, training=False)
        model.compute_metrics(x, y, outputs, sample_weight)
        model.reset_metrics()
