"""Recognising data that changes from one reading to the next, which must not be computed once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._data.data_sets import begin_epoch, has_epochs, items
from topwork._data.order import is_shuffled_anew
from topwork._data.ragged import array_of
from topwork._errors import warn
from topwork._private_keras import (
    constant_below,
    dataset_functions,
    dataset_inputs,
    dataset_steps,
    is_stateful,
    repeated_forever,
)

# Shuffling is not among them: it changes the order of the images, not the images.
_RANDOM_OPERATION = re.compile(
    r"(Stateless|Stateful)?(Random(Uniform|Normal|StandardNormal|Gamma|Poisson|Shuffle|Binomial|Crop)|"
    r"(Parameterized)?TruncatedNormal|Multinomial|Uniform|StandardNormal|RngReadAndSkip|"
    r"SampleDistortedBoundingBox).*"
)
# The name of the operation in which topwork's own reader runs Python: it gives a file's pixels, always.
READS_FILES = "topwork_reads_a_file"
_STATELESS = re.compile("Stateless")
# Steps inside the functions of others, by which the order that images come in may change them.
_BY_ORDER = re.compile("(Take|Skip|Shard|Zip|Scan|TakeWhile)Dataset.*")
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
    drawn, variables = (
        sorted(filter(pattern.fullmatch, operations))
        for pattern in (_RANDOM_OPERATION, _VARIABLE_OPERATION)
    )
    is_python = any(map(_PYTHON_OPERATION.fullmatch, operations))
    stateful = sorted(
        op for op in operations if has_changing_state(op) and not _PYTHON_OPERATION.fullmatch(op)
    )
    # What is stateless gives the same of the same seed, which something else would have to change.
    if drawn and (variables or stateful or not all(map(_STATELESS.match, drawn))):
        return f"random operations in its map functions ({', '.join(drawn[:3])})"
    if variables:
        return f"variables that its map functions read ({', '.join(variables[:3])})"
    if stateful:
        return f"operations with a state in its map functions ({', '.join(stateful[:3])})"
    steps = _changing_steps(dataset)
    if steps is not None:
        return steps
    # The graph does not show what Python code does, or what the order is used for: it has to be tried.
    by_order = _uses_shuffled_order(dataset, operations)
    if (is_python or by_order) and _differs_when_read_twice(dataset):
        if is_python:
            return "Python code, and images that differ when it is read twice"
        return f"a use of the order of shuffled images ({by_order}), which differs when it is read twice"
    return None


def _uses_shuffled_order(dataset: tf.data.Dataset, operations: set[str]) -> str | None:
    """A step that may make other images of what comes in another order; None if there is none."""
    inner = sorted(op for op in operations if _BY_ORDER.fullmatch(op))
    if inner and any(op.startswith("ShuffleDataset") for op in operations):
        return inner[0].partition("Dataset")[0]
    return _step_by_order(dataset)


def _step_by_order(dataset: tf.data.Dataset) -> str | None:
    if constant_below(dataset):
        return None
    name, inputs = type(dataset).__name__, dataset_inputs(dataset)
    is_combined = name in ("_ZipDataset", "_ScanDataset") and any(map(is_shuffled_anew, inputs))
    # What chooses between data sets is hidden from reading.
    is_chosen = name == "_DirectedInterleaveDataset" and type(inputs[0]).__name__ == "_VariantDataset"
    if is_combined or is_chosen:
        return name.strip("_").removesuffix("Dataset")
    return next(filter(None, map(_step_by_order, inputs)), None)


def has_changing_state(operation: str) -> bool:
    """Whether what an operation gives may change, by its state; reading a variable is none."""
    known = (_VARIABLE_OPERATION, _HARMLESS_OPERATION)
    return is_stateful(operation) and not any(each.fullmatch(operation) for each in known)


def _differs_when_read_twice(dataset: tf.data.Dataset) -> bool:
    once, again = (list(_digests(dataset.take(_MOST_BATCHES))) for _ in range(2))
    if once == again:
        return False
    finite = (
        repeated_forever(dataset) if dataset.cardinality() == tf.data.INFINITE_CARDINALITY else dataset
    )
    if not set(once) & set(again) or finite is None:
        return True
    # Some images came again. Perhaps all do, in another order: only reading all of them tells.
    once, again = (sorted(_digests(finite)) for _ in range(2))
    return once != again


def _changing_steps(dataset: tf.data.Dataset) -> str | None:
    """Random data sets, and a part taken of what is shuffled anew each time."""
    steps = list(dataset_steps(dataset))
    if any(name == "_RandomDataset" for name, _, _ in steps):
        return "a random data set in it"
    for name, is_part, below in steps:
        if is_part and is_shuffled_anew(below):
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
    if has_epochs(dataset):
        begin_epoch(dataset)
        once = sorted(_digests(items(dataset, range(int(dataset.num_batches)))))
        dataset.on_epoch_end()
        begin_epoch(dataset)
        again = sorted(_digests(items(dataset, range(int(dataset.num_batches)))))  # may be others
        return None if once == again else "other images or labels after its on_epoch_end"
    n_batches = int(dataset.num_batches)
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
