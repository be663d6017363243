"""What in a model cannot change while it is trained, and splitting the model there in two."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from topwork._errors import InputError
from topwork._features.constancy import needs_trial, obstacle
from topwork._features.replay import replay
from topwork._features.trial import Trial
from topwork._features.unknown_code import named
from topwork._networks.graph import Step, is_of_images, steps
from topwork._networks.unnesting import unnested
from topwork._private_keras import has_mask


class NotSplittable(Exception):
    """Why no part of a model can be computed once; the message is shown to the user."""


@dataclasses.dataclass(frozen=True)
class Split:
    """A model in two: `tail(prefix(x))` is the model, and only `tail` can change.

    Both take and give lists of tensors: `prefix` the model's inputs, then the frontier between them.

    Attributes:
        prefix: The part that cannot change.
        tail: The rest.
        frontier: The tensors of the model between them, from which the same tail always follows; empty
            where it has constants in it.
    """

    prefix: keras.Model
    tail: keras.Model
    frontier: tuple[Any, ...] = ()


def split(model: keras.Model, images: list[Any] | None = None) -> Split:
    """Split `model` at its frozen frontier, sharing its layers and variables.

    The prefix is everything that cannot change while the model is trained and gives the same output
    for the same image, whatever lies beside it in a batch; the tail is the rest. The tensors between
    them can be several.

    Args:
        model: A functional or Sequential model.
        images: The inputs of a batch. Calls that reading cannot judge are tried on a few of them;
            without any they belong to the tail.

    Raises:
        NotSplittable: Nothing worth computing once lies before the first thing that changes.
    """
    _check_own_code(model)
    calls = steps(model)
    ordered = unnested(calls)
    frozen, constants, obstacles = _frozen_steps(
        ordered, None if images is None else Trial(model, images)
    )
    if not any(isinstance(step.operation, keras.Layer) and step.operation.weights for step in frozen):
        raise NotSplittable(obstacles[0] if obstacles else "it has no frozen layer with weights")
    tail_steps = [step for step in ordered if step not in frozen]
    frontier = [t for t in _frontier(frozen, tail_steps, model) if id(t) not in constants]
    name = f"{model.name}_prefix"
    if len(ordered) == len(calls):
        prefix = keras.Model(model.inputs, frontier, name=name)
    else:
        own = [step for step in ordered if step in frozen and not step.is_input]
        prefix = replay(own, list(model.inputs), frontier, name)
    # A Sequential model has no `output`, or the output of its last call.
    structure = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    tail = replay(tail_steps, frontier, structure, f"{model.name}_tail", constants)
    return Split(prefix, tail, () if constants else tuple(frontier))


def require_split(model: keras.Model, images: list[Any] | None = None) -> Split:
    """`split` for what has no use of a model that cannot be."""
    try:
        return split(model, images)
    except NotSplittable as reason:
        raise InputError(
            f"nothing of {model.name!r} can be computed once, because {reason}. Freeze the backbone, "
            "freeze(backbone), before the head is added."
        ) from reason


# Methods that Keras calls while it trains. One that a user has overridden would receive features in
# place of images.
_ASKED_BY_KERAS = (
    "call",
    "compute_loss",
    "compute_metrics",
    "evaluate",
    "fit",
    "make_test_function",
    "make_train_function",
    "test_step",
    "train_step",
)


def _check_own_code(model: keras.Model) -> None:
    """Raise for a model that says itself how it is trained."""
    for name in _ASKED_BY_KERAS:
        definer = next(cls for cls in type(model).__mro__ if name in vars(cls))
        if not definer.__module__.startswith("keras."):
            raise NotSplittable(f"its class {definer.__name__} has a {name} of its own")
    for name in set(vars(model)) & set(_ASKED_BY_KERAS):
        raise NotSplittable(f"it has a {name} of its own")


def _frontier(frozen: set[Step], tail_steps: list[Step], model: keras.Model) -> list[Any]:
    frozen_tensors = {id(tensor) for step in frozen for tensor in step.outputs}
    used = [*(tensor for step in tail_steps for tensor in step.inputs), *model.outputs]
    frontier = list({id(tensor): tensor for tensor in used if id(tensor) in frozen_tensors}.values())
    if any(map(has_mask, frontier)):
        raise NotSplittable("a mask is passed along with its frozen features")
    for tensor in frontier:
        if None in tensor.shape[1:]:
            raise NotSplittable(
                f"its frozen features have the shape {tuple(tensor.shape)}, of which only the batch may "
                "be unknown (build the model for one image size)"
            )
    return frontier


def _frozen_steps(
    ordered: list[Step], trial: Trial | None
) -> tuple[set[Step], dict[int, Any], list[str]]:
    """The steps of the prefix, constants in it, and why others with only frozen inputs are not in it.

    Constants are the same for all images: their values, by the ids of their tensors.
    """
    frozen: set[Step] = set()
    tensors: set[int] = set()
    constants: dict[int, Any] = {}
    obstacles: list[str] = []
    for step in ordered:
        if not all(id(tensor) in tensors for tensor in step.inputs):
            continue
        found = None if step.is_input else _obstacle(step, trial)
        if found:
            obstacles.append(found)
            continue
        frozen.add(step)
        tensors.update(id(tensor) for tensor in step.outputs)
        if trial is not None:
            trial.go_on(step)
            if _is_constant(step, constants):
                constants.update(trial.values(step))
    return frozen, constants, obstacles


def _is_constant(step: Step, constants: dict[int, Any]) -> bool:
    """Whether a step of the prefix gives the same for all images: tried to, or made of what does."""
    if step.is_input or any(map(is_of_images, step.outputs)):
        return False
    return needs_trial(step) or all(id(tensor) in constants for tensor in step.inputs)


def _obstacle(step: Step, trial: Trial | None) -> str | None:
    found = obstacle(step)
    if found is not None or not needs_trial(step):
        return found
    if trial is None:
        name = named(step.operation)
        return f"the {name} is not known to give the same whenever it is run"
    return trial.fault(step)
