"""What is to be learnt: labels as a linear model takes them, and as people count right answers."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from topwork._data.classes import class_numbers
from topwork._errors import InputError, described
from topwork._features.table import Table
from topwork._training.linear_fits import Array

TASKS = {"classes": "softmax", "labels": "sigmoid", "numbers": "squared"}


@dataclasses.dataclass(frozen=True)
class Targets:
    """The labels of a data set.

    Attributes:
        task: `"classes"`, `"labels"` or `"numbers"`.
        values: Class numbers, (images,), or (images, labels or numbers).
        weights: (images,)
        n_outputs: How many numbers a head gives.
    """

    task: str
    values: Array
    weights: Array
    n_outputs: int

    @property
    def loss(self) -> str:
        return TASKS[self.task]

    @property
    def figure(self) -> str:
        """What `right` says of an image, for people."""
        return "error" if self.task == "numbers" else "accuracy"

    def right(self, scores: Array, rows: Array) -> Array:
        """For each image how right the scores are: 0 to 1, or the absolute error of numbers."""
        values = self.values[rows]
        if self.task == "classes":
            return (scores.argmax(axis=1) == values).astype(np.float64)
        if self.task == "labels":
            return np.asarray(((scores > 0) == (values > 0.5)).mean(axis=1))
        return np.asarray(np.abs(scores - values).mean(axis=1))

    def losses(self, scores: Array, rows: Array) -> Array:
        """For each image the loss of scores, as cross-validation has it."""
        values = self.values[rows]
        if self.task == "classes":
            return np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(rows)), values]
        if self.task == "labels":
            return (np.logaddexp(0, scores) - values * scores).sum(axis=1)
        return np.asarray(np.square((scores - values) / self._deviation).sum(axis=1) / 2)

    @property
    def _deviation(self) -> Array:
        deviation = self.values.std(axis=0)
        return np.where(deviation > 0, deviation, 1.0)


def scores_from_outputs(outputs: Array, task: str) -> Array:
    """What a model said before its activation, from what it gives; the least that float32 tells apart."""
    outputs = outputs.astype(np.float64)
    if task == "numbers":
        return outputs
    likely = np.log(np.maximum(outputs, 1e-12))
    return likely if task == "classes" else likely - np.log(np.maximum(1 - outputs, 1e-12))


def targets_of_table(table: Table, task: str, name: str, n_outputs: int | None = None) -> Targets:
    """The labels of a data set that was read.

    Args:
        table: The data set.
        task: What the labels are.
        name: Of the data, for messages.
        n_outputs: Of the training data, if these are the validation data's; None: as many as it takes.
    """
    if task == "classes":
        values = class_numbers(table.y, f"the {name}", n_outputs)
        _check_classes(values, n_outputs)
        n = int(values.max()) + 1 if n_outputs is None else n_outputs
    else:
        values = _rows(table.y, task, name, n_outputs)
        n = values.shape[1]
    return Targets(task, values, _weights(table), n)


def _check_classes(values: Array, n_outputs: int | None) -> None:
    if values.min() < 0:
        raise InputError(f"classes are numbered from 0. Received: the label {values.min()}.")
    if n_outputs is None and len(np.unique(values)) < 2:
        raise InputError(
            f"all images of the training data have the label {values[0]}, and there must be at least two "
            "classes. Is the data sorted by class, and only the beginning of it used?"
        )


def _rows(y: Any, task: str, name: str, n_outputs: int | None) -> Array:
    labels = None if y is None or isinstance(y, (dict, tuple, list)) else np.asarray(y)
    if labels is None or labels.dtype.kind not in "biuf" or labels.ndim > 2:
        raise InputError(
            f"the {name} needs {_WANTED[task]}, (images,) or (images, {task}). Received: {described(y)}."
        )
    values = labels.reshape(len(labels), -1).astype(np.float64)
    if not np.isfinite(values).all() or (task == "labels" and not np.isin(values, (0, 1)).all()):
        wrong = values[~np.isfinite(values)] if task == "numbers" else values[~np.isin(values, (0, 1))]
        raise InputError(f"the {name} needs {_WANTED[task]}. Received the label {wrong[0]:g}.")
    if n_outputs not in (None, values.shape[1]):
        raise InputError(
            f"the training data has {n_outputs} {task} for an image, and the {name} {values.shape[1]}."
        )
    return values


_WANTED = {"labels": "labels of 0 and 1", "numbers": "labels that are finite numbers"}


def _weights(table: Table) -> Array:
    weights = [np.asarray(each) for each in keras.tree.flatten(table.sample_weight) if each is not None]
    if not weights:
        return np.ones(len(table))
    if weights[0].size != len(table) or (weights[0] < 0).any() or not np.isfinite(weights[0]).all():
        raise InputError(
            "sample weights are finite numbers of at least 0, one for each image. Received: "
            f"{described(weights[0])}."
        )
    return weights[0].reshape(len(table)).astype(np.float64)
