"""The address of a prefix in a store: its architecture, its weights, its precision."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import keras
import numpy as np

from topwork._features.frozen_part import BATCH_SIZE
from topwork._networks.graph import Step, steps, sublayers

# Names say nothing of what is computed, and differ between two builds in one process.
_IRRELEVANT = frozenset({"name", "trainable", "build_config", "registered_name"})


def fingerprint(prefix: keras.Model) -> str:
    """A digest of all that the features of an image depend on, but for the image; hexadecimal."""
    ordered = steps(prefix)
    digest = hashlib.sha256(f"topwork features 1, batches of {BATCH_SIZE}\n".encode())
    architecture = json.dumps(_architecture(prefix, ordered), sort_keys=True, default=_described)
    digest.update(architecture.encode())
    operations = dict.fromkeys(step.operation for step in ordered)
    for layer in sublayers(each for each in operations if isinstance(each, keras.Layer)):
        for weight in [] if isinstance(layer, keras.Model) else layer.weights:
            array = weight.numpy()
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _architecture(prefix: keras.Model, ordered: list[Step]) -> Any:
    operations = list(dict.fromkeys(step.operation for step in ordered))
    tensors = {id(tensor): f"tensor {i}" for i, tensor in enumerate(_tensors(ordered))}
    calls = [
        {
            "operation": operations.index(step.operation),
            "arguments": keras.tree.map_structure(
                lambda value: tensors.get(id(value), value), (step.args, step.kwargs)
            ),
        }
        for step in ordered
    ]
    return {
        "operations": [_configuration(operation) for operation in operations],
        "calls": calls,
        "outputs": [tensors[id(tensor)] for tensor in prefix.outputs],
    }


def _described(value: Any) -> str:
    """What JSON does not know: constants in the graph, whose `repr` leaves out most of their values."""
    if hasattr(value, "__array__"):
        array = value.numpy() if hasattr(value, "numpy") else np.asarray(value)
        content = hashlib.sha256(array.tobytes()).hexdigest()
        return f"{array.dtype}{array.shape} {content}"
    return repr(value)


def _tensors(ordered: list[Step]) -> list[Any]:
    return [tensor for step in ordered for tensor in step.outputs]


def _configuration(operation: Any) -> Any:
    serialized = keras.saving.serialize_keras_object(operation)
    if isinstance(operation, keras.Model):
        return {"class": type(operation).__name__, "graph": _architecture(operation, steps(operation))}
    return _without_names(serialized)


def _without_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            # The name of a precision is the precision.
            key: each if key == "dtype" else _without_names(each)
            for key, each in value.items()
            if key not in _IRRELEVANT
        }
    if isinstance(value, (list, tuple)):
        return [_without_names(each) for each in value]
    return value
