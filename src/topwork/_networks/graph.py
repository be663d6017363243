"""Reading a functional graph.

A model is read as a list of `Step`s, the calls of its operations in an order in which they can be
run. Everything else in the package that asks about the graph asks this module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from topwork._errors import InputError
from topwork._networks.tokens import tokens_of
from topwork._private_keras import node_of, nodes_of


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One call of an operation: `operation(*args, **kwargs)` took `inputs` and gave `outputs`."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    # Whether it was found in a model that was called with `training=False`.
    for_inference: bool = False

    @property
    def is_input(self) -> bool:
        return isinstance(self.operation, keras.layers.InputLayer)


def require_functional(model: object) -> None:
    """Raise unless `model` is a built functional or Sequential model, whose graph can be read."""
    if not isinstance(model, keras.Model):
        makes = isinstance(model, (str, type))
        raise InputError(
            f"the model must be a keras.Model. Received: {model!r} of type {type(model).__name__}."
            + " load_backbone(...) makes one of a name or a class." * makes
        )
    if not has_graph(model):
        raise InputError(
            f"the graph of the model is read, and {model.name!r} ({type(model).__name__}) has "
            "none: a subclassed model, or a Sequential model that was not built. Build a functional "
            "model, keras.Model(inputs, outputs), or give the Sequential model a keras.Input first."
        )


def has_graph(model: keras.Model) -> bool:
    """Whether `model` is functional or Sequential, and built."""
    try:
        return bool(model.inputs) and bool(model.outputs)
    except (AttributeError, ValueError):
        return False


def steps(model: keras.Model) -> list[Step]:
    """The calls that make up `model`, inputs first, each after those that it depends on."""
    calls = nodes_of(model)
    found = {id(tensor): _producer(tensor, calls) for tensor in model.inputs}
    return _behind(found, model.outputs, calls)


def steps_between(given: list[Any], wanted: list[Any]) -> list[Step]:
    """The calls that make the tensors `wanted` of those `given`, which no call needs to have made."""
    found = {id(tensor): Step(None, (), {}, (), (tensor,)) for tensor in given}
    return [step for step in _behind(found, wanted, {}) if step.operation is not None]


def _behind(found: dict[int, Step], wanted: list[Any], calls: dict[int, Any]) -> list[Step]:
    stack = list(reversed(wanted))
    while stack:
        step = found.get(id(stack[-1])) or _producer(stack[-1], calls)
        missing = [tensor for tensor in step.inputs if id(tensor) not in found]
        if missing:
            stack.extend(reversed(missing))
        else:
            stack.pop()
            found.update({id(tensor): step for tensor in step.outputs if id(tensor) not in found})
    return list(dict.fromkeys(found.values()))


def _producer(tensor: Any, calls: dict[int, Any]) -> Step:
    node = calls.get(id(tensor)) or node_of(tensor)
    return Step(
        operation=node.operation,
        args=tuple(node.arguments.args),
        kwargs=dict(node.arguments.kwargs),
        inputs=tuple(node.input_tensors),
        outputs=tuple(node.outputs),
    )


def clean_cuts(model: keras.Model) -> list[str]:
    """Names of the layers that everything flows through, in the order of the graph."""
    operations = [step.operation for step in bottlenecks(steps(model)) if not step.is_input]
    return [operation.name for operation in operations if isinstance(operation, keras.Layer)]


def bottlenecks(ordered: list[Step]) -> list[Step]:
    """The steps that everything flows through: no tensor made before one of them is used after it."""
    made_at = {id(tensor): i for i, step in enumerate(ordered) for tensor in step.outputs}
    last_use = list(range(len(ordered)))
    of_one_size = not all(is_of_images(step.outputs[0]) for step in ordered if step.is_input)
    for i, step in enumerate(ordered):
        for tensor in step.inputs:
            if is_of_images(tensor) or of_one_size:
                last_use[made_at[id(tensor)]] = i
    found: list[Step] = []
    reach = 0
    for i, step in enumerate(ordered):
        if reach <= i and len(step.outputs) == 1 and (is_of_images(step.outputs[0]) or of_one_size):
            found.append(step)
        reach = max(reach, last_use[i])
    return found


def is_of_images(tensor: Any) -> bool:
    """Whether a tensor has a row for each image, and is not the same for all, as rotary positions are.

    Of a model that takes batches of one size only, it does not tell.
    """
    return len(tensor.shape) > 0 and tensor.shape[0] is None


def head_start(model: keras.Model) -> int:
    """Index in `model.layers` of the head's first layer; `len(model.layers)` where there is no head.

    The head of `add_head` is known by its names, which survive saving; in other models it is what
    follows the last feature map, the last output with height, width and channels, or the last tokens.
    """
    layers = model.layers
    named = [i for i, layer in enumerate(layers) if layer.name.startswith("head_")]
    if named:
        return named[0]
    places = [i for i, layer in enumerate(layers) if _has_places(model, layer)]
    return places[-1] + 1 if places else len(layers)


def _has_places(model: keras.Model, layer: keras.Layer) -> bool:
    """Whether a layer gives a feature map, or a transformer's tokens."""
    output = getattr(layer, "output", None) if _rank(layer) == 3 else None
    if output is not None and isinstance(output, keras.KerasTensor):
        return tokens_of(model, output) is not None
    # Of four axes too is an attention's (batch, tokens, heads, width).
    return _rank(layer) == 4 and not isinstance(layer, keras.layers.EinsumDense)


def _rank(layer: keras.Layer) -> int:
    try:
        outputs = keras.tree.flatten(layer.output)
    except (AttributeError, ValueError):  # never called, as a symbolic layer: has no output
        return -1
    return max(len(output.shape) for output in outputs)


def sublayers(layers: Iterable[keras.Layer]) -> Iterator[keras.Layer]:
    """The layers and, where one is itself a model, those inside it."""
    for layer in layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from sublayers(layer.layers)


def layer_outputs(model: keras.Model) -> dict[str, Any]:
    """What each layer gives, at its last call, by its name."""
    return {
        step.operation.name: step.outputs[0]
        for step in steps(model)
        if isinstance(step.operation, keras.Layer) and not step.is_input
    }
