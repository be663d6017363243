"""The labels of each image as numbers that can be counted: classes, several labels, or numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork._data.arrays import with_numbers
from topwork._data.labels import number_advice
from topwork._errors import InputError, described, listed

Classes = npt.NDArray[np.int64]
# So many labels of a data set are looked at.
_FIRST = 32


def looks_like(y: Any) -> str:
    """What labels seem to be: `"classes"`, `"one-hot"`, `"labels"` (several an image) or `"numbers"`.

    What is nothing of these looks like classes, whose check says what is wrong with it.
    """
    labels = _as_array(y)
    if labels.dtype.kind not in "biuf" or labels.ndim not in (1, 2):
        return "classes"
    if labels.ndim == 2 and labels.shape[1] > 1:
        if is_one_hot(labels):
            return "one-hot"
        return "labels" if _is_binary(labels).all() else "numbers"
    # A later one that is not whole is a wrong class number.
    first = labels[:_FIRST]
    first = first[np.isfinite(first)]
    return "classes" if (first == np.floor(first)).all() else "numbers"


def is_one_hot(labels: Any) -> bool:
    """Whether each row of labels (images, classes) has a single 1, and zeros."""
    return bool(_has_single_one(labels).all())


def _has_single_one(labels: Any) -> Any:
    return _is_binary(labels).all(axis=1) & (labels.sum(axis=1) == 1)


def _is_binary(labels: Any) -> Any:
    return (labels == 0) | (labels == 1)


def class_numbers(y: Any, subject: str, n_classes: int | None = None) -> Classes:
    """The class of each image, (images,), from class numbers or one-hot labels.

    Args:
        y: Labels, (images,), (images, 1) or (images, classes).
        subject: What has them, for messages: ``"the training data"``.
        n_classes: How many there are; None: as many as it takes.

    Raises:
        InputError: They are neither, or not of these classes.
    """
    labels = _present(y, subject)
    is_rows = labels.ndim == 2 and labels.shape[1] > 1 and n_classes in (None, labels.shape[1])
    is_column = labels.ndim > 0 and labels.size == len(labels)
    if labels.dtype.kind not in "biuf" or not (is_rows or is_column):
        columns = "" if n_classes is None else f" of {n_classes} columns"
        advice = number_advice(labels) or "Pass an array of shape (images,)"
        raise InputError(
            f"labels must be class numbers, or one-hot{columns}, one for each image, and {subject} has "
            f"other ones. Received: {described(y)}. {advice}."
        )
    return _from_one_hot(labels, subject) if is_rows else _whole(labels.ravel(), subject, n_classes)


def _from_one_hot(labels: Any, subject: str) -> Classes:
    fits = _has_single_one(labels)
    if not fits.all():
        raise InputError(
            f"{subject} has labels of shape {labels.shape}, which must be one-hot, a single 1 in each "
            f"row. Received the row: {labels[~fits][0]}. Of smoothed or mixed labels pass the ones "
            "that they were made from; images of several classes have no single right one."
        )
    return np.asarray(labels.argmax(axis=1))


def _whole(numbers: Any, subject: str, n_classes: int | None) -> Classes:
    wrong = numbers != np.floor(numbers)
    if n_classes is not None:
        wrong |= (numbers < 0) | (numbers >= n_classes)
    if wrong.any():
        valid = "" if n_classes is None else f" of {n_classes} classes, numbered 0 to {n_classes - 1}"
        raise InputError(
            f"labels must be class numbers{valid}, and {subject} has the label {numbers[wrong][0]}. "
            "Number the classes from 0, np.unique(labels, return_inverse=True)[1]."
        )
    return np.asarray(numbers.astype(np.int64))


def classes_of(train: Any, validation: Any) -> tuple[Classes, Classes]:
    """The classes of the images of both, numbered from 0, from their labels."""
    known, train_classes = np.unique(class_numbers(train, "the training data"), return_inverse=True)
    check_several(known, "the training data")
    wanted = class_numbers(validation, "the validation data")
    unknown = np.setdiff1d(wanted, known)
    if len(unknown):
        raise InputError(
            f"the validation data has the label {unknown[0]}, and the training data has only "
            f"{listed(known)}. Number the classes of both in the same way."
        )
    return train_classes, np.searchsorted(known, wanted)


def check_several(found: Any, subject: str) -> None:
    """Raise where all images are of one class, of which nothing can be learnt."""
    if len(found) == 1:
        raise InputError(
            f"all images of {subject} have the label {found[0]}, and there must be at least two classes. "
            "Is the data sorted by class, and only the beginning of it used?"
        )


def multi_hot(y: Any, subject: str, n_labels: int | None = None) -> npt.NDArray[np.bool_]:
    """Whether each image has each label, (images, labels), from rows of 0 and 1.

    Args:
        y: Labels, (images, labels), or (images,) where there is but one.
        subject: What has them, for messages: ``"the data"``.
        n_labels: How many there are; None: as many as there are columns.

    Raises:
        InputError: They are something else.
    """
    labels = _present(y, subject)
    rows = labels.reshape(-1, 1) if labels.ndim == 1 and len(labels) else labels
    is_rows = rows.ndim == 2 and n_labels in (None, rows.shape[1]) and rows.dtype.kind in "biuf"
    if not is_rows or not _is_binary(rows).all():
        columns = "" if n_labels is None else f" of {n_labels} columns"
        raise InputError(
            f"several labels an image are rows of 0 and 1{columns}, one for each, and {subject} has "
            f"other ones. Received: {described(y)}{_odd_row(labels, _is_binary)}. Where they are lists "
            "of names, topwork.data.read_folder makes such rows of a table, task='labels'."
        )
    return rows.astype(bool)


def _odd_row(labels: Any, is_right: Callable[[Any], Any]) -> str:
    """For a message: the first image whose labels are wrong, if it is their values that are."""
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "biuf":
        return ""
    wrong = ~is_right(labels).reshape(len(labels), -1).all(axis=1)
    return f", and {labels[wrong][0]} for image {wrong.argmax()}" if wrong.any() else ""


def numbers_of(y: Any, subject: str, n_numbers: int | None = None) -> npt.NDArray[np.float64]:
    """What is to be predicted of each image, (images, numbers).

    Args:
        y: (images,) or (images, numbers), finite.
        subject: What has them, for messages: ``"the data"``.
        n_numbers: How many there are of an image; None: as many as there are columns.

    Raises:
        InputError: They are something else.
    """
    labels = _present(y, subject)
    is_rows = labels.ndim in (1, 2) and labels.dtype.kind in "biuf"
    numbers = labels.reshape(len(labels), -1).astype("float64") if is_rows else labels
    if not is_rows or n_numbers not in (None, numbers.shape[1]) or not np.isfinite(numbers).all():
        columns = "a number" if n_numbers in (None, 1) else f"{n_numbers} numbers"
        raise InputError(
            f"what is to be predicted is {columns} for each image, finite, and {subject} has other "
            f"labels. Received: {described(y)}{_odd_row(labels, np.isfinite)}. Leave out images whose "
            "numbers are not known."
        )
    return numbers


def _present(y: Any, subject: str) -> Any:
    if y is None:
        raise InputError(
            f"{subject} has no labels. Pass (images, labels), or a data set of batches of both."
        )
    if isinstance(y, (tuple, list, dict)):
        raise InputError(
            f"the labels of {subject} must be one array, with an entry for each image. Received: "
            f"{described(y)}. Stack the arrays of single images, np.stack(labels), or pass the labels of "
            "one output."
        )
    return _as_array(y)


def _as_array(y: Any) -> Any:
    """Of several arrays of labels, and of none, an empty one."""
    return np.empty(0) if y is None or isinstance(y, (tuple, list, dict)) else with_numbers(np.asarray(y))


# How labels are read, by the task.
READERS: dict[str, Callable[..., npt.NDArray[Any]]] = {
    "classes": class_numbers,
    "labels": multi_hot,
    "numbers": numbers_of,
}
