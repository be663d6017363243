"""What the outputs of a model say: its task, probabilities and the names of its classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from topwork._errors import InputError, closest
from topwork._networks.class_names import names_in_order
from topwork._networks.losses import kind_of, unwrapped
from topwork._networks.record import read_record
from topwork._private_keras import node_of

N_IMAGENET_CLASSES = 1000

Threshold = float | Sequence[float] | Mapping[str, float] | None
_ROUNDING = 0.02


@dataclasses.dataclass(frozen=True)
class Task:
    """What a model tells of an image.

    Attributes:
        kind: `"classes"`: which one of several; `"labels"`: which of several, each for itself;
            `"numbers"`: a number for each output.
        n: How many classes, labels or numbers there are. One sigmoid unit tells two classes.
        from_logits: Whether the loss makes the probabilities, and not the model.
        units: The length of the output.
        is_rescaled: Whether the loss divides the outputs by their sum, as Keras' crossentropies do.
    """

    kind: str
    n: int
    from_logits: bool = False
    units: int = 0
    is_rescaled: bool = False


def task_of(model: Any) -> Task:
    """What a model is for, by its loss; where that does not say it, by its last activation.

    Raises:
        ValueError: The model has no one vector of outputs for an image.
    """
    units = _units(model)
    losses = keras.tree.flatten(getattr(model, "loss", None))
    loss = losses[0] if len(losses) == 1 else None
    activation = _last_activation(model.outputs[0])
    kind = _kind(model, units, loss, activation)
    return Task(
        kind,
        max(units, 2) if kind == "classes" else units,
        from_logits=bool(unwrapped(loss)[1].get("from_logits", False)),
        units=units,
        is_rescaled=kind_of(loss) in ("sparse", "categorical") and units > 1,
    )


def _kind(model: Any, units: int, loss: Any, activation: str) -> str:
    labels, is_named = kind_of(loss), read_record(model).class_names is not None
    binary = "labels" if units > 1 else "classes"
    if activation == "softmax" or labels in ("sparse", "categorical"):
        return "classes"
    if labels == "binary":
        return binary
    # Of a loss for numbers, or of the user's own: numbers, unless it was trained on what has names.
    if loss is not None and activation != "sigmoid":
        return "numbers" if labels == "numbers" or not is_named else "classes"
    if labels == "numbers" and not is_named:
        return "numbers"
    return binary if activation == "sigmoid" else "classes"


def _units(model: Any) -> int:
    outputs = getattr(model, "outputs", None) or []
    shape = tuple(outputs[0].shape) if len(outputs) == 1 else ()
    if len(shape) != 2 or shape[1] is None:
        raise InputError(
            "the model must be a classifier, with one output of shape (None, classes). Received: "
            f"{model!r} with the outputs {[tuple(x.shape) for x in outputs]}. A backbone becomes a "
            "classifier with topwork.add_head(n_classes=...)(backbone)."
        )
    return int(shape[1])


# They give what they are given, in another shape or type at most.
_PASSING = (
    *(keras.layers.Activation, keras.layers.Dropout, keras.layers.Flatten, keras.layers.Identity),
    keras.layers.Reshape,
)


def _last_activation(tensor: Any) -> str:
    """The name of the activation that a model's output comes from, "linear" where there is none."""
    while True:
        node = node_of(tensor)
        operation = node.operation
        if isinstance(operation, keras.Model):
            tensor, *others = keras.tree.flatten(operation.outputs)
            if others:
                return "linear"  # which of them it is, the node does not say
            continue
        name = activation_name(operation)
        if name != "linear" or not isinstance(operation, _PASSING):
            return name
        tensor = node.input_tensors[0]


def n_softmax_units(model: Any) -> int:
    """How many classes the softmax at the end of a model tells apart; 0 if it ends in something else."""
    outputs = getattr(model, "outputs", None) or []
    is_vector = len(outputs) == 1 and len(outputs[0].shape) == 2 and outputs[0].shape[1] is not None
    return int(outputs[0].shape[1]) if is_vector and _last_activation(outputs[0]) == "softmax" else 0


def activation_name(operation: Any) -> str:
    """The activation that a layer, or an operation such as `keras.ops.sigmoid`, applies."""
    is_layer = isinstance(operation, keras.Layer)
    if isinstance(operation, keras.layers.Softmax) or (
        not is_layer and type(operation).__name__ in ("Sigmoid", "Softmax")
    ):
        return type(operation).__name__.lower()
    function = getattr(operation, "activation", None) if is_layer else None
    return (
        "linear" if function is None else getattr(function, "__name__", type(function).__name__).lower()
    )


def values_of(outputs: Any, task: Task) -> npt.NDArray[np.float64]:
    """What the outputs of a batch say: probabilities, or numbers as they are.

    Raises:
        ValueError: They are to be probabilities, and are none.
    """
    return np.asarray(outputs, "float64") if task.kind == "numbers" else probabilities(outputs, task)


