"""The inputs of a model: finding them in what the user gave, in their order, shape and type."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from topwork._data.arrays import as_arrays as as_arrays
from topwork._data.arrays import map_arrays as map_arrays
from topwork._data.ragged import array_of, is_ragged
from topwork._errors import InputError


def inputs_of(model: keras.Model, x: Any) -> list[Any]:
    """The images of a batch as a list of arrays, as the model receives them."""
    return as_received(model, inputs_in_order(model, map_arrays(array_of, x)))


def as_received(model: keras.Model, inputs: list[Any]) -> list[Any]:
    """The arrays in the shapes and types that the model receives them in."""
    return [
        array if array is None else _typed(in_shape(tensor, array), tensor.dtype)
        for tensor, array in zip(model.inputs, inputs, strict=True)
    ]


def _typed(array: Any, dtype: str) -> Any:
    if not is_ragged(array):
        return array.astype(dtype, copy=False)
    rows = np.empty(len(array), object)
    for i, row in enumerate(array):
        rows[i] = row.astype(dtype, copy=False)
    return rows


def inputs_in_order(model: keras.Model, x: Any) -> list[Any]:
    """The model's inputs in its own order, also where they come by name."""
    names = input_names(model)
    if isinstance(x, dict) and set(names) <= set(x):
        return [x[name] for name in names]
    flat = keras.tree.flatten(x)
    if len(flat) != len(names):
        raise InputError(
            f"{model.name!r} has {len(names)} inputs ({', '.join(names)}), and the data has "
            f"{len(flat)}. The images of one input are one array: np.stack(images)."
        )
    if isinstance(x, dict) and len(names) > 1:
        raise InputError(
            f"the inputs of {model.name!r} are named {', '.join(names)}. Received data for "
            f"{', '.join(map(str, x))}. Rename it, or pass a list in the order of the inputs."
        )
    return flat


def input_names(model: keras.Model) -> list[str]:
    """What the inputs are called in a dict of data, in the order of `model.inputs`."""
    structure = None if isinstance(model, keras.Sequential) else model.input
    if isinstance(structure, dict):
        return sorted(structure)  # as Keras flattens it
    return [tensor.name for tensor in model.inputs]


def in_shape(tensor: Any, value: Any) -> Any:
    """The array, with a last axis of 1 where that is left out; raise if its shape does not fit."""
    array = value
    if is_ragged(array):
        return _each_in_shape(tensor, array)
    if array.dtype.kind in "USO":
        first = next(iter(array.ravel().tolist()), None)
        raise InputError(
            f"the input {tensor.name!r} takes pixels. Received: an array of type {array.dtype}, the "
            f"first {first!r}. Files are read by topwork.data.read_folder, or by Keras' "
            "image_dataset_from_directory; or load them, keras.utils.load_img, and stack the arrays."
        )
    if array.ndim == len(tensor.shape) - 1 and tensor.shape[-1] == 1:
        array = array[..., np.newaxis]
    if not _fits(tensor.shape, array.shape):
        raise InputError(
            f"the input {tensor.name!r} takes batches of shape {tuple(tensor.shape)}. Received: "
            f"{tuple(value.shape)}. {_advice(tuple(tensor.shape), tuple(value.shape))}"
        )
    return array


def _each_in_shape(tensor: Any, rows: Any) -> Any:
    checked = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        checked[i] = in_shape(tensor, row[np.newaxis])[0]
    return checked


def _fits(expected: Any, received: Any) -> bool:
    return len(expected) == len(received) and all(
        size in (None, other) for size, other in zip(expected[1:], received[1:], strict=True)
    )


def _advice(expected: tuple[Any, ...], received: tuple[int, ...]) -> str:
    """What to do about images of another shape: it depends on the axis that differs."""
    if len(expected) == 4 and _fits(expected[1:], received):
        return "It is a single image: give it an axis of its own, image[np.newaxis]."
    if len(expected) == 4 and len(received) == 3 and _fits(expected[:3], received):
        return _channels(1, expected[-1])
    if len(expected) != 4 or len(received) != 4:
        return "Give it the axes that are missing, or take away those that are too many."
    if expected[-1] not in (None, received[-1]):
        is_channels_first = received[1] == expected[-1] and received[-1] > 4
        if is_channels_first:
            return "The channels come first: move them to the end, np.moveaxis(images, 1, -1)."
        return _channels(received[-1], expected[-1])
    return (
        "Resize the images, keras.layers.Resizing(height, width), or build the backbone for their size, "
        "load_backbone(..., input_shape=...)."
    )


def _channels(received: int, expected: int) -> str:
    if expected == 3 and received == 1:
        repeated = "np.repeat(images[..., np.newaxis] if images.ndim == 3 else images, 3, axis=-1)"
        return f"The images are grey, and the model takes colours: repeat the channel, {repeated}."
    if received == 4:
        return (
            f"If the fourth channel is alpha, leave it out, images[..., :{expected}]. If not, build the "
            "backbone for four, load_backbone(..., input_shape=(height, width, 4))."
        )
    return (
        f"The images have {received} channels, and the model takes {expected}: convert them, or build "
        f"the backbone for them, load_backbone(..., input_shape=(height, width, {received}))."
    )
