"""Recognising a model whose trainable part is one Dense layer on frozen features."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from topwork._errors import InputError
from topwork._networks.graph import Step, steps
from topwork._networks.losses import unwrapped

Array = npt.NDArray[Any]

_ADVICE = "Train it with fit, or make a head that can be solved: add_head(..., hidden_units=None)."

# These act only in training; the head is solved without them.
_ONLY_IN_TRAINING = (
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """A head that can be solved: frozen features, a Dense layer, its activation, a convex loss.

    Attributes:
        features: What the Dense layer is called on, as a tensor of the model.
        dense: The layer.
        after: The calls that follow it: activations, or for numbers what brings them to their units.
        loss: `"softmax"`, `"sigmoid"` or `"squared"`.
        label_smoothing: Of the loss.
        ignored: The class that the loss ignores, or None.
    """

    features: Any
    dense: keras.layers.Dense
    after: tuple[Step, ...]
    loss: str
    label_smoothing: float
    ignored: int | None

    def predict(self, features: Any) -> Any:
        """What the model gives for features."""
        return self.finish(self.dense(features))

    def finish(self, value: Any) -> Any:
        """What the model makes of what the Dense layer gives."""
        for step in self.after:
            (received,) = step.inputs
            args, kwargs = keras.tree.map_structure(
                lambda each, value=value, received=received: value if each is received else each,
                (step.args, step.kwargs),
            )
            value = step.operation(*args, **kwargs)
        return value


def linear_head(model: keras.Model) -> LinearHead:
    """The head of a compiled functional model.

    Raises:
        ValueError: Its optimum cannot be solved for.
    """
    ordered = steps(model)
    step = _dense_step(model, ordered)
    _check_plain(step.operation)
    after = _after(model, ordered, step)
    loss, options = _loss_of(model)
    kind = _kind(model, step.operation, after, loss, options)
    return LinearHead(
        features=_without_dropout(step.inputs[0], ordered),
        dense=step.operation,
        after=tuple(after),
        loss=kind,
        label_smoothing=float(options.get("label_smoothing") or 0),
        ignored=options.get("ignore_class"),
    )


def _dense_step(model: keras.Model, ordered: list[Step]) -> Step:
    """The call of the one Dense layer that is trainable."""
    trained = [step for step in ordered if getattr(step.operation, "trainable_variables", None)]
    names = list(dict.fromkeys(f"{s.operation.name!r} ({type(s.operation).__name__})" for s in trained))
    if len(names) != 1 or type(trained[0].operation) is not keras.layers.Dense:
        raise InputError(
            "what is solved is one Dense layer on frozen features, the only trainable part of the model. "
            f"Trainable in {model.name!r}: {', '.join(names) or 'nothing'}. {_ADVICE} What else is "
            "trainable can be frozen: freeze(backbone), before the head is added."
        )
    if len(trained) > 1:
        raise InputError(
            f"the layer {trained[0].operation.name!r} is called {len(trained)} times, and one "
            f"solution would have to fit all of its calls. {_ADVICE}"
        )
    if len(trained[0].inputs[0].shape) != 2:
        raise InputError(
            "the Dense layer must be called on one vector an image, (batch, features). "
            f"{trained[0].operation.name!r} is called on {tuple(trained[0].inputs[0].shape)}. Pool or "
            "flatten the features before it."
        )
    return trained[0]


def _check_plain(dense: keras.layers.Dense) -> None:
    """Raise for what a regularised optimum cannot honour."""
    held = ("kernel_regularizer", "bias_regularizer", "activity_regularizer")
    given = [
        name
        for name in (*held, "kernel_constraint", "bias_constraint")
        if getattr(dense, name, None) is not None
    ]
    if given:
        raise InputError(
            f"the layer {dense.name!r} has a {given[0]}, and fit_head chooses the penalty "
            f"itself, by cross-validation. Leave {given[0]} out, or train with fit."
        )
    if getattr(dense, "lora_enabled", False) or getattr(dense, "quantization_mode", None):
        raise InputError(
            f"the kernel of {dense.name!r} is quantized or has a low-rank adapter (LoRA), and "
            "cannot be written. Solve the head first, then quantize the model or enable the adapter."
        )


def _after(model: keras.Model, ordered: list[Step], dense: Step) -> list[Step]:
    """The calls from the Dense layer to the model's output, each of which takes only the one before."""
    found, tensor = [], dense.outputs[0]
    while tensor is not model.outputs[0] or len(model.outputs) > 1:
        users = [step for step in ordered if any(each is tensor for each in step.inputs)]
        if len(model.outputs) > 1 or len(users) != 1 or len(users[0].inputs) != 1:
            raise InputError(
                f"{model.name!r} must give what its Dense layer {dense.operation.name!r} "
                f"gives, as its only output. Received: a model with {len(model.outputs)} outputs, where "
                f"{len(users)} layers follow that one. {_ADVICE}"
            )
        found.append(users[0])
        tensor = users[0].outputs[0]
    return found


