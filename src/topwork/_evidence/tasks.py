"""What the labels of a comparison are: classes, several labels an image, or numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from topwork._data.classes import READERS, classes_of, looks_like
from topwork._data.origin import origin_of
from topwork._networks.arguments import check_task
from topwork._training.linear_fits import Array

# What one batch looks like, and what all before it looked like, is together...
_TOGETHER = {
    frozenset(("one-hot", "labels")): "labels",
    frozenset(("one-hot", "classes")): "classes",
    # The numbers of one batch may happen to be whole, or all 0 and 1.
    frozenset(("numbers", "classes")): "numbers",
    frozenset(("numbers", "one-hot")): "numbers",
    frozenset(("numbers", "labels")): "numbers",
}


@dataclasses.dataclass(frozen=True)
class TargetPair:
    """The labels of two data sets, as a linear model takes them.

    Attributes:
        task: `"classes"`, `"labels"` or `"numbers"`.
        train: Class numbers, (images,); or (images, labels or numbers).
        validation: Likewise.
    """

    task: str
    train: Array
    validation: Array


class SeenLabels:
    """What labels are, found out as they are seen; those that contradict it are refused.

    Args:
        task: What the user says they are; None: what they look like.
    """

    def __init__(self, task: str | None) -> None:
        if task is not None:
            check_task(task, instead=", or None for what the labels look like")
        self._is_given = task is not None
        self._kind = task

    @property
    def task(self) -> str:
        """What all labels seen so far are."""
        return task_of_kind(self._kind)

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
        found = self._kind if self._is_given else looks_like(y)
        known = self._kind or found
        # Numbers after class numbers are wrong class numbers, unless numbers came first.
        is_late = found == "numbers" and known != "numbers"
        if known != found and not is_late:
            known = _TOGETHER.get(frozenset((str(known), str(found))), known)
        READERS[task_of_kind(known)](y, subject)
        self._kind = known

    def targets(self, train: Any, validation: Any) -> TargetPair:
        """All labels of both data sets as the probes take them."""
        if self.task == "classes":
            return TargetPair("classes", *classes_of(train, validation))
        read = READERS[self.task]
        a = read(train, "the training data").astype(np.float64)
        b = read(validation, "the validation data", a.shape[1]).astype(np.float64)
        return TargetPair(self.task, a, b)


def task_of_kind(kind: str | None) -> str:
    """The task of what labels look like; None: nothing was seen yet."""
    return "classes" if kind in (None, "one-hot") else str(kind)
