"""Code in a model that its description does not tell apart from other code.

A network of Keras' own classes is wholly described by names, numbers and arrays. Code of a user's own,
or of another package, is not: it can change while its name stays, and it may be random. What is unknown
is judged by where code was written and whether it is found there under its name, and not by the module
that it says it comes from: `functools.wraps` copies that.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from topwork._networks.graph import Step, has_graph, steps
from topwork._private_keras import attributes

_CONTAINERS = (dict, list, tuple, set, frozenset)
_NAMES_AND_NUMBERS = (
    *(type(None), bool, int, float, complex, str, bytes, types.EllipsisType),
    *(np.generic, np.dtype, tf.DType, tf.TensorShape),
    *(tf.Tensor, tf.Variable, keras.KerasTensor, keras.Variable),
)
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
# Tools wrap methods of these to watch them, which changes nothing of what a layer computes.
_BASES = (keras.Operation, keras.layers.Layer, keras.Model)


class _Part(NamedTuple):
    """Something that an operation holds or was given, and what to call it."""

    value: Any
    name: str


def unknown_code(model: keras.Model) -> str | None:
    """The first thing in `model` that names, numbers and arrays of Keras' own classes do not describe.

    Layers and operations of a user's own or of another package, `Lambda`, functions that are not Keras'
    own as activations, initializers or in a call of `keras.ops.map`, state outside of weights such as a
    vocabulary: in words for a message; None if all is described.
    """
    return next(_unknown(model), None)


def functions_in(step: Step) -> list[str]:
    """The names of all functions that an operation holds or was given; none of them is unknown code."""
    return [full_name(part.value) for part in _parts(step) if isinstance(part.value, _FUNCTIONS)]


def named(operation: Any) -> str:
    """An operation for a message."""
    kind = "layer" if isinstance(operation, keras.Layer) else "operation"
    return f"{kind} {operation.name!r} ({type(operation).__name__})"


def full_name(function: Any) -> str:
    """Where a function is found: its module and its name there."""
    return f"{function.__module__}.{function.__qualname__}"


def has_unknown_code(step: Step) -> bool:
    """Whether a call holds, or was given, what `unknown_code` would name, or code of KerasHub.

    What KerasHub's layers compute is described by their settings and its version, and has to be tried.
    """
    of_hub = type(step.operation).__module__.startswith("keras_hub.")
    return of_hub or next(_unknown_in(step), None) is not None


def _unknown(model: keras.Model) -> Iterator[str]:
    for step in steps(model):
        yield from _unknown_in(step)


def _unknown_in(step: Step) -> Iterator[str]:
    for part in _parts(step):
        if not _is_known(part.value):
            yield part.name
        elif isinstance(part.value, keras.Model):
            yield from _unknown(part.value)


def _parts(step: Step) -> Iterator[_Part]:
    """An operation, what it holds and what it was given, down to names, numbers and code."""
    name = named(step.operation)
    waiting = [_Part((step.args, step.kwargs), f"an argument of {name}"), _Part(step.operation, name)]
    seen: set[int] = set()
    while waiting:
        part = waiting.pop()
        if id(part.value) not in seen:
            seen.add(id(part.value))
            yield part
            waiting.extend(_inside(part))


def _inside(part: _Part) -> list[_Part]:
    value, name = part
    if isinstance(value, dict):
        return [_Part(each, name) for pair in value.items() for each in pair]
    if isinstance(value, slice):
        return [_Part(each, name) for each in (value.start, value.stop, value.step)]
    if isinstance(value, _CONTAINERS):
        return [_Part(each, name) for each in value]
    if isinstance(value, (*_NAMES_AND_NUMBERS, *_FUNCTIONS, keras.Model)) or not _is_own(type(value)):
        return []
    return [_Part(each, f"{attribute!r} of {name}") for attribute, each in attributes(value).items()]


def _is_known(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype != object
    if isinstance(value, (*_NAMES_AND_NUMBERS, *_CONTAINERS, slice)):
        return True
    if isinstance(value, types.ModuleType):
        return _is_in_a_library(value)
    if isinstance(value, _FUNCTIONS):
        return _is_of_a_library(value) and _is_found(value)
    if isinstance(value, keras.Model) and not has_graph(value):
        return False
    return _is_own(type(value)) and not isinstance(value, keras.layers.Lambda)


def _is_own(kind: type) -> bool:
    """Whether a class is Keras' or KerasHub's own, with its methods as they wrote them."""
    if not (kind.__module__.startswith(("keras.", "keras_hub.")) and _is_found(kind)):
        return False
    methods = [
        method
        for base in kind.__mro__
        if issubclass(base, keras.Operation) and base not in _BASES
        for method in vars(base).values()
    ]
    return all(map(_is_of_a_library, filter(inspect.isfunction, methods)))


def _is_of_a_library(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename.startswith(_folders("keras_hub" in sys.modules))


def _is_found(item: Any) -> bool:
    """Whether a function or a class is what its library has under its name."""
    module = sys.modules.get(item.__module__)
    if module is None or not _is_in_a_library(module):
        return False
    found: Any = module
    for name in item.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is item


def _is_in_a_library(module: types.ModuleType) -> bool:
    folders = _folders("keras_hub" in sys.modules)
    return str(getattr(module, "__file__", "")).startswith(folders)


@functools.cache
def _folders(with_hub: bool) -> tuple[str, ...]:
    libraries = [keras, tf, sys.modules["keras_hub"]] if with_hub else [keras, tf]
    # With the separator: next to `keras` there may be a `keras_of_somebody`.
    return tuple(str(Path(str(library.__file__)).parent) + os.sep for library in libraries)
