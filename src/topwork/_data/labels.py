"""What labels a loss takes, and what is wrong with others: the one place where that is judged."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from topwork._networks.losses import kind_of


class LabelKind(NamedTuple):
    """What labels the loss of an output takes.

    Attributes:
        kind: `"sparse"`: class numbers, one an image; `"categorical"`: a probability for each class,
            one-hot as a rule; `"binary"`: 0 or 1 for each unit; `"numbers"`: a number for each unit.
        n_units: The length of the output.
    """

    kind: str
    n_units: int

    @property
    def is_one_class(self) -> bool:
        """Whether an image is of one class alone, so that there is an accuracy."""
        return self.kind in ("sparse", "categorical") or (self.kind == "binary" and self.n_units == 1)

    @property
    def n_classes(self) -> int:
        """How many classes are told apart; one sigmoid unit tells two."""
        return max(self.n_units, 2)


def label_kind(model: keras.Model) -> LabelKind | None:
    """What labels the loss of a model with one output takes.

    None for a loss of another kind, several outputs, or outputs that are not one vector an image.
    """
    kinds = label_kinds(model)
    return kinds[0] if len(kinds) == 1 else None


def label_kinds(model: keras.Model) -> list[LabelKind | None]:
    """`label_kind` of each output, in the order of `model.outputs`."""
    losses = losses_of(model)
    return [_kind(loss, output) for loss, output in zip(losses, model.outputs, strict=True)]


def losses_of(model: keras.Model) -> list[Any]:
    """What each output was compiled with, in the order of `model.outputs`; None without a loss."""
    given, names = model.loss, output_names(model)
    if isinstance(given, dict):
        return [given.get(name) for name in names]
    flat = keras.tree.flatten(given) if isinstance(given, (list, tuple)) else [given] * len(names)
    return flat if len(flat) == len(names) else [None] * len(names)


def output_names(model: keras.Model) -> list[str]:
    """What the outputs are called in a dict of labels, in the order of `model.outputs`."""
    if isinstance(model, keras.Sequential):  # has no such attribute
        return [model.layers[-1].name]
    if isinstance(model.output, dict):
        return sorted(model.output)  # as Keras flattens it
    return list(model.output_names)


def _kind(loss: Any, output: Any) -> LabelKind | None:
    if loss is None or len(output.shape) != 2 or output.shape[-1] is None:
        return None
    kind = kind_of(loss)
    return None if kind is None else LabelKind(kind, int(output.shape[-1]))


def ignored_class(model: keras.Model) -> int | None:
    """The class that the loss passes over, `SparseCategoricalCrossentropy(ignore_class=255)`."""
    return getattr(model.loss, "ignore_class", None)


def label_problem(labels: Any, kind: LabelKind, ignored: int | None = None) -> str | None:
    """What is wrong with an array of labels for a loss of this kind; None if nothing is."""
    problem = type_problem(labels) or _CHECKS[kind.kind](labels, kind.n_units, ignored)
    if problem is None and labels.dtype.kind == "f" and not np.isfinite(labels).all():
        return "labels that are NaN or infinite. Leave such images out"
    return problem


def type_problem(labels: Any) -> str | None:
    """What is wrong with labels that are no numbers."""
    if labels.dtype.kind not in "biuf" and str(labels.dtype) != "bfloat16":
        first = repr(labels.flat[0:1].tolist()[0]) if labels.size else "missing"
        return (
            f"labels of type {labels.dtype}, the first {first}, and the loss takes numbers. "
            f"{number_advice(labels)}"
        )
    return None


def number_advice(labels: Any) -> str:
    """How labels that are no numbers become some; an empty text for what is numbers already."""
    if labels.dtype.kind in "biuf":
        return ""
    values = labels.ravel().tolist()
    if any(value is None or str(value) in ("nan", "NaT", "<NA>") for value in values):
        return "Some are missing: leave such images out"
    if values and all(_is_number(value) for value in values):
        kind = "float" if any("." in str(value) for value in values) else "int"
        return f"Make them numbers, labels.astype({kind})"
    return "Number the classes, names, labels = np.unique(labels, return_inverse=True)"


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def rows_without_class(labels: Any, kind: LabelKind | None, sample_weight: Any) -> Any:
    """Which rows of one-hot labels are all zeros, their weight not being 0: their loss is 0 always."""
    if kind is None or kind.kind != "categorical" or kind.n_units < 2:
        return np.zeros(len(labels), bool)
    is_empty = ~np.asarray(labels != 0).any(axis=1)
    weights = sample_weight if hasattr(sample_weight, "shape") else None
    return is_empty if weights is None else is_empty & (weights.reshape(len(labels), -1) != 0).any(axis=1)


def _sparse_problem(labels: Any, n_classes: int, ignored: int | None) -> str | None:
    if labels.ndim == 2 and labels.shape[1] == n_classes and n_classes > 1:
        if is_multi_hot(labels):
            return (
                f"multi-hot labels, several classes for an image, in an array of shape {labels.shape}, "
                "and the loss is sparse_categorical_crossentropy, which takes one class. Make the head "
                "with a sigmoid for each class, add_head(n_classes, task='labels'), or compile with "
                "loss='binary_crossentropy' after such a layer"
            )
        return (
            f"one-hot labels of shape {labels.shape}, and the loss is sparse_categorical_crossentropy, "
            f"which takes class numbers. Pass labels.argmax(axis=-1), or compile with "
            "loss='categorical_crossentropy'"
        )
    if not _is_column(labels):
        return f"labels of shape {labels.shape}, and the loss takes one class number for each image"
    outside = labels[(labels < 0) | (labels >= n_classes) | (labels != np.floor(labels))]
    if ignored is not None:
        outside = outside[outside != ignored]
    if len(outside):
        return (
            f"the label {outside.flat[0]}, and the model has {n_classes} classes, numbered 0 to "
            f"{n_classes - 1}. Number the labels from 0, or make the head with more classes"
        )
    return None


def _categorical_problem(labels: Any, n_classes: int, _: int | None) -> str | None:
    if labels.ndim != 2 or labels.shape[1] != n_classes:
        return (
            f"labels of shape {labels.shape}, and the loss is a categorical crossentropy, which takes "
            f"one-hot labels of shape (images, {n_classes}). Pass keras.utils.to_categorical(labels, "
            f"{n_classes}), or compile with loss='sparse_categorical_crossentropy'"
        )
    if is_multi_hot(labels):
        return (
            "multi-hot labels, several classes for an image, and the loss is a categorical crossentropy, "
            "which takes one. Make the head with a sigmoid for each class, add_head(n_classes, "
            "task='labels'), or compile with loss='binary_crossentropy' after such a layer"
        )
    if (labels < 0).any() or (labels > 1).any():
        return f"one-hot labels from {labels.min()} to {labels.max()}. They go from 0 to 1"
    return None


def _binary_problem(labels: Any, n_units: int, _: int | None) -> str | None:
    if n_units == 1 and labels.ndim == 2 and labels.shape[1] > 1:
        if is_multi_hot(labels):
            return (
                f"multi-hot labels of shape {labels.shape}, and the model has one sigmoid unit, which "
                "takes 0 or 1 for each image. Make a head of as many units"
            )
        return (
            f"one-hot labels of shape {labels.shape}, and the model has one sigmoid unit, which takes "
            "0 or 1 for each image. Pass labels.argmax(axis=-1)"
        )
    if n_units > 1 and labels.shape[1:] != (n_units,):
        return (
            f"labels of shape {labels.shape}, and the model has {n_units} sigmoid units, which take "
            f"0 or 1 for each class, shape (images, {n_units}). For one class of several, compile "
            "with loss='sparse_categorical_crossentropy'"
        )
    outside = labels[(labels < 0) | (labels > 1)]
    if len(outside):
        return (
            f"the label {outside.flat[0]}, and a sigmoid unit tells 0 from 1. For more classes make "
            "the head with add_head(n_classes=...), 2 or more"
        )
    return None


def _numbers_problem(labels: Any, n_units: int, _: int | None) -> str | None:
    shape = labels.shape[1:] or (1,)
    if shape != (n_units,):
        return (
            f"labels of shape {labels.shape}, and the model gives {n_units} numbers for each image, "
            f"which need labels of shape (images, {n_units}). For class numbers compile with "
            "loss='sparse_categorical_crossentropy'"
        )
    return None


_CHECKS: dict[str, Callable[[Any, int, int | None], str | None]] = {
    "sparse": _sparse_problem,
    "categorical": _categorical_problem,
    "binary": _binary_problem,
    "numbers": _numbers_problem,
}


def _is_column(labels: Any) -> bool:
    return labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)


def is_multi_hot(labels: Any) -> bool:
    """Whether these are zeros and ones, more than a single one in some of the rows."""
    is_zero_or_one = bool(((labels == 0) | (labels == 1)).all())
    return is_zero_or_one and labels.ndim == 2 and bool((labels.sum(axis=1) > 1).any())
