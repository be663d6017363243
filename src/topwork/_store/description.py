"""The folder of a collection: what is written once beside its shards, and when it was last used."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from topwork._errors import warn
from topwork._store.files import entries, is_temporary, sync_directory, temporary_beside, unusable
from topwork._store.records import read_record, write_record
from topwork._store.shards import is_shard, read_header

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
        OSError: if it cannot be made, or what lies there is no folder or cannot be read.
    """
    try:
        if not (directory / _DESCRIPTION).exists():
            _create_unless_full(directory, wanted)
        found = read_description(directory)
    except OSError as error:
        raise unusable(directory, "used", error) from error
    if found is None:
        _write_again(directory / _DESCRIPTION, wanted)
    elif found.row_bytes != wanted.row_bytes:
        raise ValueError(
            f"The collection {wanted.fingerprint!r} in {directory.parent} holds rows of "
            f"{found.row_bytes} bytes. Received: row_bytes={wanted.row_bytes}. Rows of another "
            "length come from another prefix and need a fingerprint of their own."
        )


def _create_unless_full(directory: Path, wanted: Description) -> None:
    try:
        create_folder(directory, wanted)
    except OSError:
        # Shards say themselves what they belong to: where nothing can be written they can be read.
        if not directory.is_dir():
            raise


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
    """The description of the collection in `directory`, or None if there is none that holds.

    Keys that a later version adds are passed over.

    Raises:
        OSError: if something is in its place that cannot be read or is no file.
    """
    try:
        record = read_record(directory / _DESCRIPTION) or {}
    except FileNotFoundError:
        return None
    row_bytes, about = record.get("row_bytes"), record.get("about", {})
    if record.get("fingerprint") != directory.name or not isinstance(about, dict):
        return None
    if not isinstance(row_bytes, int) or isinstance(row_bytes, bool) or row_bytes < 1:
        return None
    return Description(directory.name, row_bytes, about)


def described(directory: Path) -> Description | None:
    """What is known of the collection in `directory`; None if it is none of a store.

    Where the description is lost, a shard says what it belongs to.
    """
    found = read_description(directory)
    if found is not None:
        return found
    for entry in entries(directory):
        header = read_header(Path(entry)) if is_shard(entry.name) else None
        if header is not None and header.fingerprint == directory.name:
            return Description(header.fingerprint, header.row_bytes, {"damaged": _DESCRIPTION})
    return None


def own_files(directory: Path) -> Iterator[os.DirEntry[str]]:
    """What the store wrote into the folder of a collection: nothing else is counted or removed."""
    for entry in entries(directory):
        is_own = entry.name in (_DESCRIPTION, USED) or is_temporary(entry.name)
        if (is_own or is_shard(entry.name, damaged=True)) and not entry.is_dir(follow_symlinks=False):
            yield entry


def last_used(directory: Path) -> float:
    """When the collection was used last, by the clock of its file system."""
    with contextlib.suppress(OSError):
        return (directory / USED).stat().st_mtime
    return directory.stat().st_mtime


def _describe(directory: Path, description: Description) -> None:
    write_record(directory / _DESCRIPTION, asdict(description))


def _write_again(path: Path, description: Description) -> None:
    if path.exists():
        warn(
            f"The description {path} is damaged: it does not say what was written into it. It is "
            "written anew where that is possible; no rows are lost.",
        )
    with contextlib.suppress(OSError):
        _describe(path.parent, description)
