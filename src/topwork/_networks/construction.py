"""Making a network of `keras.applications`: its options, its shape, its preprocessing in front."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras

from topwork._errors import InputError, closest, whole_number
from topwork._networks.applications import Application
from topwork._networks.channels import construct, scaled_channels, scaling_layers
from topwork._private_keras import names_from_zero

_CHOSEN_BY_TOPWORK = {
    "dropout": "a backbone has none that is active, and the head has its own: add_head(dropout=...)",
    "dropout_rate": "a backbone has none that is active, and the head has its own: add_head(dropout=...)",
    "include_preprocessing": "the network does its own scaling, and takes images of 0 to 255",
    "include_top": "cut_layer decides it: name a layer of the top to have the top",
    "input_tensor": "topwork makes the input; use input_shape and preprocess",
    "pooling": "it belongs to the head: add_head(pooling=...)",
}


def checked_shape(shape: Any, application: Application) -> tuple[int, int, int]:
    """The shape of an image, if it can be one; None: as the network was trained."""
    if shape is None:
        return (application.size, application.size, 3)
    sizes = tuple(whole_number(n) or 0 for n in shape) if hasattr(shape, "__len__") else ()
    if len(sizes) != 3 or min(sizes) < 1:
        raise InputError(
            "input_shape is (height, width, channels), whole numbers of at least 1, such as "
            f"({application.size}, {application.size}, 3). Received: {shape!r}."
        )
    if sizes[0] in (1, 3) and sizes[2] > 4:
        raise InputError(
            f"the channels come last in input_shape, (height, width, channels). Received: {shape!r}. "
            f"Write {(sizes[1], sizes[2], sizes[0])}."
        )
    return sizes[0], sizes[1], sizes[2]


def check_options(application: Application, options: dict[str, Any]) -> None:
    """Raise for an option that Keras does not have, or that topwork chooses."""
    constructor = _constructor(application)
    valid = set(inspect.signature(constructor).parameters) - {"weights", "input_shape", "name", "kwargs"}
    for option in options:
        if option in _CHOSEN_BY_TOPWORK:
            raise InputError(f"the option {option!r} is not passed on; {_CHOSEN_BY_TOPWORK[option]}.")
        if option not in valid:
            raise InputError(
                f"keras.applications.{application.constructor} has no option "
                f"{option!r}. Closest: {closest(option, valid - set(_CHOSEN_BY_TOPWORK))}."
            )


def _constructor(application: Application) -> Callable[..., keras.Model]:
    return getattr(keras.applications, application.constructor)


def preprocessing(application: Application) -> Callable[[Any], Any]:
    """The network's own `preprocess_input`."""
    return getattr(keras.applications, application.module).preprocess_input


def build_application(
    application: Application,
    shape: tuple[int, int, int],
    preprocess: bool,
    arguments: dict[str, Any],
) -> keras.Model:
    """The network as Keras makes it, its preprocessing in front of it."""
    is_wide, constructor = shape[2] not in (1, 3), _constructor(application)
    layers = scaling_layers(constructor, shape, arguments) if is_wide else []
    with names_from_zero():
        image = keras.Input(shape, name="input_layer")  # the name that it gets by itself, fixed
        # On a symbolic tensor, preprocess_input becomes operations of the graph; they are not among
        # `model.layers`, so that the layers keep their indices.
        scaled = preprocessing(application)
        if is_wide:
            channels = scaled_channels(image, scaled) if preprocess else image
            return construct(constructor, channels, layers, arguments)
        colors = keras.ops.repeat(image, 3, axis=-1) if shape[2] == 1 else image
        pixels = scaled(colors) if preprocess else colors
        shape = (*shape[:2], 3)
        return constructor(input_tensor=pixels, input_shape=shape, **arguments)