def _without_dropout(tensor: Any, ordered: list[Step]) -> Any:
    """The tensor before layers that pass it on unchanged, but in training."""
    while True:
        step = next(step for step in ordered if any(each is tensor for each in step.outputs))
        if not isinstance(step.operation, _ONLY_IN_TRAINING):
            return tensor
        tensor = step.inputs[0]


def _loss_of(model: keras.Model) -> tuple[Any, dict[str, Any]]:
    """The function that the model's loss calls, and the options it is called with."""
    losses = keras.tree.flatten(model.loss)
    return unwrapped(losses[0] if len(losses) == 1 else None)


_CROSSENTROPIES = {
    keras.losses.sparse_categorical_crossentropy: "softmax",
    keras.losses.categorical_crossentropy: "softmax",
    keras.losses.binary_crossentropy: "sigmoid",
}


def _kind(model: keras.Model, dense: Any, after: list[Step], loss: Any, options: dict[str, Any]) -> str:
    names = [_activation(dense.activation), *(_activation_of(step) for step in after)]
    activation = next((name for name in names if name != "linear"), "linear")
    is_one = sum(name != "linear" for name in names) <= 1
    kind = _CROSSENTROPIES.get(loss)
    if kind and is_one and activation == ("linear" if options.get("from_logits") else kind):
        return kind
    if loss is keras.losses.mean_squared_error and set(names) <= {"linear", "other"}:
        return "squared"
    given = " and ".join(name for name in names if name != "linear") or "linear"
    raise InputError(
        f"the head of {model.name!r} ends in the activation {given!r} and is compiled with the "
        f"loss {getattr(loss, '__name__', model.loss)!r}: that has no optimum that can be solved for. "
        "What has: softmax with a (sparse) categorical crossentropy, sigmoid with binary crossentropy, "
        "either left out with from_logits=True, and no activation with mean squared error. Compile with "
        "one of these, or train with fit."
    )


def _activation_of(step: Step) -> str:
    operation = step.operation
    if isinstance(operation, keras.layers.Softmax):
        return "softmax" if operation.axis in (-1, 1) else "other"
    name = type(operation).__name__
    if name == "Sigmoid" or (name == "Softmax" and operation.axis in (-1, 1)):
        return name.lower()  # keras.ops.sigmoid, keras.ops.softmax
    if isinstance(operation, keras.layers.Activation):
        return _activation(operation.activation)
    return "linear" if isinstance(operation, keras.layers.Identity) else "other"


def _activation(function: Any) -> str:
    for name in ("linear", "softmax", "sigmoid"):
        if function is keras.activations.get(name):
            return name
    return getattr(function, "__name__", None) or type(function).__name__


def units_of(head: LinearHead) -> tuple[Array, Array]:
    """What the calls after the Dense layer do to numbers: `scale * value + offset`, (outputs,) each.

    Raises:
        ValueError: They do something else to them.
    """
    n_outputs = head.dense.units
    tried = np.asarray([np.full(n_outputs, value, np.float32) for value in (0, 1, -3, 20)])
    given = np.asarray(head.finish(keras.ops.convert_to_tensor(tried)), np.float64)
    offset, scale = given[0], given[1] - given[0]
    expected = offset + tried * scale
    tolerance = 1e-5 * (np.abs(offset) + np.abs(scale) * 20)
    if given.shape != tried.shape or (np.abs(given - expected) > tolerance).any() or not scale.all():
        raise InputError(
            f"what follows the Dense layer {head.dense.name!r} must only scale and shift what "
            "it gives, each output for itself. Leave it out, or train with fit."
        )
    return scale, offset
