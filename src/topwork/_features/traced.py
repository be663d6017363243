"""What the graph of a call tells: few runs do not show what is rarely random, or changed from outside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from topwork._data.randomness import has_changing_state

# On a graphics card a recurrent layer is one operation, with a state for the dropout that it has not.
_CUDNN = re.compile(r"Cudnn\w*")


def traced_fault(call: keras.Model, values: list[Any]) -> str | None:
    """Why a call may give something else for the same images another time; None if nothing is seen."""
    specs = [tf.TensorSpec(value.shape, value.dtype) for value in values]
    function = tf.function(lambda *inputs: call(list(inputs), training=True), autograph=False)
    graph = function.get_concrete_function(*specs).graph
    operations = set(_operations(graph.as_graph_def()))
    if any("Assign" in operation and "Variable" in operation for operation in operations):
        return "changes its own state whenever it is run"
    found = sorted(each for each in operations if has_changing_state(each) and not _CUDNN.fullmatch(each))
    if found:
        return (
            f"has an operation that may give something else each time ({', '.join(found[:3])}). Of "
            "Python code, tf.numpy_function(..., stateful=False) says that it does not"
        )
    foreign = [each.name for each in graph.variables if each.trainable and not _is_own(each, call)]
    if foreign:
        return (
            f"reads a variable that is not frozen ({foreign[0]!r}), which may change at any time. "
            "trainable=False, where the variable is made, says that it does not"
        )
    return None


def _is_own(variable: Any, call: keras.Model) -> bool:
    own = [each.value for each in call.variables]
    # Under a distribution strategy a variable is several.
    return any(variable is each for value in own for each in (value, *getattr(value, "values", ())))


def _operations(graph: Any) -> Iterator[str]:
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        yield from (node.op for node in nodes)
