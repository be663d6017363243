"""Letting Keras train the user's own model on features: only its step runs the tail."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import keras
import tensorflow as tf

from topwork._features.table import frontier_of
from topwork._private_keras import compilation, count_tracing_by_function

_STEPS = ("train_step", "test_step")
# Functions that Keras compiled from the steps and caches. They would be used for the other steps.
_FUNCTIONS = ("train_function", "test_function")
# Where a model keeps what was compiled for features: it lives as long as the model does.
_KEPT = "_topwork_compiled"


@dataclasses.dataclass
class _Compiled:
    """Steps that take features, and what Keras has compiled of them.

    Attributes:
        compilation: Of the model, which they were made for.
        tensors: Which tell the tail from others of the same model.
        steps: By their names.
        functions: By their names; None until they are compiled.
    """

    compilation: Any
    tensors: list[Any]
    steps: dict[str, Any]
    functions: dict[str, Any]

    def is_for(self, model: keras.Model, tensors: list[Any]) -> bool:
        """Whether they are for the model as it is compiled now, and the tail between these tensors."""
        same = len(tensors) == len(self.tensors) and all(map(operator.is_, tensors, self.tensors))
        return same and self.compilation is compilation(model)


def _compiled(model: keras.Model, tail: Callable[..., Any], frontier: Sequence[Any]) -> _Compiled:
    """What is kept on the model, if it is for the same tail; else new.

    A second `fit` of a model would otherwise trace its tail again, and TensorFlow keeps graphs for ever.
    """
    tensors = [*frontier, *model.outputs]
    kept = vars(model).get(_KEPT)
    if frontier and kept is not None and kept.is_for(model, tensors):
        return cast("_Compiled", kept)
    stand_in = _StandIn(model, tail)
    steps = {name: _step(name, model, stand_in) for name in _STEPS}
    return _Compiled(compilation(model), tensors, steps, dict.fromkeys(_FUNCTIONS))


@contextlib.contextmanager
def takes_features(
    model: keras.Model, tail: Callable[..., Any], frontier: Sequence[Any] = ()
) -> Iterator[None]:
    """Let `model.fit` and `model.evaluate` take features of the frontier, beside images.

    All else is Keras' own, and the model's: its loop, callbacks, metrics, losses and optimizer. A batch
    of anything but features, such as images that a callback evaluates on, goes through the whole model.

    Args:
        model: A compiled model. As it was at the end, whatever happens.
        tail: What of the model comes after the frontier, `tail(features, training=...)`; shares its
            layers.
        frontier: The tensors of the model that features are, by which the tail is known again; without
            them nothing is kept for the next time.
    """
    compiled = _compiled(model, tail, frontier)
    functions = {name: getattr(model, name) for name in _FUNCTIONS}
    for name, value in (compiled.functions | compiled.steps).items():
        setattr(model, name, value)
    make_functions(model)
    try:
        yield
    finally:
        for name in _STEPS:
            delattr(model, name)
        same = compilation(model) is compiled.compilation
        if frontier and same:
            compiled.functions = {name: getattr(model, name) for name in _FUNCTIONS}
            vars(model)[_KEPT] = compiled  # an attribute that is set would count as a part of the model
        for name in _FUNCTIONS:
            setattr(model, name, functions[name] if same else None)


def make_functions(model: keras.Model) -> None:
    """Let Keras make the functions that `fit` and `evaluate` run, each of which is counted by itself."""
    model.make_train_function()
    model.make_test_function()
    for name in _FUNCTIONS:
        count_tracing_by_function(getattr(model, name))


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
