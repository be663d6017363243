"""The columns of a table, whatever it is kept in, and the files that it names."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from topwork._errors import InputError, described, warn

# All names that photographs go by; whether a file can be decoded is asked when it is looked at.
IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".npy"),
    *(".png", ".tif", ".tiff", ".webp"),
)
_PATH_COLUMNS = (
    *("path", "file", "filename", "filepath", "file_name", "file_path", "image", "image_path", "img"),
    *("image_id", "id"),
)
_SEPARATORS = ",;\t"


def table_columns(table: Any) -> tuple[list[str], dict[str, list[Any]]]:
    """The files that a table names, as they stand there, and its columns of labels.

    Raises:
        ValueError: It is no table, has no column of paths, or no row.
    """
    columns = _read_csv(Path(table)) if isinstance(table, (str, os.PathLike)) else _columns_of(table)
    # What spreadsheets and data frames write in front: the number of the row.
    columns = {name: column for name, column in columns.items() if name and name != "Unnamed: 0"}
    key = next((known for known in _PATH_COLUMNS for name in columns if name.lower() == known), None)
    name = next((name for name in columns if name.lower() == key), None)
    if name is None or len(columns) < 2 or not len(columns[name]):
        no_heading = any(each.lower().endswith(IMAGE_SUFFIXES) for each in columns)
        raise InputError(
            f"a table has a column of paths, named one of {', '.join(_PATH_COLUMNS)}, and one or more "
            "columns of labels. Received the columns: "
            f"{', '.join(columns) or 'none'}{', without a row' if len(columns) > 1 and name else ''}"
            f"{'. Has it no line of headings?' if no_heading else '.'}"
        )
    paths = columns.pop(name)
    nameless = next((row for row, path in enumerate(paths) if str(path) in ("", "nan", "None")), None)
    if nameless is not None:
        raise InputError(
            f"there is no path in row {nameless} (counted from 0) of the table. Leave it out."
        )
    return list(map(str, paths)), columns


def found_files(names: Sequence[str], base: Path, labels: Mapping[str, Sequence[Any]]) -> list[str]:
    """The files of these names; those that are not there as they are named first.

    Names may have backslashes, or no suffix.
    """
    paths = [_found(base, name) for name in names]
    counts = Counter(paths)
    repeated = [path for path, count in counts.items() if count > 1]
    if repeated:
        rows = {(path, *map(str, row)) for path, *row in zip(paths, *labels.values(), strict=True)}
        opposed = ", some of them with different labels" if len(rows) > len(counts) else ""
        warn(
            f"the table names files more than once{opposed}: {len(repeated):,}, first {repeated[0]!r}. "
            "Each row is read as an image of its own; several labels of one image go into one row."
        )
    return paths


def check_there(paths: Sequence[str], base: Path) -> None:
    """Raise if a file is not there."""
    missing = [path for path in paths if not os.path.lexists(path)]
    if missing:
        raise InputError(
            f"there is no file {missing[0]!r}, which the table names"
            f"{f', and {len(missing) - 1:,} others not either' if len(missing) > 1 else ''}. Paths are "
            f"taken from {str(base)!r}; give root=... for another folder, or skip_bad=True to leave such "
            "rows out."
        )


def _found(base: Path, name: str) -> str:
    path = base / name
    if os.path.lexists(path):
        return str(path)
    slashed = base / name.replace("\\", "/")  # written on Windows
    endings = [""] if path.suffix.lower() in IMAGE_SUFFIXES else ["", *IMAGE_SUFFIXES]
    tried = (f"{slashed}{ending}" for ending in endings)
    return next((each for each in tried if os.path.lexists(each)), str(path))


def unreadable(path: Path, error: Exception) -> InputError:
    """What to raise for a folder or table that the system, or its encoding, does not let be read."""
    reason = getattr(error, "strerror", None) or error
    return InputError(
        f"{str(path)!r} cannot be read: {reason}. Give a folder that may be looked into, or a "
        "CSV file in UTF-8."
    )


def _read_csv(path: Path) -> dict[str, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file.read()
            rows = list(csv.reader(text.splitlines(keepends=True), delimiter=_separator(text)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error) from error
    rows = [[cell.strip() for cell in row] for row in rows if row]
    if not rows:
        return {}
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if wrong is not None:
        raise InputError(
            f"there are {len(rows[wrong])} values in row {wrong + 1} of {str(path)!r}, which has "
            f"{len(rows[0])} columns: {', '.join(rows[0])}."
        )
    return {name: list(column) for name, *column in zip(*rows, strict=True)}


def _separator(text: str) -> str:
    """What stands most often in the line of headings: spreadsheets write semicolons in many countries."""
    heading = text.lstrip().partition("\n")[0]
    return max(_SEPARATORS, key=heading.count)


def _columns_of(table: Any) -> dict[str, list[Any]]:
    names = getattr(getattr(table, "dtype", None), "names", None)
    if names is None and hasattr(table, "columns"):  # a data frame
        if str(getattr(table.index, "name", "")).lower() in _PATH_COLUMNS:
            table = table.reset_index()
        names = list(table.columns)
    if names is None and isinstance(table, Mapping):
        names = list(table)
    if names is None:
        return _columns_of_rows(table)
    columns = {str(name): list(table[name]) for name in names}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"the columns of a table are of one length. Received: {lengths}.")
    return columns


def _columns_of_rows(table: Any) -> dict[str, list[Any]]:
    """Of a list of dicts, or of pairs of a path and a label."""
    is_listed = isinstance(table, Iterable) and not isinstance(table, bytes)
    rows: list[Any] = list(table) if is_listed else []
    if rows and all(isinstance(row, (tuple, list)) and len(row) == 2 for row in rows):
        return {"path": [row[0] for row in rows], "label": [row[1] for row in rows]}
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(
            "photographs are in a folder, or named in a CSV file or a table: a data frame, a dict of "
            f"columns, a list of dicts or of pairs (path, label). Received: {described(table)}."
        )
    wrong = next((i for i, row in enumerate(rows) if set(row) != set(rows[0])), None)
    if wrong is not None:
        raise InputError(
            f"the rows of a table have the same keys, {', '.join(map(str, rows[0]))}. Received: row "
            f"{wrong} (counted from 0) with {', '.join(map(str, rows[wrong]))}."
        )
    return {str(name): [row[name] for row in rows] for name in rows[0]}
