"""Labels as a probe takes them: of one class, of several an image, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from topwork._data.classes import READERS, check_several, looks_like
from topwork._data.labels import LabelKind, label_kind
from topwork._errors import InputError, described, listed, warn
from topwork._evidence.tasks import task_of_kind
from topwork._networks.class_names import names_in_order
from topwork._networks.record import read_record
from topwork._training.linear_fits import Array

# With fewer images of a class, too little is learned to judge any of them.
_FEWEST_OF_A_CLASS = 5


def label_targets(model: keras.Model, y: Any) -> tuple[Array, str, tuple[str, ...] | None]:
    """Labels as the probe takes them, the task, and the names that the labels themselves are."""
    parts = [each for each in keras.tree.flatten(y) if each is not None]
    if len(parts) != 1:
        raise InputError(
            "the data must have one array of labels, a label or a row of them for each image. Received: "
            f"{described(y)}. Pass (images, labels), or a data set of batches of both."
        )
    labels = np.asarray(parts[0])
    if labels.dtype.kind in "USO":
        texts = [x.decode() if isinstance(x, bytes) else str(x) for x in labels.ravel()]
        found, numbers = np.unique(texts, return_inverse=True)
        return numbers, "classes", tuple(map(str, found))
    kind = label_kind(model) if getattr(model, "compiled", False) else None
    task = task_of_kind(looks_like(labels)) if kind is None else _task(kind, labels)
    return READERS[task](labels, "the data"), task, None


def _task(kind: LabelKind, labels: Array) -> str:
    """By what the loss takes; rows of labels for sigmoid units are several an image."""
    if kind.kind == "binary":
        return "labels" if labels.ndim == 2 and labels.shape[1] > 1 else "classes"
    return "numbers" if kind.kind == "numbers" else "classes"


def named_targets(
    class_names: Sequence[str] | None,
    known: Sequence[str] | None,
    model: keras.Model,
    targets: Array,
    task: str,
) -> tuple[tuple[str, ...], Array]:
    """Names of the classes, labels or numbers, and the targets; classes numbered anew, as they occur."""
    given = None if class_names is None else names_in_order(class_names)
    numbers = np.unique(targets) if task == "classes" else np.arange(targets.shape[1])
    low, high = int(numbers[0]), int(numbers[-1])
    for names in (given, known, read_record(model).class_names):
        fits = names is not None and low >= 0 and high < len(names)
        if names is not None and fits and (task == "classes" or len(names) == len(numbers)):
            break
        if names is given and names is not None:
            raise InputError(
                f"class_names has {len(names)} names, and the data {high + 1} {task}. Give all."
            )
    else:
        names = None
    found = tuple(str(number) if names is None else str(names[number]) for number in numbers)
    return found, np.searchsorted(numbers, targets) if task == "classes" else targets


def check_classes(classes: Array, names: Sequence[str]) -> None:
    """Raise if there is but one class; warn of those with too few images."""
    counts = np.bincount(classes, minlength=len(names))
    check_several(names, "the data")
    few = [name for name, count in zip(names, counts, strict=True) if count < _FEWEST_OF_A_CLASS]
    if few:
        warn(
            f"too little is learned of a class of fewer than {_FEWEST_OF_A_CLASS} images to judge its "
            f"labels, as of {listed(few)}."
        )
