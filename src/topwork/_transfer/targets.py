"""What is to be learnt: labels as a linear model takes them, and as people count right answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from topwork._data.classes import READERS, check_several
from topwork._errors import InputError
from topwork._features.table import Table
from topwork._training.head_examples import sample_weights
from topwork._training.linear_fits import LOSS_OF, Array, Examples


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
        return LOSS_OF[self.task]

    @property
    def figure(self) -> str:
        """What `right` says of an image, for people."""
        return "error" if self.task == "numbers" else "accuracy"

    def examples(self, rows: Array, read: Callable[[Array], Array], n_features: int) -> Examples:
        """Some of the images for a linear model, with the features that `read` gives of their numbers."""
        return Examples(
            read=read,
            rows=rows,
            targets=self.values[rows],
            weights=self.weights[rows],
            n_features=n_features,
            n_outputs=self.n_outputs,
        )

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
    return targets_of(table.y, sample_weights(table), task, name, n_outputs)


def targets_of(y: Any, weights: Array, task: str, name: str, n_outputs: int | None = None) -> Targets:
    """Likewise of labels as they came, and of weights, (images,)."""
    values = READERS[task](y, f"the {name}", n_outputs)
    if task != "classes":
        return Targets(task, values.astype(np.float64), weights, values.shape[1])
    if values.min() < 0:
        raise InputError(f"classes are numbered from 0. Received: the label {values.min()}.")
    if n_outputs is None:
        check_several(np.unique(values), f"the {name}")
    return Targets(task, values, weights, n_outputs or int(values.max()) + 1)
