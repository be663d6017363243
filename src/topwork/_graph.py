"""Reading a functional graph: where it can be cut, what in it cannot change, and splitting it in two.

A model is read as a list of `Step`s, the calls of its operations in an order in which they can be
run. Everything else in the package that asks about the graph asks this module.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import keras


class NotSplittable(Exception):
    """Why no part of a model can be computed once; the message is shown to the user."""


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One call of an operation: `operation(*args, **kwargs)` took `inputs` and gave `outputs`."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    @property
    def is_input(self) -> bool:
        return isinstance(self.operation, keras.layers.InputLayer)


@dataclasses.dataclass(frozen=True)
class Split:
    """A model in two: `tail(prefix(x))` is the model, and only `tail` can change.

    Both take and give lists of tensors: `prefix` the model's inputs, then the frontier between them.
    """

    prefix: keras.Model
    tail: keras.Model


def require_functional(model: object, caller: str) -> None:
    """Raise unless `model` is a built functional or Sequential model, whose graph can be read."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"{caller} works on a keras.Model. Received: {model!r} of type {type(model).__name__}."
        )
    try:
        readable = bool(model.inputs) and bool(model.outputs)
    except (AttributeError, ValueError):
        readable = False
    if not readable:
        raise ValueError(
            f"{caller} reads the graph of a model, and {model.name!r} ({type(model).__name__}) has "
            "none: a subclassed model, or a Sequential model that was not built. Build a functional "
            "model, keras.Model(inputs, outputs), or give the Sequential model a keras.Input first."
        )


def steps(model: keras.Model) -> list[Step]:
    """The calls that make up `model`, inputs first, each after those that it depends on."""
    found = {id(tensor): _producer(tensor) for tensor in model.inputs}
    stack = list(reversed(model.outputs))
    while stack:
        step = found.get(id(stack[-1])) or _producer(stack[-1])
        missing = [tensor for tensor in step.inputs if id(tensor) not in found]
        if missing:
            stack.extend(reversed(missing))
        else:
            stack.pop()
            found.update({id(tensor): step for tensor in step.outputs if id(tensor) not in found})
    return list(dict.fromkeys(found.values()))


def _producer(tensor: Any) -> Step:
    # Keras has no public way from a symbolic tensor to the call that made it; `_keras_history` has
    # been that way since Keras 2 (tried: 3.10 to 3.15).
    history = tensor._keras_history
    node = history.operation._inbound_nodes[history.node_index]
    return Step(
        operation=node.operation,
        args=tuple(node.arguments.args),
        kwargs=dict(node.arguments.kwargs),
        inputs=tuple(node.input_tensors),
        outputs=tuple(node.outputs),
    )


def clean_cuts(model: keras.Model) -> list[str]:
    """Names of the layers that everything flows through, in the order of the graph."""
    operations = [step.operation for step in _bottlenecks(steps(model)) if not step.is_input]
    return [operation.name for operation in operations if isinstance(operation, keras.Layer)]


def _bottlenecks(ordered: list[Step]) -> list[Step]:
    """The steps that everything flows through: no tensor made before one of them is used after it."""
    made_at = {id(tensor): i for i, step in enumerate(ordered) for tensor in step.outputs}
    last_use = list(range(len(ordered)))
    for i, step in enumerate(ordered):
        for tensor in step.inputs:
            last_use[made_at[id(tensor)]] = i
    found: list[Step] = []
    reach = 0
    for i, step in enumerate(ordered):
        if reach <= i and len(step.outputs) == 1:
            found.append(step)
        reach = max(reach, last_use[i])
    return found


def head_start(model: keras.Model) -> int:
    """Index in `model.layers` of the head's first layer; `len(model.layers)` where there is no head.

    The head of `add_head` is known by its names, which survive saving; in other models it is what
    follows the last feature map, the last output with height, width and channels.
    """
    layers = model.layers
    named = [i for i, layer in enumerate(layers) if layer.name.startswith("head_")]
    if named:
        return named[0]
    feature_maps = [i for i, layer in enumerate(layers) if _rank(layer) == 4]
    return feature_maps[-1] + 1 if feature_maps else len(layers)


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


