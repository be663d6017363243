"""What in a model cannot change while it is trained, and splitting the model there in two."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import keras

from topwork._networks.graph import Step, steps
from topwork._private_keras import has_mask


class NotSplittable(Exception):
    """Why no part of a model can be computed once; the message is shown to the user."""


@dataclasses.dataclass(frozen=True)
class Split:
    """A model in two: `tail(prefix(x))` is the model, and only `tail` can change.

    Both take and give lists of tensors: `prefix` the model's inputs, then the frontier between them.
    """

    prefix: keras.Model
    tail: keras.Model


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
    if any(map(has_mask, frontier)):
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
