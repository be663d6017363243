"""Mistakes in the data that would spoil training without an error message."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from topwork._errors import warn
from topwork._networks.pixel_range import expected_range

# A black image has small pixels too; 1 and a little is what scaling to 0..1 leaves at most.
_LARGEST_SCALED_PIXEL = 1.5


class Guard:
    """Looks at each batch of a data set, before anything is trained on it."""

    def __init__(self, model: keras.Model, data_name: str, *, labelled: bool = True) -> None:
        self._data_name = data_name
        self._input_names = [tensor.name for tensor in model.inputs]
        self._range = expected_range(model)
        self._expects_labels = label_kind(model) if labelled else None
        self._ignored = getattr(model.loss, "ignore_class", None)
        self._n_seen = 0

    def check(self, inputs: list[Any], y: Any) -> None:
        """Raise for pixels or labels that cannot be trained on; warn of a wrong pixel range, once."""
        for name, array in zip(self._input_names, inputs, strict=True):
            self._check_finite(name, array)
        # A black image tells nothing: the first batch with anything else in it decides.
        if self._range is not None and inputs[0].any():
            warn_of_scaled_pixels(inputs[0], self._range, f"fit: {self._data_name}")
            self._range = None
        if self._expects_labels is not None:
            check_labels(y, *self._expects_labels, self._data_name, self._n_seen, ignored=self._ignored)
        self._n_seen += len(inputs[0])

    def check_not_empty(self) -> None:
        """Raise if no image has been seen."""
        if self._n_seen == 0:
            raise ValueError(f"fit: {self._data_name} has no images. Look at how the data set is made.")

    def _check_finite(self, name: str, array: Any) -> None:
        # A sum is NaN or infinite if one of its terms is, and costs a fraction of asking each.
        if array.dtype.kind != "f" or np.isfinite(array.sum(dtype=np.float64)):
            return
        bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        first = self._n_seen + int(bad.argmax())
        raise ValueError(
            f"fit: {self._data_name} has pixels that are NaN or infinite, in input {name!r}, first in "
            f"image {first} (counted from 0). Find out where they come from, a division by zero for "
            "example, and leave such images out."
        )


def warn_of_scaled_pixels(pixels: Any, expected: tuple[float, float] | None, subject: str) -> None:
    """Warn if `pixels` were scaled to 0-1 or -1 to 1, and the `expected` range is 0 to 255.

    Args:
        pixels: Of an image or of a batch.
        expected: The range that the model expects; None if that is not known.
        subject: The public function and what has the pixels: ``"predict: the image"``.
    """
    if expected is None or not pixels.any():  # a black image tells nothing
        return
    low, high = float(pixels.min()), float(pixels.max())
    if high <= _LARGEST_SCALED_PIXEL:
        warn(
            f"{subject} has pixels from {low:.3g} to {high:.3g}, and the model expects raw pixels from "
            "0 to 255: its preprocessing is part of it. Leave out your own scaling, such as "
            "Rescaling(1 / 255)."
        )


def label_kind(model: keras.Model) -> tuple[str, int] | None:
    """What labels the loss takes, `"sparse"`, `"categorical"` or `"binary"`, and the classes.

    None for a loss of another kind, several outputs, or outputs that are not one vector an image.
    """
    losses = keras.tree.flatten(model.loss)  # one, or a list or dict of one for each output
    if len(losses) != 1 or len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        return None
    loss = keras.losses.get(losses[0])
    kind = _KINDS.get(getattr(loss, "fn", loss))  # a loss object has the function as `fn`
    return None if kind is None else (kind, int(model.outputs[0].shape[-1]))


_KINDS = {
    keras.losses.sparse_categorical_crossentropy: "sparse",
    keras.losses.categorical_crossentropy: "categorical",
    keras.losses.categorical_focal_crossentropy: "categorical",
    keras.losses.binary_crossentropy: "binary",
    keras.losses.binary_focal_crossentropy: "binary",
}


def check_labels(
    y: Any, kind: str, n_classes: int, data_name: str, n_before: int = 0, *, ignored: int | None = None
) -> None:
    """Raise unless the labels are what the loss of `kind` takes, or the class that it ignores."""
    if y is None:
        raise ValueError(
            f"fit: {data_name} has no labels. Pass them as y, or as (images, labels) in a dataset."
        )
    labels = np.asarray(y)
    problem = _type_problem(labels) or _CHECKS[kind](labels, n_classes, ignored)
    if problem is None and labels.dtype.kind == "f" and not np.isfinite(labels).all():
        problem = "labels that are NaN or infinite. Leave such images out"
    if problem:
        raise ValueError(
            f"fit: {data_name} has {problem}. First seen in images {n_before} to "
            f"{n_before + len(labels) - 1}."
        )


def _type_problem(labels: Any) -> str | None:
    if labels.dtype.kind in "OSUM":
        return (
            f"labels of type {labels.dtype}, the first {labels.flat[0]!r}, and the loss takes numbers. "
            "Number the classes, names, labels = np.unique(labels, return_inverse=True) for example"
        )
    return None


def _sparse_problem(labels: Any, n_classes: int, ignored: int | None) -> str | None:
    if labels.ndim == 2 and labels.shape[1] == n_classes and n_classes > 1:
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
    if (labels < 0).any() or (labels > 1).any():
        return f"one-hot labels from {labels.min()} to {labels.max()}. They go from 0 to 1"
    return None


def _binary_problem(labels: Any, n_classes: int, _: int | None) -> str | None:
    if n_classes == 1 and labels.ndim == 2 and labels.shape[1] > 1:
        return (
            f"one-hot labels of shape {labels.shape}, and the model has one sigmoid unit, which takes "
            "0 or 1 for each image. Pass labels.argmax(axis=-1)"
        )
    if n_classes > 1 and labels.shape[1:] != (n_classes,):
        return (
            f"labels of shape {labels.shape}, and the model has {n_classes} sigmoid units, which take "
            f"0 or 1 for each class, shape (images, {n_classes}). For one class of several, compile "
            "with loss='sparse_categorical_crossentropy'"
        )
    outside = labels[(labels < 0) | (labels > 1)]
    if len(outside):
        return (
            f"the label {outside.flat[0]}, and a sigmoid unit tells 0 from 1. For more classes make "
            "the head with add_head(n_classes=...), 2 or more"
        )
    return None


_CHECKS = {
    "sparse": _sparse_problem,
    "categorical": _categorical_problem,
    "binary": _binary_problem,
}


def _is_column(labels: Any) -> bool:
    return labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