def split(model: keras.Model) -> Split:
    """Split `model` at its frozen frontier, sharing its layers and variables.

    The prefix is everything that cannot change while the model is trained and gives the same output
    for the same image; the tail is the rest. The tensors between them can be several.

    Raises:
        NotSplittable: Nothing worth computing once lies before the first thing that changes.
    """
    if not type(model).__module__.startswith("keras."):
        raise NotSplittable(f"its class {type(model).__name__} may define a training step of its own")
    ordered = steps(model)
    frozen, obstacles = _frozen_steps(ordered)
    frozen_tensors = {id(tensor) for step in frozen for tensor in step.outputs}
    if any(id(output) in frozen_tensors for output in model.outputs):
        raise NotSplittable("one of its outputs does not depend on anything trainable")
    if not any(isinstance(step.operation, keras.Layer) and step.operation.weights for step in frozen):
        raise NotSplittable(obstacles[0] if obstacles else "it has no frozen layer with weights")
    tail_steps = [step for step in ordered if step not in frozen]
    used = [tensor for step in tail_steps for tensor in step.inputs if id(tensor) in frozen_tensors]
    frontier = list({id(tensor): tensor for tensor in used}.values())
    if any(getattr(tensor, "_keras_mask", None) is not None for tensor in frontier):
        raise NotSplittable("a mask is passed along with its frozen features")
    for tensor in frontier:
        if None in tensor.shape[1:]:
            raise NotSplittable(
                f"its frozen features have the shape {tuple(tensor.shape)}, of which only the batch may "
                "be unknown (build the model for one image size)"
            )
    prefix = keras.Model(model.inputs, frontier, name=f"{model.name}_prefix")
    return Split(prefix, _replay(tail_steps, frontier, model))


def _frozen_steps(ordered: list[Step]) -> tuple[set[Step], list[str]]:
    """The steps of the prefix, and why others with only frozen inputs do not belong to it."""
    frozen: set[Step] = set()
    tensors: set[int] = set()
    obstacles: list[str] = []
    for step in ordered:
        if not all(id(tensor) in tensors for tensor in step.inputs):
            continue
        obstacle = None if step.is_input else changes(step.operation)
        if obstacle:
            obstacles.append(obstacle)
        else:
            frozen.add(step)
            tensors.update(id(tensor) for tensor in step.outputs)
    return frozen, obstacles


def changes(operation: Any) -> str | None:
    """Why the output of `operation` for one input may change during training; None if it cannot."""
    if not isinstance(operation, keras.Layer):
        return None  # a plain operation, such as the arithmetic of a preprocess_input
    if isinstance(operation, keras.Model) and type(operation).__module__.startswith("keras."):
        return next(filter(None, map(changes, operation.layers)), None)
    name = f"layer {operation.name!r} ({type(operation).__name__})"
    if operation.trainable_variables:
        return f"{name} is trainable"
    if getattr(operation, "activity_regularizer", None) is not None:
        return f"{name} adds to the loss"
    if _is_same_in_training(operation) or _is_frozen_batch_normalization(operation):
        return None
    if isinstance(operation, _DROPOUTS) and operation.rate == 0:
        return None
    # Seed generators are among `variables`, and not among `weights`.
    if len(operation.variables) > len(operation.weights) or isinstance(operation, _DROPOUTS):
        return f"{name} is random"
    if _takes_training(operation):
        return f"{name} may behave differently in training"
    return None


# These take a `training` argument and ignore it: their base class has one, or quantization to float8.
_SAME_IN_TRAINING = (
    keras.layers.CenterCrop,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Resizing,
)
_DROPOUTS = (keras.layers.Dropout, keras.layers.SpatialDropout2D)


def _is_same_in_training(layer: keras.Layer) -> bool:
    # The class itself: one derived from it may use the argument.
    is_float8 = getattr(layer, "quantization_mode", None) == "float8"
    return type(layer) in _SAME_IN_TRAINING and not is_float8


