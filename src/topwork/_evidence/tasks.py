"""What the labels of a comparison are: classes, several labels an image, or numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from topwork._data.classes import class_numbers, classes_of, multi_hot, numbers_of
from topwork._data.origin import origin_of
from topwork._errors import InputError
from topwork._training.linear_fits import Array

TASKS = ("classes", "labels", "numbers")
_FIRST = 32
# What one batch looks like, and what all before it looked like, is together...
_TOGETHER = {
    frozenset(("one-hot", "labels")): "labels",
    frozenset(("one-hot", "classes")): "classes",
    # The numbers of one batch may happen to be whole, or all 0 and 1.
    frozenset(("numbers", "classes")): "numbers",
    frozenset(("numbers", "one-hot")): "numbers",
    frozenset(("numbers", "labels")): "numbers",
}
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "classes": class_numbers,
    "one-hot": class_numbers,
    "labels": multi_hot,
    "numbers": numbers_of,
}


@dataclasses.dataclass(frozen=True)
class Targets:
    """The labels of two data sets, as a linear model takes them.

    Attributes:
        task: `"classes"`, `"labels"` or `"numbers"`.
        train: Class numbers, (images,); or (images, labels or numbers).
        validation: Likewise.
    """

    task: str
    train: Array
    validation: Array


class Looked:
    """What labels are, found out as they are looked at; those that contradict it are refused.

    Args:
        task: What the user says they are; None: what they look like.
    """

    def __init__(self, task: str | None) -> None:
        if task is not None and task not in TASKS:
            raise InputError(
                f"task must be one of {', '.join(map(repr, TASKS))}, or None for what the labels look "
                f"like. Received: {task!r}."
            )
        self._is_given = task is not None
        self._kind = task

    @property
    def task(self) -> str:
        """What all labels looked at so far are."""
        return "classes" if self._kind in (None, "one-hot") else str(self._kind)

    def trust(self, data: Any) -> None:
        """Take what a data set knows of its labels, where it was `read_folder` that read them."""
        origin = origin_of(data)
        if self._is_given or origin is None or origin.setting is None:
            return
        if origin.class_names is None:
            self._kind, self._is_given = "numbers", True
        elif origin.labels is not None:
            self._kind = "labels" if origin.labels.ndim == 2 else "classes"
            self._is_given = True

    def see(self, y: Any, subject: str) -> None:
        """Look at labels.

        Raises:
            InputError: They are no labels, or others than those before them.
        """
        found = self._kind if self._is_given else _kind_of(y)
        known = self._kind or found
        # Numbers after class numbers are wrong class numbers, unless numbers came first.
        is_late = found == "numbers" and known != "numbers"
        if known != found and not is_late:
            known = _TOGETHER.get(frozenset((str(known), str(found))), known)
        _CHECKS[str(known)](y, subject)
        self._kind = known

    def targets(self, train: Any, validation: Any) -> Targets:
        """All labels of both data sets as the probes take them."""
        if self.task == "classes":
            return Targets("classes", *classes_of(train, validation))
        rows = _CHECKS[self.task]
        a = rows(train, "the training data").astype(np.float64)
        b = rows(validation, "the validation data").astype(np.float64)
        if a.shape[1] != b.shape[1]:
            raise InputError(
                f"the training data has {a.shape[1]} {self.task} for an image, and the validation data "
                f"{b.shape[1]}. Read both in the same way."
            )
        return Targets(self.task, a, b)


def _kind_of(y: Any) -> str:
    labels: Any = np.asarray(y) if y is not None and not isinstance(y, (tuple, list, dict)) else None
    if labels is None or labels.dtype.kind not in "biuf" or labels.ndim not in (1, 2):
        return "classes"  # whose check says what is wrong
    if labels.ndim == 2 and labels.shape[1] > 1:
        is_binary = bool(((labels == 0) | (labels == 1)).all())
        is_single = is_binary and bool((labels.sum(axis=1) == 1).all())
        return "one-hot" if is_single else "labels" if is_binary else "numbers"
    # As of a batch: a later one that is not whole is a wrong class number.
    first = labels[:_FIRST]
    is_whole = bool((first == np.floor(first)).all()) or not np.isfinite(first).all()
    return "classes" if is_whole else "numbers"
