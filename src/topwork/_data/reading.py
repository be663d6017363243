"""Reading a data set once, whatever it is kept in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Arrays are read in batches of this size; Keras' own default.
DEFAULT_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images of one batch as a list of arrays, one for each input of the model, with what they are."""

    inputs: list[Any]
    y: Any
    sample_weight: Any

    def __len__(self) -> int:
        return len(self.inputs[0])


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set that can be read.

    Attributes:
        batches: Reads it from its beginning.
        n_batches: How many batches there are, None where that is not known before.
        is_in_memory: Whether reading costs next to nothing.
    """

    batches: Callable[[], Iterator[Batch]]
    n_batches: int | None
    is_in_memory: bool = False


def open_source(model: keras.Model, x: Any, y: Any = None, sample_weight: Any = None) -> Source:
    """Find out what the data is kept in.

    Raises:
        ValueError: The data is of no kind that can be read, is endless or not batched, or does not
            fit the inputs of the model.
    """
    if isinstance(x, tf.data.Dataset):
        _refuse_separate(y, sample_weight, "tf.data.Dataset")
        return _from_dataset(model, x)
    if isinstance(x, keras.utils.PyDataset):
        _refuse_separate(y, sample_weight, "keras.utils.PyDataset")
        return _from_py_dataset(model, x)
    if x is None or callable(x) or hasattr(x, "__next__"):
        raise ValueError(
            "fit: x must be NumPy arrays, a batched tf.data.Dataset or a keras.utils.PyDataset. "
            f"Received: {type(x).__name__}. A generator can be read only once, and its length is not "
            "known; wrap it in tf.data.Dataset.from_generator(...).batch(32)."
        )
    return _from_arrays(model, x, y, sample_weight)


def _refuse_separate(y: Any, sample_weight: Any, kind: str) -> None:
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(
                f"fit: a {kind} brings its own labels and weights, as (images, labels[, weights]). "
                f"Received: {name} as well. Leave {name} out."
            )


def _from_dataset(model: keras.Model, dataset: tf.data.Dataset) -> Source:
    n_batches = int(dataset.cardinality())
    if n_batches == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "fit: the dataset is endless (it was repeated), and what is frozen is computed once for "
            "all of it. Leave out .repeat(), or bound it with .take(n_batches)."
        )
    spec = keras.utils.unpack_x_y_sample_weight(dataset.element_spec)[0]
    shapes = [item.shape for item in inputs_in_order(model, spec)]
    if all(
        shape.rank is not None and shape.is_compatible_with(tensor.shape[1:])
        for shape, tensor in zip(shapes, model.inputs, strict=True)
    ):
        raise ValueError(
            "fit: the dataset is not batched: its elements are single images of shape "
            f"{shapes[0]}. Batch it: dataset.batch(32)."
        )

    def batches() -> Iterator[Batch]:
        for element in dataset.prefetch(2):
            yield _batch(model, element)

    return Source(batches, n_batches if n_batches >= 0 else None)


def _from_py_dataset(model: keras.Model, dataset: keras.utils.PyDataset) -> Source:
    n_batches = getattr(dataset, "num_batches", None)
    if n_batches is None:
        raise ValueError(
            "fit: the PyDataset is endless (its num_batches is None), and what is frozen is computed "
            "once for all of it. Define __len__, the number of batches."
        )

    def batches() -> Iterator[Batch]:
        with ThreadPoolExecutor(max(1, dataset.workers)) as pool:
            ahead = max(1, min(dataset.max_queue_size, n_batches))
            waiting = [pool.submit(dataset.__getitem__, i) for i in range(ahead)]
            for i in range(n_batches):
                element = waiting.pop(0).result()
                if i + ahead < n_batches:
                    waiting.append(pool.submit(dataset.__getitem__, i + ahead))
                yield _batch(model, element)

    return Source(batches, n_batches)


def _from_arrays(model: keras.Model, x: Any, y: Any, sample_weight: Any) -> Source:
    inputs = [
        _in_shape(tensor, array)
        for tensor, array in zip(model.inputs, inputs_in_order(model, as_arrays(x)), strict=True)
    ]
    whole = Batch(inputs, as_arrays(y), as_arrays(sample_weight))
    n_images = len(whole)
    if n_images == 0:
        raise ValueError("fit: there is nothing to train on: x has no images.")
    for name, part in (("y", whole.y), ("sample_weight", whole.sample_weight), ("x", whole.inputs)):
        for array in keras.tree.flatten(part):
            if array is not None and len(array) != n_images:
                raise ValueError(
                    f"fit: x has {n_images} images, and {name} has {len(array)}. Each image needs one."
                )

    def batches() -> Iterator[Batch]:
        for start in range(0, n_images, DEFAULT_BATCH_SIZE):
            element = _map_arrays(
                lambda array: array[start : start + DEFAULT_BATCH_SIZE],  # noqa: B023
                (whole.inputs, whole.y, whole.sample_weight),
            )
            yield Batch(_as_received(model, element[0]), *element[1:])

    n_batches = -(-n_images // DEFAULT_BATCH_SIZE)
    return Source(batches, n_batches, is_in_memory=True)


def as_arrays(value: Any) -> Any:
    """The structure with NumPy arrays in it; 64-bit floats become Keras' float, as in `model.fit`.

    A list of plain numbers is one array.
    """

    def convert(leaf: Any) -> Any:
        array = np.asarray(leaf)
        return array.astype(keras.config.floatx()) if array.dtype == np.float64 else array

    if isinstance(value, (list, tuple)) and all(map(np.isscalar, keras.tree.flatten(value))):
        return convert(value)
    return _map_arrays(convert, value)


def _map_arrays(function: Callable[[Any], Any], value: Any) -> Any:
    return keras.tree.map_structure(lambda leaf: None if leaf is None else function(leaf), value)


def _batch(model: keras.Model, element: Any) -> Batch:
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(element)
    return Batch(inputs_of(model, x), _map_arrays(np.asarray, y), _map_arrays(np.asarray, sample_weight))


def _as_received(model: keras.Model, inputs: list[Any]) -> list[Any]:
    """The arrays in the shapes and types that the model receives them in."""
    return [
        _in_shape(tensor, array).astype(tensor.dtype, copy=False)
        for tensor, array in zip(model.inputs, inputs, strict=True)
    ]


def inputs_of(model: keras.Model, x: Any) -> list[Any]:
    """The images of a batch as a list of arrays, as the model receives them."""
    return _as_received(model, inputs_in_order(model, _map_arrays(np.asarray, x)))


def inputs_in_order(model: keras.Model, x: Any) -> list[Any]:
    """The model's inputs in its own order, also where they come by name."""
    names = _input_names(model)
    if isinstance(x, dict) and set(names) <= set(x):
        return [x[name] for name in names]
    flat = keras.tree.flatten(x)
    if len(flat) != len(names):
        raise ValueError(
            f"fit: {model.name!r} has {len(names)} inputs ({', '.join(names)}), and the data has "
            f"{len(flat)}. The images of one input are one array: np.stack(images)."
        )
    if isinstance(x, dict) and len(names) > 1:
        raise ValueError(
            f"fit: the inputs of {model.name!r} are named {', '.join(names)}. Received data for "
            f"{', '.join(map(str, x))}. Rename it, or pass a list in the order of the inputs."
        )
    return flat


def _input_names(model: keras.Model) -> list[str]:
    """What the inputs are called in a dict of data, in the order of `model.inputs`."""
    structure = None if isinstance(model, keras.Sequential) else model.input
    if isinstance(structure, dict):
        return sorted(structure)  # as Keras flattens it
    return [tensor.name for tensor in model.inputs]


def _in_shape(tensor: Any, value: Any) -> Any:
    """The array, with a last axis of 1 where that is left out; raise if its shape does not fit."""
    array = value
    if array.ndim == len(tensor.shape) - 1 and tensor.shape[-1] == 1:
        array = array[..., np.newaxis]
    expected = tensor.shape[1:]
    fits = array.ndim == len(tensor.shape) and all(
        size in (None, received) for size, received in zip(expected, array.shape[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"fit: the input {tensor.name!r} takes batches of shape {tuple(tensor.shape)}. Received: "
            f"{tuple(value.shape)}. Resize the images, keras.layers.Resizing(height, width), or build "
            "the backbone for their size, load_backbone(..., input_shape=...)."
        )
    return array
