"""Making one graph of layers that hold layers: what is inside of them becomes layers of the model.

What can be frozen, cut at or looked at is a layer of a model. KerasHub's encoders are single layers with
a list of blocks inside. And what is frozen inside of a layer is thawed again when a file is loaded (Keras
3.10 to 3.15): only a layer's own variables come back frozen. So such layers are opened: their own code
is run on symbolic tensors, and what it calls takes their place, with the same variables.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from topwork._networks.graph import Step, steps, steps_between
from topwork._private_keras import inner_layers


class Opener:
    """Calls layers on symbolic tensors, those that have to be opened by what they call themselves."""

    def __init__(self, is_opened: Callable[[Any], bool], replaced: Callable[..., Any]) -> None:
        """Of a layer: whether it is opened; and what is called in its place, or None."""
        self._is_opened = is_opened
        self._replaced = replaced
        self._n_sums: dict[str, int] = {}

    def run(self, ordered: list[Step], given: list[Any], start: list[Any], owner: str = "") -> Any:
        """Make the calls on `start` in the place of `given`; gives a function from old tensors to new.

        `owner` is the layer that they were found in.
        """
        made = {id(old): new for old, new in zip(given, start, strict=True)}

        def swap(value: Any) -> Any:
            return made.get(id(value), value)

        for step in ordered:
            if step.is_input:
                continue
            args = keras.tree.map_structure(swap, step.args)
            kwargs = keras.tree.map_structure(swap, step.kwargs)
            outputs = keras.tree.flatten(self._call(step, args, kwargs, owner))
            made.update({id(old): new for old, new in zip(step.outputs, outputs, strict=False)})
        return swap

    def _call(self, step: Step, args: Any, kwargs: dict[str, Any], owner: str) -> Any:
        layer = step.operation
        if not isinstance(layer, keras.Layer):
            return self._call_operation(step, args, kwargs, owner)
        if owner and not layer.name.startswith(f"{owner}_"):
            layer.name = f"{owner}_{layer.name}"
        replaced = self._replaced(layer, args)
        if replaced is not None:
            return replaced
        if not self._is_opened(layer):
            return layer(*args, **kwargs)
        outputs = self._opened(layer, args, kwargs)
        return keras.tree.map_structure(
            lambda made, known: _with_sizes(made, known.shape, f"{layer.name}_reshape"),
            outputs,
            keras.tree.pack_sequence_as(outputs, list(step.outputs)),
        )

    def _opened(self, layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        # Code of a layer asks for the size of the batch and reshapes to it, which works for a known one
        # only: its graph is made for one image, and then for any number.
        tensors = [x for x in keras.tree.flatten((args, kwargs)) if _is_symbolic(x)]
        images = {id(x): keras.Input(batch_shape=_of_one(x.shape), dtype=x.dtype) for x in tensors}

        def one(value: Any) -> Any:
            return images.get(id(value), value)

        given = keras.tree.map_structure(one, args)
        arguments = {k: keras.tree.map_structure(one, v) for k, v in kwargs.items() if k != "training"}
        outputs = self._traced(layer, given, arguments)
        start = list(images.values())
        inner = steps_between(start, _symbolic(outputs))
        if not _is_whole(layer, inner):
            return layer(*args, **kwargs)
        swap = self.run(inner, start, list({id(x): x for x in tensors}.values()), layer.name)
        return keras.tree.map_structure(swap, outputs)

    def _traced(self, layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        try:
            return layer.call(*args, **kwargs)
        except ValueError:
            # A layer inside that returns None beside a tensor cannot be called in a graph.
            inside = filter(self._is_opened, inner_layers(layer, recursive=True))
            kinds = {type(x) for x in inside if not type(x).__module__.startswith("keras.")}
            with _called_directly(kinds):
                return layer.call(*args, **kwargs)

    def _call_operation(self, step: Step, args: Any, kwargs: dict[str, Any], owner: str) -> Any:
        kind = type(step.operation).__name__
        if owner and kind == "Reshape" and step.outputs[0].shape[0] == 1:
            return keras.layers.Reshape(step.outputs[0].shape[1:], name=self._numbered(owner, "reshape"))(
                args[0]
            )
        if owner and kind == "Add" and len({getattr(x, "shape", None) for x in args}) == 1:
            # A layer, at which the network can be cut.
            return keras.layers.Add(name=self._numbered(owner, "add"))(list(args))
        return step.operation(*args, **kwargs)

    def _numbered(self, owner: str, kind: str) -> str:
        name = f"{owner}_{kind}"
        self._n_sums[name] = self._n_sums.get(name, 0) + 1
        return f"{name}_{self._n_sums[name]}"


@contextlib.contextmanager
def _called_directly(kinds: Iterable[type]) -> Iterator[None]:
    """Let calls of layers of some classes be those of the layers inside them."""

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        for inner in inner_layers(layer):
            if not inner.name.startswith(f"{layer.name}_"):
                inner.name = f"{layer.name}_{inner.name}"
        return layer.call(*args, **kwargs)

    before = {kind: vars(kind).get("__call__") for kind in kinds}
    try:
        for kind in before:
            setattr(kind, "__call__", call)  # noqa: B010
        yield
    finally:
        for kind, own in before.items():
            if own is None:
                delattr(kind, "__call__")
            else:
                setattr(kind, "__call__", own)  # noqa: B010


def open_graph(
    model: keras.Model,
    start: Any,
    is_opened: Callable[[Any], bool],
    replaced: Callable[..., Any] = lambda *_: None,
) -> Any:
    """What `model` gives for `start`, a symbolic tensor, with some of its layers opened."""
    opener = Opener(is_opened, replaced)
    swap = opener.run(steps(model), list(model.inputs), [start])
    return [swap(tensor) for tensor in model.outputs]


def _is_whole(layer: Any, calls: list[Step]) -> bool:
    """Whether calls inside of a layer show all that it does: its variables, and each image by itself."""
    held = {id(v) for step in calls for v in getattr(step.operation, "variables", [])}
    by_itself = all(t.shape[0] == 1 for step in calls for t in step.outputs if len(t.shape))
    return by_itself and all(id(v) in held for v in layer.variables)


def _with_sizes(made: Any, known: Any, name: str) -> Any:
    """A tensor in the shape that is known, where what made it does not tell: an attention's tokens."""
    if not _is_symbolic(made) or None not in made.shape[1:] or None in known[1:]:
        return made
    return keras.layers.Reshape(known[1:], name=name)(made)


def _of_one(shape: Any) -> tuple[Any, ...]:
    return (1 if shape[0] is None else shape[0], *shape[1:])


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _symbolic(values: Any) -> list[Any]:
    return [value for value in keras.tree.flatten(values) if _is_symbolic(value)]
