"""Which files there are, and what they show: from class folders, or from a table."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork._errors import warn
from topwork._networks.class_names import names_in_order

# All names that photographs go by; whether a file can be decoded is asked when it is looked at.
IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".npy"),
    *(".png", ".tif", ".tiff", ".webp"),
)
_PATH_COLUMNS = ("path", "file", "filename", "filepath", "file_name", "file_path", "image", "image_path")
_SEVERAL = re.compile(r"\s*[|;,]\s*")
TASKS = ("classes", "labels", "numbers")


@dataclasses.dataclass(frozen=True)
class Listing:
    """Files with their labels.

    Attributes:
        paths: In a fixed order.
        labels: Class numbers (images,), several labels an image (images, labels) as 0 and 1, or numbers.
        class_names: In the order of the labels; None for numbers.
        task: `"classes"`, `"labels"` or `"numbers"`.
    """

    paths: tuple[str, ...]
    labels: npt.NDArray[Any]
    class_names: tuple[str, ...] | None
    task: str

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, chosen: Any) -> Listing:
        """The files of these numbers."""
        paths = tuple(self.paths[i] for i in chosen)
        return dataclasses.replace(self, paths=paths, labels=self.labels[chosen])


def kind_of_place(path: str | os.PathLike[str]) -> str | None:
    """`"folder"`, `"file"`, `"other"` such as a pipe, or None; for names that are too long too."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return None
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def images_below(folder: Path) -> list[Path]:
    """The files with an image's name in a folder and below it, sorted; hidden ones are none."""
    found = []
    for place, folders, names in os.walk(folder, onerror=_say_left_out):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = (name for name in names if name.lower().endswith(IMAGE_SUFFIXES))
        found += [Path(place, name) for name in images if not name.startswith(".")]
    return sorted(found)


def _say_left_out(error: OSError) -> None:
    warn(
        f"cannot look into the folder {str(error.filename)!r} ({error.strerror}): the images in it are "
        "left out."
    )


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = getattr(error, "strerror", None) or error
    return ValueError(
        f"read_folder() cannot read {str(path)!r}: {reason}. Give a folder that may be looked into, or a "
        "CSV file in UTF-8."
    )


