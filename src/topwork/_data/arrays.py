"""Images, labels and weights as arrays: what may be given as one, and what is none."""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._errors import InputError, described

DATA_SETS = (tf.data.Dataset, keras.utils.PyDataset)
_TEXTS = (str, bytes, os.PathLike)


def is_data_set(value: Any) -> bool:
    """Whether it gives batches by itself: a data set, or a function that makes a generator of them."""
    return isinstance(value, DATA_SETS) or callable(value)


def as_arrays(value: Any, name: str = "the data") -> Any:
    """The structure with NumPy arrays in it; 64-bit floats become Keras' float, as in `model.fit`.

    A list of single values is one array. Other lists become tuples, as Keras makes them: TensorFlow
    would stack what is in a list.

    Args:
        value: Arrays, tensors, columns of a table, lists.
        name: The argument, for messages.

    Raises:
        InputError: There is something in it that is no array.
    """
    if isinstance(value, (list, tuple)) and _is_of_single_values(value):
        return _as_array(value, name)
    return keras.tree.lists_to_tuples(map_arrays(lambda leaf: _as_array(leaf, name), value))


def map_arrays(function: Callable[[Any], Any], value: Any) -> Any:
    """`function` of all that is in a structure, None left as it is."""
    return keras.tree.map_structure(lambda leaf: None if leaf is None else function(leaf), value)


def _is_of_single_values(values: Any) -> bool:
    """Whether a list has numbers, texts or paths in it, some of which may be missing."""
    leaves = keras.tree.flatten(values)
    present = [leaf for leaf in leaves if leaf is not None]
    is_missing = not present and len(leaves) > 0
    return not is_missing and all(map(_is_single, present))


def _is_single(leaf: Any) -> bool:
    return np.isscalar(leaf) or isinstance(leaf, _TEXTS) or getattr(leaf, "shape", None) == ()


def _as_array(leaf: Any, name: str) -> Any:
    array = None if isinstance(leaf, (*_TEXTS, *DATA_SETS)) else _converted(leaf, name)
    if array is None or (array.ndim == 0 and array.dtype.kind in "OUS"):
        raise InputError(
            f"{name} must be an array, a tensor, or a list with an entry for each image. Received: "
            f"{described(leaf)}. {_advice(leaf)}"
        )
    array = with_numbers(array)
    return array.astype(keras.config.floatx()) if array.dtype == np.float64 else array


def _converted(leaf: Any, name: str) -> Any:
    is_column = hasattr(leaf, "to_numpy") and not hasattr(leaf, "__array__")
    try:
        return np.asarray(leaf.to_numpy() if is_column else leaf)
    except ValueError as error:
        if not isinstance(leaf, (list, tuple)):
            raise
        raise InputError(
            f"{name} is a list of {len(leaf)} rows, and they differ in length: that is no array. Of "
            "several labels an image make rows of 0 and 1, one for each label there is."
        ) from error


def with_numbers(array: Any) -> Any:
    """An array of objects that are all numbers, as one column of a mixed table is, as numbers."""
    if array.dtype != object or not array.size:
        return array
    values = array.ravel().tolist()
    if not all(isinstance(value, (numbers.Real, np.bool_)) for value in values):
        return array
    made = np.asarray(values)
    return made.reshape(array.shape) if made.dtype.kind in "biuf" else array


def _advice(leaf: Any) -> str:
    if isinstance(leaf, (set, frozenset)):
        return "A set has no order, and has equal entries once: pass the list that it was made from."
    if isinstance(leaf, _TEXTS):
        return (
            "What lies in a folder, or in a column of a table, is read by topwork.data.read_folder, "
            "photographs also by Keras' image_dataset_from_directory."
        )
    if isinstance(leaf, DATA_SETS):
        return "A data set has images and labels in each batch: pass one alone."
    if isinstance(leaf, Iterable):
        return "Make an array of it, np.array(list(...))."
    return "Make an array of it."
