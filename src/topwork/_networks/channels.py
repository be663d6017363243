"""Networks for images of more channels than three, or of two.

Channel i is treated as colour i modulo 3: it is scaled as that colour is, and has its part of the first
kernel, times 3 / channels, so that what the first layer gives is as large as before. This is how timm
does it (`adapt_input_conv` in timm/models/_manipulate.py,
https://github.com/huggingface/pytorch-image-models).
"""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from topwork._networks.variables import give_weights
from topwork._private_keras import names_from_zero

Array = npt.NDArray[Any]

_COLOURS = 3


def colour_scaling(preprocess: Callable[[Any], Any]) -> tuple[list[int], Array, Array]:
    """What a `preprocess_input` does to each colour, found by applying it to a black and a full pixel.

    Returns:
        The place that red, green and blue are put at, what each is multiplied by, and what is added.
    """
    black = np.asarray(preprocess(np.zeros((1, 1, 1, _COLOURS))))[0, 0, 0]
    places, scales, offsets = [], [], []
    for colour in range(_COLOURS):
        pixel = np.zeros((1, 1, 1, _COLOURS))
        pixel[..., colour] = 255.0
        change = np.asarray(preprocess(pixel))[0, 0, 0] - black
        place = int(np.abs(change).argmax())
        places.append(place)
        scales.append(change[place] / 255)
        offsets.append(black[place])
    return places, np.array(scales), np.array(offsets)


def scaled_channels(image: Any, preprocess: Callable[[Any], Any]) -> Any:
    """The channels of a symbolic image, each scaled as the colour that it is treated as."""
    _, scales, offsets = colour_scaling(preprocess)
    which = np.arange(image.shape[-1]) % _COLOURS
    scale, offset = scales[which], offsets[which]
    if (scale == 1).all() and not offset.any():
        return image
    # Not as a product and a sum: layers of the networks are named after those, in the order that they
    # are made in.
    centred = keras.ops.subtract(image, (-offset / scale).astype("float32"))
    return keras.ops.divide(centred, (1 / scale).astype("float32"))


def scaling_layers(constructor: Callable[..., keras.Model], shape: Any, options: Any) -> list[Any]:
    """The scaling layers that a network begins with for three channels, for as many as in `shape`.

    None where it makes them for any number of channels itself.
    """
    if "include_preprocessing" not in inspect.signature(constructor).parameters:
        return []
    with names_from_zero():
        arguments = {**options, "include_top": False, "weights": None}
        colours = constructor(input_shape=(*shape[:2], _COLOURS), **arguments)
    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    first = itertools.takewhile(lambda layer: isinstance(layer, kinds), colours.layers[1:])
    return [_widened_layer(layer, shape[2]) for layer in first]


def construct(
    constructor: Callable[..., keras.Model], pixels: Any, layers: list[Any], arguments: dict[str, Any]
) -> keras.Model:
    """The network for more channels.

    Args:
        constructor: Of `keras.applications`.
        pixels: A symbolic image.
        layers: From `scaling_layers`.
        arguments: For the constructor.
    """
    if "include_preprocessing" in inspect.signature(constructor).parameters:
        arguments = {**arguments, "include_preprocessing": False}
    for layer in layers:
        pixels = layer(pixels)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This model usually expects 1 or 3 input channels")
        return constructor(input_tensor=pixels, input_shape=pixels.shape[1:], **arguments)


def _widened_layer(layer: keras.Layer, n_channels: int) -> keras.Layer:
    """A layer that scales each channel as the one given scales its colour."""
    config = layer.get_config()
    for name in ("scale", "offset", "mean", "variance"):
        values = np.ravel(config[name]) if config.get(name) is not None else np.empty(0)
        if len(values) == _COLOURS:
            config[name] = values[np.arange(n_channels) % _COLOURS].tolist()
    return type(layer).from_config(config)


def take_weights(wide: keras.Model, colours: keras.Model, places: list[int]) -> None:
    """Give a network for more channels the weights of the one for three.

    Args:
        wide: The network.
        colours: The same for three channels.
        places: Where the first layer finds red, green and blue.

    """
    n_channels = int(wide.inputs[0].shape[-1])
    rows = [places[i % _COLOURS] for i in range(n_channels)]
    by_name = {layer.name: layer for layer in colours.layers}
    for layer in wide.layers:
        given = by_name[layer.name].get_weights()
        widened = [_widened(a, tuple(b.shape), rows) for a, b in zip(given, layer.weights, strict=True)]
        give_weights(layer, widened)


def _widened(values: Array, shape: tuple[int, ...], rows: list[int]) -> Array:
    """Of a kernel the rows of all channels, made smaller; of what is known of each channel, as it is."""
    if values.shape == shape:
        return values
    axis = next(i for i, sizes in enumerate(zip(values.shape, shape, strict=True)) if len(set(sizes)) > 1)
    wide = np.take(values, rows, axis=axis)
    return wide * (_COLOURS / len(rows)) if values.ndim > 1 else wide
