"""Batches of images of several sizes, which TensorFlow keeps as ragged tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf


def array_of(leaf: Any) -> Any:
    """A NumPy array of a tensor; of a ragged one an array of arrays, one for each image."""
    if not isinstance(leaf, tf.RaggedTensor):
        return np.asarray(leaf)
    rows = np.empty(int(leaf.nrows()), object)
    for i, row in enumerate(leaf):
        rows[i] = row.to_tensor().numpy() if isinstance(row, tf.RaggedTensor) else row.numpy()
    return rows


def is_ragged(array: Any) -> bool:
    """Whether an array is one of arrays."""
    is_of_objects = array is not None and array.dtype == object and array.ndim == 1 and array.size > 0
    return is_of_objects and getattr(array[0], "ndim", 0) > 0


def in_even_parts(function: Callable[[list[Any]], Any], inputs: list[Any]) -> Any:
    """What `function` makes of the images of a batch, one after the other where they differ in size."""
    parts = [np.asarray(function(part)) for part, _ in even_parts(inputs)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def even_parts(inputs: list[Any]) -> Iterator[tuple[list[Any], slice]]:
    """Arrays of one size each, and where in the batch they lie: all of it, or runs of ragged images."""
    if not any(map(is_ragged, inputs)):
        yield inputs, slice(None)
        return
    n_images = len(inputs[0])
    for i in range(n_images):
        yield [array[i][None] for array in inputs], slice(i, i + 1)
