"""The layer that Keras adds to EfficientNet for its published weights only."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from topwork._networks.variables import give_weights

_IMAGENET_DEVIATIONS = (0.229, 0.224, 0.225)


def has_imagenet_statistics(backbone: keras.Model) -> bool:
    variance = _normalization(backbone).get_weights()[1]
    return np.allclose(variance, _of_channels(len(variance)), atol=1e-3)


def _of_channels(n: int) -> list[float]:
    """The deviations of as many channels, each of which is treated as a colour."""
    return [_IMAGENET_DEVIATIONS[i % 3] for i in range(n)]


def _normalization(model: keras.Model) -> keras.layers.Normalization:
    return next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))


def rescaled(backbone: keras.Model) -> keras.Model:
    """`backbone` with the layer that Keras adds after the normalization for `weights="imagenet"`."""
    normalization = _normalization(backbone)
    n_channels = len(normalization.get_weights()[1])
    scale = [1 / math.sqrt(deviation) for deviation in _of_channels(n_channels)]

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if layer.name == normalization.name:
            outputs = keras.layers.Rescaling(scale, name="rescaling_1")(outputs)
        return outputs

    made = keras.models.clone_model(backbone, call_function=call)
    give_weights(made, backbone.get_weights())
    return made
