"""The folder of a collection: what is written once beside its shards, and when it was last used."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from topwork._store.files import (
    read_record,
    sync_directory,
    temporary_beside,
    write_record,
)

USED = "used"
"""An empty file: its modification time is when the collection was used last."""

_DESCRIPTION = "collection.json"


@dataclass(frozen=True)
class Description:
    """What is written once beside the shards of a collection.

    Attributes:
        fingerprint: What identifies the prefix that computed the rows.
        row_bytes: The length of a row.
        about: What a reader wants to know of the prefix; never read by the program.
    """

    fingerprint: str
    row_bytes: int
    about: Mapping[str, Any]


def ensure_folder(directory: Path, wanted: Description) -> None:
    """Make the folder of a collection unless it is there, and see that it is the `wanted` one.

    Raises:
        ValueError: if it holds rows of another length.
    """
    if not (directory / _DESCRIPTION).exists():
        create_folder(directory, wanted)
    found = read_description(directory)
    if found is None:
        _write_again(directory / _DESCRIPTION, wanted)
    elif found.row_bytes != wanted.row_bytes:
        raise ValueError(
            f"The collection {wanted.fingerprint!r} in {directory.parent} holds rows of "
            f"{found.row_bytes} bytes, received row_bytes={wanted.row_bytes}. Rows of another "
            "length come from another prefix and need a fingerprint of their own."
        )


def create_folder(directory: Path, description: Description) -> None:
    """Make the folder of a collection, with its description, in one step."""
    aside = temporary_beside(directory)
    aside.mkdir()
    try:
        _describe(aside, description)
        (aside / USED).touch()
        try:
            aside.rename(directory)
        except OSError:
            # Another process came first, or somebody removed the description only.
            if not directory.is_dir():
                raise
            if not (directory / _DESCRIPTION).exists():
                _describe(directory, description)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    sync_directory(directory.parent)


def read_description(directory: Path) -> Description | None:
    """The description of a collection, or None if its file is missing or damaged."""
    try:
        record = read_record(directory / _DESCRIPTION)
    except FileNotFoundError:
        return None
    return Description(**record) if record else None


def last_used(directory: Path) -> float:
    """When the collection was used last, by the clock of its file system."""
    try:
        return (directory / USED).stat().st_mtime
    except FileNotFoundError:
        return directory.stat().st_mtime


def _describe(directory: Path, description: Description) -> None:
    write_record(directory / _DESCRIPTION, asdict(description))


def _write_again(path: Path, description: Description) -> None:
    warnings.warn(
        f"The description {path} is damaged: its content does not match its checksum. It is "
        "written anew; no rows are lost.",
        stacklevel=4,
    )
    _describe(path.parent, description)
