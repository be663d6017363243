"""Labels as a probe takes them: of one class, of several an image, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from topwork._data.classes import class_numbers
from topwork._data.labels import label_kind
from topwork._errors import InputError, described, listed, warn
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
    return *_by_kind(labels, _looks_like(labels) if kind is None else kind.kind), None


def _looks_like(labels: Array) -> str:
    """What kind of labels these are, where no loss says it."""
    is_binary = bool(((labels == 0) | (labels == 1)).all())
    if labels.ndim == 2 and labels.shape[1] > 1:
        is_one_hot = is_binary and bool((labels.sum(axis=1) == 1).all())
        return "categorical" if is_one_hot else "binary" if is_binary else "numbers"
    is_whole = labels.dtype.kind != "f" or bool((labels == np.floor(labels)).all())
    return "sparse" if is_whole else "numbers"


def _by_kind(labels: Array, kind: str) -> tuple[Array, str]:
    if not np.isfinite(labels.astype(np.float64)).all():
        raise InputError("the data has labels that are NaN or infinite. Leave such images out.")
    if kind == "numbers":
        return labels.reshape(len(labels), -1), "numbers"
    if kind == "binary" and labels.ndim == 2 and labels.shape[1] > 1:
        return labels, "labels"
    return class_numbers(labels, "the data"), "classes"


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
    if len(names) < 2:
        raise InputError(
            f"all {len(classes):,} labels are {names[0]}, and a label is judged by what tells its class "
            "from others. Pass the data of all classes."
        )
    few = [name for name, count in zip(names, counts, strict=True) if count < _FEWEST_OF_A_CLASS]
    if few:
        warn(
            f"too little is learned of a class of fewer than {_FEWEST_OF_A_CLASS} images to judge its "
            f"labels, as of {listed(few)}."
        )
