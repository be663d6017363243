"""Weights given to a layer or a network from memory, as a file would give them; what is frozen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from topwork._networks.graph import sublayers
from topwork._private_keras import inner_layers


@contextlib.contextmanager
def restored(variables: Iterable[Any]) -> Iterator[list[Any]]:
    """Give variables the values back that they have now; gives these values."""
    variables = list(variables)
    before = [np.array(variable) for variable in variables]
    try:
        yield before
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def give_weights(target: keras.Layer, weights: Sequence[Any]) -> None:
    """`set_weights`, after which a `Normalization` layer computes with what it was given.

    Keras makes it read its mean and variance when it is adapted and when a file is loaded, and not when
    its weights are set: it would go on computing with those that it had before.
    """
    target.set_weights(weights)
    layers = sublayers(target.layers) if isinstance(target, keras.Model) else [target]
    for layer in layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def set_trainable(layer: keras.Layer, value: bool) -> None:
    """Freeze or thaw a layer with all layers inside of it.

    Keras passes a mark on to the layers inside only where it changes (3.10 to 3.15, on TensorFlow): a
    layer that is marked already would keep inside whatever was set there, or a file brought back.
    """
    for each in (layer, *inner_layers(layer, recursive=True)):
        each.trainable = not value
        each.trainable = value
