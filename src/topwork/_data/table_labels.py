"""The labels in the columns of a table: classes, several labels an image, or numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork._errors import InputError
from topwork._networks.class_names import names_in_order

_SEVERAL = re.compile(r"\s*[|;,]\s*")


def table_labels(
    columns: dict[str, list[Any]], class_names: Sequence[str] | None, task: str | None
) -> tuple[npt.NDArray[Any], tuple[str, ...] | None, str]:
    """Labels, names and task of the columns beside the paths."""
    if task != "labels" or len(columns) > 1:  # of several labels an image may have none
        _check_complete(columns)
    values = {name: _numbers(column) for name, column in columns.items()}
    task = task or ("labels" if _is_several(columns) else _task_of(values))
    if task == "numbers":
        return _real_numbers(columns, values), None, task
    if task == "labels" and len(columns) == 1:
        (column,) = columns.values()
        rows = list(map(_parts, column))
        names = checked_names(class_names, sorted({part for row in rows for part in row}), "labels")
        return np.array([[name in row for name in names] for row in rows], "float32"), tuple(names), task
    if task == "labels":
        names = list(columns if class_names is None else names_in_order(class_names))
        return _multi_hot(columns, values, names), tuple(names), task
    if len(columns) > 1:
        raise InputError(
            f"classes are in one column. Received: {', '.join(columns)}. For several "
            "labels an image, give columns of 0 and 1; leave out columns that are no labels."
        )
    (column,), (number,) = columns.values(), values.values()
    texts = list(map(str, column))
    found = sorted(set(texts))
    if number is not None and (number == np.floor(number)).all() and not _has_zeros_in_front(texts):
        texts = [str(int(x)) for x in number]
        found = [str(int(x)) for x in np.unique(number)]
    names = checked_names(class_names, found, "classes")
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[text] for text in texts], "int32"), tuple(names), task


def _numbers(column: Sequence[Any]) -> npt.NDArray[np.float64] | None:
    try:
        numbers = np.array([float(value) for value in column])
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() else None


def _task_of(values: Mapping[str, Any]) -> str:
    numbers = [column for column in values.values() if column is not None]
    if len(values) > 1:
        binary = len(numbers) == len(values) and all(np.isin(column, (0, 1)).all() for column in numbers)
        return "labels" if binary else "numbers" if len(numbers) == len(values) else "classes"
    return "numbers" if numbers and (numbers[0] != np.floor(numbers[0])).any() else "classes"


def _real_numbers(columns: Mapping[str, Any], values: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    for name, numbers in values.items():
        if numbers is None:
            raise InputError(
                f"numbers are finite, and the column {name!r} has others: "
                f"{', '.join(map(repr, columns[name][:3]))} ... Leave out the column or such rows."
            )
    return np.stack(list(values.values()), axis=1).astype("float32")


def _multi_hot(
    columns: Mapping[str, Any], values: Mapping[str, Any], names: list[str]
) -> npt.NDArray[np.float32]:
    if sorted(names) != sorted(columns):
        raise InputError(
            f"class_names is {names}, and the table has the columns of labels {', '.join(columns)}. Name "
            "each of them, in the order that they are to have."
        )
    for name in names:
        if values[name] is None or not np.isin(values[name], (0, 1)).all():
            raise InputError(
                f"several labels an image are columns of 0 and 1, and {name!r} has others: "
                f"{', '.join(map(repr, columns[name][:3]))} ... Leave it out if it is no label."
            )
    return np.stack([values[name] for name in names], axis=1).astype("float32")


def _check_complete(columns: Mapping[str, Sequence[Any]]) -> None:
    """Raise if a row has no label: it would become a class of its own."""
    for name, column in columns.items():
        missing = [row for row, value in enumerate(column) if _is_missing(value)]
        if missing:
            raise InputError(
                f"there is no label in {len(missing):,} of {len(column):,} rows of the column {name!r}, "
                f"first in row {missing[0]} (counted from 0). Leave such rows out, or label them."
            )


def _is_missing(value: Any) -> bool:
    is_nan = isinstance(value, (float, np.floating)) and math.isnan(value)
    return value is None or is_nan or str(value) in ("<NA>", "NaT") or value == ""


def _is_several(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Whether one column holds lists of labels."""
    (first, *others) = columns.values()
    return not others and all(isinstance(value, (list, tuple, set, frozenset)) for value in first)


def _parts(value: Any) -> list[str]:
    """The labels of one image, from a list or a text of them."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(map(str, value))
    if _is_missing(value):
        return []
    return [part for part in _SEVERAL.split(str(value).strip()) if part]


def _has_zeros_in_front(texts: Sequence[str]) -> bool:
    """Whether what looks like numbers are codes: "007"."""
    return any(len(text) > 1 and text[0] == "0" and text[1] != "." for text in texts)


def checked_names(given: Sequence[str] | None, found: Sequence[str], what: str) -> list[str]:
    """The names of classes in the order wanted, each of those found among them."""
    if given is None:
        return list(found)
    names = list(names_in_order(given))
    unknown = [name for name in found if name not in names]
    if unknown or len(set(names)) < len(names):
        raise InputError(
            f"class_names is {names}, and there are {what} named {list(found)}. Name each of them, once, "
            f"in the order that their numbers are to have"
            f"{f'; {unknown[0]!r} is missing' if unknown else ''}."
        )
    return names
