"""The address of a prefix in a store: its architecture, its weights, its precision, who runs it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._features.engine import PLAIN, Engine, version_of
from topwork._features.frozen_part import BATCH_SIZE
from topwork._features.unknown_code import full_name, functions_in
from topwork._networks.graph import Step, steps, sublayers
from topwork._private_keras import attributes

# Names do not change what is computed, and differ between two builds in one process.
_IRRELEVANT = frozenset({"name", "trainable", "build_config", "compile_config", "registered_name"})


def fingerprint(prefix: keras.Model, engine: Engine = PLAIN) -> str:
    """A digest of all that the features of an image depend on, but for the image; hexadecimal.

    Only for a prefix without unknown code: of anything else there is no description that holds.
    """
    ordered = steps(prefix)
    digest = hashlib.sha256(json.dumps(_circumstances(engine), sort_keys=True).encode())
    architecture = _architecture(prefix, ordered)
    digest.update(json.dumps(architecture, sort_keys=True, default=_described_object).encode())
    operations = dict.fromkeys(step.operation for step in ordered)
    for layer in (each for each in operations if isinstance(each, keras.Layer)):
        digest.update(json.dumps(_places(layer)).encode())
        for weight in layer.weights:
            array = weight.numpy()
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _places(layer: keras.Layer) -> list[tuple[str, int]]:
    """Which weight is what: a bias that was taken off after the layer was built is still in the list."""
    numbers = {id(weight): i for i, weight in enumerate(layer.weights)}
    return sorted(
        (name.lstrip("_"), numbers[id(each)])
        for part in sublayers([layer])
        for name, each in attributes(part).items()
        if id(each) in numbers
    )


def _circumstances(engine: Engine) -> dict[str, Any]:
    # A new version of Keras or TensorFlow may compute a layer differently, and nobody can tell which.
    circumstances = {
        "topwork features": 4,
        "batch": BATCH_SIZE,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "settings": [keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format()],
    }
    if not engine.is_plain:  # the addresses of plain ones are older than engines
        circumstances["engine"] = [engine.name, engine.precision, version_of(engine)]
    return circumstances


def _architecture(prefix: keras.Model, ordered: list[Step]) -> Any:
    operations = list(dict.fromkeys(step.operation for step in ordered))
    made = [tensor for step in ordered for tensor in step.outputs]
    tensors = {id(tensor): f"tensor {i}" for i, tensor in enumerate(made)}
    calls = [
        {
            "operation": operations.index(step.operation),
            "arguments": _described((step.args, step.kwargs), tensors),
            "functions": functions_in(step),
        }
        for step in ordered
    ]
    return {
        "operations": [_configuration(operation) for operation in operations],
        "calls": calls,
        "outputs": [tensors[id(tensor)] for tensor in prefix.outputs],
    }


def _described(value: Any, tensors: Mapping[int, str]) -> Any:
    """The arguments of a call as JSON: nothing in it may depend on names or on places in memory."""
    if id(value) in tensors:
        return tensors[id(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return ["dict", *sorted((repr(k), _described(v, tensors)) for k, v in value.items())]
    if isinstance(value, slice):
        return ["slice", *(_described(each, tensors) for each in (value.start, value.stop, value.step))]
    if isinstance(value, (list, tuple)):
        return [_described(each, tensors) for each in value]
    if isinstance(value, (set, frozenset)):
        return ["set", *sorted(json.dumps(_described(each, tensors)) for each in value)]
    return _described_object(value)


def _described_object(value: Any) -> Any:
    if callable(getattr(value, "__array__", None)):
        array = value.numpy() if hasattr(value, "numpy") else np.asarray(value)
        content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return f"{array.dtype}{array.shape} {content}"
    if hasattr(value, "__qualname__"):
        return full_name(value)
    if type(value).__module__.startswith("keras."):
        return _without_names(keras.saving.serialize_keras_object(value))
    return repr(value)


def _configuration(operation: Any) -> Any:
    if isinstance(operation, keras.Model):
        return {"class": type(operation).__name__, "graph": _architecture(operation, steps(operation))}
    described = _without_names(keras.saving.serialize_keras_object(operation))
    package = type(operation).__module__.partition(".")[0]
    if package == "keras":
        return described
    return {"settings": described, package: getattr(sys.modules[package], "__version__", "")}


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
