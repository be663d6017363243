"""Recognising data that changes from one reading to the next, which must not be computed once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._data.data_sets import items
from topwork._data.ragged import array_of
from topwork._errors import warn
from topwork._private_keras import constant_below, dataset_functions, dataset_steps, is_stateful

# Shuffling is not among them: it changes the order of the images, not the images.
_RANDOM_OPERATION = re.compile(
    r"(Stateless|Stateful)?(Random(Uniform|Normal|StandardNormal|Gamma|Poisson|Shuffle|Binomial|Crop)|"
    r"(Parameterized)?TruncatedNormal|Multinomial|Uniform|StandardNormal|RngReadAndSkip|"
    r"SampleDistortedBoundingBox).*"
)
# The name of the operation in which topwork's own reader runs Python: it gives a file's pixels, always.
READS_FILES = "topwork_reads_a_file"
_PYTHON_OPERATION = re.compile(r"(Eager)?PyFunc.*")
_VARIABLE_OPERATION = re.compile(r"(Read|Assign\w*)VariableOp|ResourceGather.*|VarHandleOp")
# Stateful by name, though what they give does not change: calls, branches and loops (what is inside of
# them is looked at), tables to look up, messages.
_HARMLESS_OPERATION = re.compile(
    r"(Stateful)?PartitionedCall|If|Case|While|Assert|Print.*|\w*Table\w*|TensorArray\w*|Stack\w*|"
    r"ReduceDataset|DummySeedGenerator|\w*Iterator\w*|\w*Dataset\w*"
)
# A random flip leaves each image alone half of the time: a few would not show it. Of a longer data set
# batches from all over it are compared.
_MOST_BATCHES = 48


def randomness_in(x: Any) -> str | None:
    """What makes the images of a data set change, for a message; None if nothing is found."""
    if isinstance(x, tf.data.Dataset):
        return _changes_in_dataset(x)
    if isinstance(x, keras.utils.PyDataset) and x.num_batches and not _is_called_constant(x):
        return _changes_in_py_dataset(x)
    return None


def python_in(x: Any) -> str | None:
    """The Python code that a data set runs, which cannot be read, only tried; None if there is none."""
    if isinstance(x, keras.utils.PyDataset):
        return None if _is_called_constant(x) else type(x).__name__
    if not isinstance(x, tf.data.Dataset) or constant_below(x):
        return None
    found = sorted(set(filter(_PYTHON_OPERATION.fullmatch, _operations(x))))
    return ", ".join(found) or None


def _is_called_constant(x: Any) -> bool:
    return getattr(x, "is_constant", False) is True


def about_randomness(x: Any, name: str) -> str | None:
    """`randomness_in` as the beginning of a message."""
    found = randomness_in(x)
    return None if found is None else f"the {name} is augmented at random: it has {found}."


def warn_of_randomness(x: Any, name: str) -> None:
    """Warn where images that change are about to be computed once."""
    told = about_randomness(x, name)
    if told is not None:
        warn(
            f"{told} Each image is used once, as it happens to come, and not found again in a cache_dir. "
            "Pass the images as they are."
        )


def _changes_in_dataset(dataset: tf.data.Dataset) -> str | None:
    if constant_below(dataset):
        return None
    operations = set(_operations(dataset))
    for pattern, what in (
        (_RANDOM_OPERATION, "random operations in its map functions"),
        (_VARIABLE_OPERATION, "variables that its map functions read"),
    ):
        found = sorted(filter(pattern.fullmatch, operations))
        if found:
            return f"{what} ({', '.join(found[:3])})"
    is_python = any(map(_PYTHON_OPERATION.fullmatch, operations))
    stateful = sorted(
        op for op in operations if has_changing_state(op) and not _PYTHON_OPERATION.fullmatch(op)
    )
    if stateful:
        return f"operations with a state in its map functions ({', '.join(stateful[:3])})"
    steps = _changing_steps(dataset)
    if steps is not None:
        return steps
    # The graph does not show what Python code does: it has to be tried.
    if is_python and _differs_when_read_twice(dataset):
        return "Python code, and images that differ when it is read twice"
    return None


def has_changing_state(operation: str) -> bool:
    """Whether what an operation gives may change, by its state; reading a variable is none."""
    known = (_VARIABLE_OPERATION, _HARMLESS_OPERATION)
    return is_stateful(operation) and not any(each.fullmatch(operation) for each in known)


def _differs_when_read_twice(dataset: tf.data.Dataset) -> bool:
    once, again = (list(_digests(dataset.take(_MOST_BATCHES))) for _ in range(2))
    if once == again:
        return False
    if not set(once) & set(again):
        return True
    # Some images came again. Perhaps all do, in another order: only reading all of them tells.
    once, again = (sorted(_digests(dataset)) for _ in range(2))
    return once != again


def _changing_steps(dataset: tf.data.Dataset) -> str | None:
    """Random data sets, and a part taken of what is shuffled anew each time."""
    steps = list(dataset_steps(dataset))
    if any(name == "_RandomDataset" for name, _, _ in steps):
        return "a random data set in it"
    for name, is_part, below in steps:
        shuffles = (
            any(each == "_ShuffleDataset" for each, _, _ in dataset_steps(below)) if is_part else False
        )
        if shuffles:
            return (
                f"a part of shuffled images ({name.strip('_')} after shuffle), another one in each epoch"
            )
    return None


def _operations(dataset: tf.data.Dataset) -> Iterator[str]:
    """The operations inside the functions that a dataset maps, filters or generates with."""
    for function in dataset_functions(dataset):
        graph = function.function.graph.as_graph_def()
        for nodes in (graph.node, *(inner.node_def for inner in graph.library.function)):
            yield from (node.op for node in nodes if READS_FILES not in node.name)


def _changes_in_py_dataset(dataset: keras.utils.PyDataset) -> str | None:
    n_batches = int(dataset.num_batches)
    if type(dataset).on_epoch_end is not keras.utils.PyDataset.on_epoch_end:
        once = sorted(_digests(items(dataset, range(n_batches))))
        dataset.on_epoch_end()
        again = sorted(_digests(items(dataset, range(n_batches))))
        if once != again:
            return "other images or labels after its on_epoch_end"
        return None
    places = np.unique(np.linspace(0, n_batches - 1, min(n_batches, _MOST_BATCHES)).astype(int)).tolist()
    # The generators of older code draw a new order when their first epoch is over.
    once, again = (list(_digests(items(dataset, places))) for _ in range(2))
    return None if once == again else "images that differ when one batch is read twice"


def _digests(elements: Iterable[Any]) -> Iterator[bytes]:
    """Of each image, with its labels and weights."""
    for element in elements:
        arrays = [array_of(leaf) for leaf in keras.tree.flatten(element) if leaf is not None]
        for row in zip(*arrays, strict=False):
            digest = hashlib.sha256()
            for part in row:
                digest.update(np.ascontiguousarray(part).tobytes())
            yield digest.digest()