def _is_frozen_batch_normalization(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization) and not layer.trainable


def _takes_training(layer: keras.Layer) -> bool:
    # A Lambda takes the argument for a function that may not.
    call = layer.function if isinstance(layer, keras.layers.Lambda) else layer.call
    parameters = inspect.signature(call).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return "training" in parameters or takes_any


def has_unknown_code(model: keras.Model) -> bool:
    """Whether `model` runs code that is not Keras' own, which no reading of the graph can judge."""
    return any(
        isinstance(layer, keras.layers.Lambda)
        or not type(layer).__module__.startswith("keras.")
        or _has_unknown_activation(layer)
        for layer in sublayers(model.layers)
    )


def _has_unknown_activation(layer: keras.Layer) -> bool:
    activation = getattr(layer, "activation", None)
    module = getattr(activation, "__module__", "")
    return activation is not None and not module.startswith(("keras.", "tensorflow."))


def _replay(tail_steps: list[Step], frontier: list[Any], model: keras.Model) -> keras.Model:
    """Run the tail's steps again, on new inputs that stand for the frontier.

    `keras.Model(frontier, outputs)` would do the same by cloning graph nodes, but replaces every call
    of a layer that made a frontier tensor, also the calls that lie in the tail (Keras 3.15).
    """
    inputs = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=f"frontier_{i}")
        for i, tensor in enumerate(frontier)
    ]
    replayed = {id(old): new for old, new in zip(frontier, inputs, strict=True)}

    def swap(value: Any) -> Any:
        return replayed.get(id(value), value)

    for step in tail_steps:
        args = keras.tree.map_structure(swap, step.args)
        kwargs = keras.tree.map_structure(swap, step.kwargs)
        outputs = keras.tree.flatten(step.operation(*args, **kwargs))
        replayed.update(
            {id(old): new for old, new in zip(step.outputs, outputs, strict=True)},
        )
    # A Sequential model has no `output`, or that of the last call of it.
    structure = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    outputs = keras.tree.map_structure(swap, structure)
    return keras.Model(inputs, outputs, name=f"{model.name}_tail")


def expected_range(model: keras.Model) -> tuple[float, float] | None:
    """The pixel range (0, 255) if the model's first operations scale such pixels; else None.

    Read off the graph, so that it holds for a model that was saved and loaded: what comes before the
    first layer with weights is run on a black and on a white image. If it maps them to either side of
    zero, or to 0 and 1, it was made for 0 to 255.
    """
    image = model.inputs[0]
    if len(model.inputs) != 1 or len(image.shape) != 4:
        return None
    scaled = _scaled_image(model)
    if scaled is image:
        return None
    stage = keras.Function(image, scaled)
    shape = [1 if size is None else size for size in image.shape]
    black = float(keras.ops.mean(stage(keras.ops.zeros(shape, image.dtype))))
    white = float(keras.ops.mean(stage(keras.ops.full(shape, 255.0, image.dtype))))
    is_unit = abs(black) < 0.01 and abs(white - 1) < 0.01
    is_centred = white > black and abs(white + black) < 0.5 * (white - black)
    return (0.0, 255.0) if is_unit or is_centred else None


def _scaled_image(model: keras.Model) -> Any:
    """The image as the first layer that is more than arithmetic on pixels receives it."""
    ordered = steps(model)
    arithmetic = (
        keras.layers.CenterCrop,
        keras.layers.InputLayer,
        keras.layers.Normalization,
        keras.layers.Rescaling,
        keras.layers.Resizing,
    )
    n_first = next(
        (
            i
            for i, step in enumerate(ordered)
            if isinstance(step.operation, keras.Layer) and not isinstance(step.operation, arithmetic)
        ),
        len(ordered),
    )
    image = model.inputs[0]
    scaled = [
        step.outputs[0]
        for step in _bottlenecks(ordered)
        if step in ordered[:n_first] and len(step.outputs[0].shape) == len(image.shape)
    ]
    return scaled[-1] if scaled else image
