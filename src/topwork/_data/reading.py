"""What the user gave as data, understood once: a `Source` that can be read, whatever it is kept in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from topwork._data.data_sets import open_data_set
from topwork._data.inputs import as_arrays as as_arrays
from topwork._data.inputs import as_received, in_shape, inputs_in_order, map_arrays
from topwork._data.origin import class_names_of
from topwork._data.pairs import refuse_pairs, refuse_place
from topwork._data.source import Batch as Batch
from topwork._data.source import Source as Source
from topwork._data.source import check_lengths, unpacked
from topwork._errors import InputError
from topwork._networks.graph import has_graph

# Arrays are read in batches of this size; Keras' own default.
DEFAULT_BATCH_SIZE = 32


def open_source(
    model: keras.Model, x: Any, y: Any = None, sample_weight: Any = None, *, steps: int | None = None
) -> Source:
    """Find out what the data is kept in.

    Args:
        model: A model whose inputs are known.
        x: Images, or a data set; (images, labels) too where `y` is left out.
        y: Labels, if `x` is arrays.
        sample_weight: Likewise.
        steps: The batches of an epoch, if the user gave them: the data may be endless then.

    Raises:
        InputError: The data is of no kind that can be read, is endless or not batched, or does not
            fit the inputs of the model.
    """
    refuse_place(x, "x")
    kind, opened = open_data_set(model, x, steps)
    if opened is not None:
        _refuse_separate(y, sample_weight, kind)
        return dataclasses.replace(opened, images=(x,), class_names=class_names_of(x))
    if x is None or callable(x) or hasattr(x, "__next__"):
        raise InputError(
            "x must be NumPy arrays, a batched tf.data.Dataset, a keras.utils.PyDataset or a generator "
            f"function that yields batches. Received: {type(x).__name__}. Of a generator pass the "
            "function that makes it: the data is read more than once."
        )
    rank = len(model.inputs[0].shape)
    refuse_pairs(x, rank, "x")
    x, y, sample_weight = unpacked(model, x, y, sample_weight)
    refuse_pairs(x, rank, "x")
    return _from_arrays(model, x, y, sample_weight)


def build_sequential(model: Any, x: Any) -> None:
    """Build a Sequential model without a `keras.Input` for the images in `x`, as Keras' fit does."""
    if not isinstance(model, keras.Sequential) or has_graph(model) or not model.layers:
        return
    if isinstance(x, tf.data.Dataset):
        x = keras.utils.unpack_x_y_sample_weight(x.element_spec)[0]
    elif isinstance(x, keras.utils.PyDataset):
        x = keras.utils.unpack_x_y_sample_weight(x[0])[0]
    images = next(iter(keras.tree.flatten(x)), None)
    shape = getattr(images, "shape", None)
    if shape is not None and len(shape) > 1:
        model.build((None, *shape[1:]))


def _refuse_separate(y: Any, sample_weight: Any, kind: str) -> None:
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise InputError(
                f"a {kind} brings its own labels and weights, as (images, labels[, weights]). "
                f"Received: {name} as well. Leave {name} out."
            )


def _check_one_array(model: keras.Model, y: Any, n_images: int) -> None:
    """Raise for a list with an array for each image, which Keras takes as one for each output."""
    if isinstance(y, tuple) and y and all(part is None for part in y):
        raise InputError(f"all {len(y)} labels in y are None. Pass a label for each image.")
    if isinstance(y, tuple) and len(y) == n_images != len(model.outputs):
        raise InputError(
            f"y is a list of {n_images} arrays, one for each image, and the labels of an output are one "
            "array: np.stack(y)."
        )


def _from_arrays(model: keras.Model, x: Any, y: Any, sample_weight: Any) -> Source:
    names = ("x", "y", "sample_weight")
    given = tuple(map(as_arrays, (x, y, sample_weight), names))
    if not any(part is not None for part in keras.tree.flatten(given[0])):
        raise InputError("there are no images: x is None.")
    inputs = [
        array if array is None else in_shape(tensor, array)
        for tensor, array in zip(model.inputs, inputs_in_order(model, given[0]), strict=True)
    ]
    whole = Batch(inputs, *given[1:])
    n_images = len(whole)
    if n_images == 0:
        raise InputError("there are no images: x is empty.")
    _check_one_array(model, given[1], n_images)
    check_lengths(whole, "x")

    def batches() -> Iterator[Batch]:
        for start in range(0, n_images, DEFAULT_BATCH_SIZE):
            stop = start + DEFAULT_BATCH_SIZE
            part = map_arrays(lambda array: array[start:stop], vars(whole))  # noqa: B023
            yield Batch(as_received(model, part.pop("inputs")), **part)

    n_batches = -(-n_images // DEFAULT_BATCH_SIZE)
    left_out = "an optional input is left out" if any(each is None for each in inputs) else None
    return Source(
        batches,
        n_batches,
        is_in_memory=True,
        given=given,
        images=tuple(keras.tree.flatten(x)),
        only_plainly=left_out,
    )
