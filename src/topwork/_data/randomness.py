"""Recognising random augmentation in a data set, which must not be computed once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._private_keras import dataset_functions

# Operations that draw random numbers. The shuffling of a dataset is none of them: it changes the
# order of the images and not the images.
_RANDOM_OPERATION = re.compile(
    r"(Stateless|Stateful)?(Random(Uniform|Normal|StandardNormal|Gamma|Poisson|Shuffle|Binomial|Crop)|"
    r"(Parameterized)?TruncatedNormal|Multinomial|Uniform|StandardNormal|RngReadAndSkip|"
    r"SampleDistortedBoundingBox).*"
)
_PYTHON_OPERATION = re.compile(r"(Eager)?PyFunc.*")

# A random flip leaves each image alone half of the time: a few would not show it.
_N_COMPARED = 16


def randomness_in(x: Any) -> str | None:
    """What makes the images of a data set random, for a message; None if nothing is found."""
    if isinstance(x, tf.data.Dataset):
        return _randomness_in_dataset(x)
    if isinstance(x, keras.utils.PyDataset) and x.num_batches:
        once, again = ((x[i] for i in range(x.num_batches)) for _ in range(2))
        return None if _same(once, again) else "images that differ when one batch is read twice"
    return None


def _randomness_in_dataset(dataset: tf.data.Dataset) -> str | None:
    operations = set(_operations(dataset))
    found = sorted(filter(_RANDOM_OPERATION.fullmatch, operations))
    if found:
        return f"random operations in its map functions ({', '.join(found[:3])})"
    # What Python does cannot be read off the graph, only tried.
    if any(map(_PYTHON_OPERATION.fullmatch, operations)) and not _same(dataset, dataset):
        return (
            "Python code, and images that differ when it is read twice (if they only come in another "
            "order, leave out the shuffling, which fit does)"
        )
    return None


def _operations(dataset: tf.data.Dataset) -> Iterator[str]:
    """The operations inside the functions that a dataset maps, filters or generates with."""
    for function in dataset_functions(dataset):
        graph = function.function.graph.as_graph_def()
        for nodes in (graph.node, *(inner.node_def for inner in graph.library.function)):
            yield from (node.op for node in nodes)


def _same(once: Any, again: Any) -> bool:
    """Whether two readings of a data set begin with the same images."""
    n_compared = 0
    for batches in zip(once, again, strict=False):
        a, b = (keras.tree.flatten(keras.utils.unpack_x_y_sample_weight(each)[0]) for each in batches)
        if not all(map(np.array_equal, a, b)):
            return False
        n_compared += len(a[0])
        if n_compared >= _N_COMPARED:
            break
    return True