def probabilities(outputs: Any, task: Task) -> npt.NDArray[np.float64]:
    """(images, classes or labels) from outputs; those of classes are of sum 1.

    Raises:
        ValueError: The outputs are no probabilities.
    """
    values = np.asarray(outputs, "float64")
    if task.from_logits:
        values = _from_logits(values, task)
    elif task.is_rescaled and (values >= 0).all() and (values.sum(axis=1) > 0).all():
        # What is of sum 1 already, but for rounding, stays what the model said to the last digit.
        sums = values.sum(axis=1, keepdims=True)
        values = np.where(abs(sums - 1) > _ROUNDING, values / sums, values)
    is_probability = np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1 + _ROUNDING
    if is_probability and task.kind == "labels":
        return values
    if is_probability and values.shape[1] == 1:
        return np.hstack([1 - values, values])
    sums = values.sum(axis=1)
    if not is_probability or (abs(sums - 1) > _ROUNDING).any():
        raise InputError(
            "the model must end in softmax, in sigmoid units, or in numbers that it was compiled with a "
            f"loss for. Received outputs from {values.min():.3g} to {values.max():.3g}, of sums "
            f"{sums.min():.3g} to {sums.max():.3g} for an image. Where the model gives logits, "
            "compile it with a loss that has from_logits=True, or add keras.layers.Softmax() to it; for "
            "labels that go together compile it with loss='binary_crossentropy'; for numbers with "
            "'mean_squared_error'."
        )
    return values


def _from_logits(values: npt.NDArray[Any], task: Task) -> npt.NDArray[Any]:
    if task.kind == "labels" or values.shape[1] == 1:
        return 1 / (1 + np.exp(-np.clip(values, -700, 700)))
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def thresholds(given: Threshold, task: Task, names: Sequence[str]) -> Any:
    """The probability from which each label holds, (labels,), or a single unit is class 1.

    Args:
        given: One for all labels, a list with one for each, or a dict by name (0.5 for those left out).
        task: What the model is for.
        names: Of the labels.

    Returns:
        (labels,); for one unit a number, None if it was not given; None for other models.

    Raises:
        InputError: It is no probability, not one for each label, or the model decides in another way.
    """
    is_unit = task.kind == "classes" and task.units == 1
    if given is None:
        return np.full(task.n, 0.5) if task.kind == "labels" else None
    if task.kind != "labels" and not is_unit:
        raise InputError(
            "threshold is for sigmoid units, each of which is decided for itself. Received: "
            f"threshold={given!r}, and the model tells {task.n} {task.kind}. Leave it out."
        )
    if isinstance(given, Mapping):
        given = _by_name(given, names)
    values = np.asarray(given) if not isinstance(given, (str, set)) else np.empty((0, 0))
    n = 1 if is_unit else task.n
    fits = values.ndim == 0 or values.shape == (n,)
    if not fits or values.dtype.kind not in "iuf" or not ((values >= 0) & (values <= 1)).all():
        raise InputError(
            "threshold is a probability from 0 to 1, one for all labels"
            f"{'' if is_unit else f', or a list of {n}, or a dict by name'}. Received: {given!r}. "
            "Leave it out for 0.5."
        )
    return float(values.reshape(-1)[0]) if is_unit else np.broadcast_to(values.astype("float64"), (n,))


def _by_name(given: Mapping[str, float], names: Sequence[str]) -> list[Any]:
    unknown = [key for key in given if key not in names]
    if unknown:
        raise InputError(
            f"threshold has one for {unknown[0]!r}, which is no label. Closest: "
            f"{closest(unknown[0], names)}."
        )
    return [given.get(name, 0.5) for name in names]


def names_of_classes(class_names: Sequence[str] | None, model: Any, task: Task) -> tuple[str, ...]:
    """The names given, else those that the model knows, else ImageNet's for 1000 classes, else numbers.

    Raises:
        ValueError: There is not one name for each class.
    """
    if class_names is None:
        known = read_record(model).class_names
        if known is not None and len(known) == task.n:
            return known
        is_imagenet = task.kind == "classes" and task.n == N_IMAGENET_CLASSES
        return imagenet_names() if is_imagenet else tuple(map(str, range(task.n)))
    names = names_in_order(class_names)
    if len(names) != task.n:
        raise InputError(
            f"class_names has a name for each of the model's {task.n} {task.kind}. Received: class_names="
            f"{str(class_names)[:80]}, {len(names)} names. Give a list of {task.n}, in the order of "
            "the labels: topwork.data.read_folder and Keras' image_dataset_from_directory have it in "
            ".class_names."
        )
    return names


def imagenet_names() -> tuple[str, ...]:
    """Short English names of the 1000 classes, in the order of the outputs.

    The classes are synsets of WordNet, chosen for ILSVRC 2012
    (https://image-net.org/challenges/LSVRC/2012/).
    """
    text = resources.files("topwork").joinpath("_imagenet_names.txt").read_text("utf-8")
    return tuple(text.splitlines())
