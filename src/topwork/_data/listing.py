"""Which files there are, and what they show: from class folders, or from a table."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork._data.table_columns import (
    IMAGE_SUFFIXES,
    check_there,
    found_files,
    table_columns,
    unreadable,
)
from topwork._data.table_labels import checked_names, table_labels
from topwork._errors import InputError, warn

# What systems put beside photographs: previews and resource forks of the same names.
_NO_CLASSES = ("__MACOSX", "@eaDir")
_PARTS = {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"}


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
    seen = {_identity(each) for each in folder.resolve().parents}  # links may lead back, or above
    for place, folders, names in os.walk(folder, onerror=_say_left_out, followlinks=True):
        identity = _identity(Path(place))
        is_new = identity not in seen
        seen.add(identity)
        folders[:] = sorted(filter(_is_shown, folders)) if is_new else []
        names = names if is_new else []
        images = (name for name in names if name.lower().endswith(IMAGE_SUFFIXES))
        found += [Path(place, name) for name in images if _is_shown(name)]
    return sorted(found)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name not in _NO_CLASSES


def _say_left_out(error: OSError) -> None:
    warn(
        f"cannot look into the folder {str(error.filename)!r} ({error.strerror}): the images in it are "
        "left out."
    )


def list_folder(folder: Path, class_names: Sequence[str] | None) -> Listing:
    """The images in the folders of a folder, each of which is a class."""
    try:
        folders = sorted(each.name for each in folder.iterdir() if each.is_dir() and _is_shown(each.name))
    except OSError as error:
        raise unreadable(folder, error) from error
    if not folders:
        raise InputError(
            f"a folder has a folder for each class in it. Received: {str(folder)!r}, which has none. "
            "Give the folder above; or a table with the columns path and label; to name what unlabelled "
            "photographs show, give their paths to topwork.predict."
        )
    _check_classes(folder, folders)
    names = checked_names(class_names, folders, "folders")
    found = [images_below(folder / name) if name in folders else [] for name in names]
    if not any(found):
        raise InputError(
            f"there is no image below {str(folder)!r}: no file's name ends in "
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


def _check_classes(folder: Path, folders: Sequence[str]) -> None:
    """Raise for the folder above those of the classes; warn of images that are in no class."""
    if {name.lower() for name in folders} <= _PARTS:
        raise InputError(
            f"each folder is taken for a class, and {str(folder)!r} has "
            f"{', '.join(map(repr, folders))}: parts of the data and no classes. Read each by itself, "
            f"read_folder({str(folder / folders[0])!r}, ...)."
        )
    loose = [each.name for each in folder.iterdir() if _is_shown(each.name) and _is_image(each)]
    if loose:
        warn(
            f"{str(folder)!r} itself has {len(loose):,} images that are in no folder of a class, first "
            f"{min(loose)!r}: they are left out."
        )


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(IMAGE_SUFFIXES) and not path.is_dir()


def list_table(
    table: Any,
    root: str | os.PathLike[str] | None,
    class_names: Sequence[str] | None,
    task: str | None,
    *,
    must_exist: bool = True,
) -> Listing:
    """The images in a CSV file, or in anything with named columns."""
    is_file = isinstance(table, (str, os.PathLike))
    base = Path(root) if root is not None else Path(table).parent if is_file else Path()
    given, columns = table_columns(table)
    paths = found_files(given, base, columns)
    if must_exist:
        check_there(paths, base)
    labels, names, task = table_labels(columns, class_names, task)
    return Listing(tuple(paths), labels, names, task)