def list_folder(folder: Path, class_names: Sequence[str] | None) -> Listing:
    """The images in the folders of a folder, each of which is a class."""
    try:
        folders = sorted(each.name for each in folder.iterdir() if each.is_dir() and each.name[0] != ".")
    except OSError as error:
        raise _unreadable(folder, error) from error
    if not folders:
        raise ValueError(
            "read_folder() takes a folder with a folder for each class. Received: "
            f"{str(folder)!r}, which has none. Give the folder above; or a table with the columns path "
            "and label; to name what unlabelled photographs show, give their paths to topwork.predict."
        )
    names = _checked_names(class_names, folders, "folders")
    found = [images_below(folder / name) if name in folders else [] for name in names]
    if not any(found):
        raise ValueError(
            f"read_folder() found no image below {str(folder)!r}: no file's name ends in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )
    empty = [name for name, images in zip(names, found, strict=True) if not images]
    if empty:
        warn(
            f"found no image of {', '.join(map(repr, empty))} in {str(folder)!r}. These "
            "keep their numbers; a model is not taught what it never sees."
        )
    paths = tuple(str(path) for images in found for path in images)
    labels = np.repeat(np.arange(len(names), dtype="int32"), [len(images) for images in found])
    return Listing(paths, labels, tuple(names), "classes")


def _checked_names(given: Sequence[str] | None, found: Sequence[str], what: str) -> list[str]:
    if given is None:
        return list(found)
    names = list(names_in_order(given))
    unknown = [name for name in found if name not in names]
    if unknown or len(set(names)) < len(names):
        raise ValueError(
            f"read_folder() was given class_names={names}, and there are {what} named {list(found)}. "
            f"Name each of them, once, in the order that their numbers are to have"
            f"{f'; {unknown[0]!r} is missing' if unknown else ''}."
        )
    return names


def list_table(
    table: Any, root: str | os.PathLike[str] | None, class_names: Sequence[str] | None, task: str | None
) -> Listing:
    """The images in a CSV file, or in anything with named columns."""
    is_file = isinstance(table, (str, os.PathLike))
    columns = _read_csv(Path(table)) if is_file else _columns_of(table)
    key = next((name for name in columns if name.lower() in _PATH_COLUMNS), None)
    if key is None or len(columns) < 2 or not len(columns[key]):
        raise ValueError(
            "read_folder() takes a table with a column of paths, named one of "
            f"{', '.join(_PATH_COLUMNS)}, and one or more columns of labels. Received the columns: "
            f"{', '.join(columns) or 'none'}{', without a row' if len(columns) > 1 and key else ''}."
        )
    base = Path(root) if root is not None else Path(table).parent if is_file else Path()
    paths = tuple(str(base / str(name)) for name in columns.pop(key))
    _check_there(paths, base)
    labels, names, task = _labels(columns, class_names, task)
    return Listing(paths, labels, names, task)


def _read_csv(path: Path) -> dict[str, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error
    if not rows:
        return {}
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if wrong is not None:
        raise ValueError(
            f"read_folder() found {len(rows[wrong])} values in row {wrong + 1} of {str(path)!r}, which "
            f"has {len(rows[0])} columns: {', '.join(rows[0])}."
        )
    return {name: list(column) for name, *column in zip(*rows, strict=True)}


def _columns_of(table: Any) -> dict[str, list[Any]]:
    names = getattr(getattr(table, "dtype", None), "names", None)
    if names is None and hasattr(table, "columns"):  # a data frame
        names = list(table.columns)
    if names is None and isinstance(table, Mapping):
        names = list(table)
    if names is None:
        rows = list(table) if isinstance(table, Iterable) and not isinstance(table, bytes) else []
        if not rows or not all(isinstance(row, Mapping) for row in rows):
            raise ValueError(
                "read_folder() takes a folder, a CSV file, or a table: a data frame, a dict of columns "
                f"or a list of dicts. Received: {type(table).__name__}."
            )
        return {str(name): [row[name] for row in rows] for name in rows[0]}
    columns = {str(name): list(table[name]) for name in names}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"read_folder() takes columns of one length. Received: {lengths}.")
    return columns


def _check_there(paths: Sequence[str], base: Path) -> None:
    missing = [path for path in paths if not os.path.lexists(path)]
    if missing:
        raise ValueError(
            f"read_folder() found no file {missing[0]!r}, named in the table"
            f"{f', and {len(missing) - 1:,} others not either' if len(missing) > 1 else ''}. Paths are "
            f"taken from {str(base)!r}; give root=... for another folder."
        )


def _labels(
    columns: dict[str, list[Any]], class_names: Sequence[str] | None, task: str | None
) -> tuple[npt.NDArray[Any], tuple[str, ...] | None, str]:
    """Labels, names and task of the columns beside the paths."""
    values = {name: _numbers(column) for name, column in columns.items()}
    task = task or _task_of(values)
    if task == "numbers":
        return _real_numbers(columns, values), None, task
    if task == "labels" and len(columns) == 1:
        (column,) = columns.values()
        rows = [[part for part in _SEVERAL.split(str(value).strip()) if part] for value in column]
        names = _checked_names(class_names, sorted({part for row in rows for part in row}), "labels")
        return np.array([[name in row for name in names] for row in rows], "float32"), tuple(names), task
    if task == "labels":
        names = list(columns if class_names is None else names_in_order(class_names))
        return _multi_hot(columns, values, names), tuple(names), task
    if len(columns) > 1:
        raise ValueError(
            f"read_folder() takes one column of classes. Received: {', '.join(columns)}. For several "
            "labels an image, give columns of 0 and 1; leave out columns that are no labels."
        )
    (column,), (number,) = columns.values(), values.values()
    whole = number is not None and bool((number == np.floor(number)).all())
    found = [str(int(x)) for x in np.unique(number)] if whole and number is not None else None
    texts = [str(int(x)) for x in number] if found and number is not None else [str(x) for x in column]
    names = _checked_names(class_names, found or sorted(set(texts)), "classes")
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
            raise ValueError(
                f"read_folder() takes finite numbers for task='numbers', and the column {name!r} "
                f"has others: {', '.join(map(repr, columns[name][:3]))} ... Leave out the "
                "column or such rows."
            )
    return np.stack(list(values.values()), axis=1).astype("float32")


def _multi_hot(
    columns: Mapping[str, Any], values: Mapping[str, Any], names: list[str]
) -> npt.NDArray[np.float32]:
    if sorted(names) != sorted(columns):
        raise ValueError(
            f"read_folder() was given class_names={names}, and the table has the columns of labels "
            f"{', '.join(columns)}. Name each of them, in the order that they are to have."
        )
    for name in names:
        if values[name] is None or not np.isin(values[name], (0, 1)).all():
            raise ValueError(
                f"read_folder() takes columns of 0 and 1 for several labels an image, and {name!r} has "
                f"others: {', '.join(map(repr, columns[name][:3]))} ... Leave it out if it is no label."
            )
    return np.stack([values[name] for name in names], axis=1).astype("float32")
