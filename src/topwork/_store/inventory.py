"""What a store says it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from topwork._store.description import Description, last_used, read_description
from topwork._store.files import size
from topwork._store.shards import SUFFIX, rows_in


@dataclass(frozen=True)
class CollectionInfo:
    """What a store says of one collection.

    Attributes:
        fingerprint: What identifies the prefix that computed the rows.
        about: What the prefix is, for people.
        rows: How many rows there are, duplicates included.
        row_bytes: The length of a row.
        bytes: What the folder takes on disk.
        last_used: When it was opened or written last, in seconds since 1970 by the clock of the
            file system.
    """

    fingerprint: str
    about: Mapping[str, Any]
    rows: int
    row_bytes: int
    bytes: int
    last_used: float

    def __str__(self) -> str:
        used = datetime.fromtimestamp(self.last_used)
        about = ", ".join(f"{name}={value}" for name, value in self.about.items())
        return (
            f"{self.fingerprint[:12]}  {self.rows:,} rows of {self.row_bytes:,} bytes, "
            f"{readable(self.bytes)}, last used {used:%Y-%m-%d %H:%M}  {about}".rstrip()
        )


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds; prints as a list.

    Attributes:
        directory: The folder.
        collections: The most recently used first.
    """

    directory: Path
    collections: tuple[CollectionInfo, ...]

    @property
    def bytes(self) -> int:
        """What all of them take on disk."""
        return sum(each.bytes for each in self.collections)

    def __str__(self) -> str:
        count = len(self.collections)
        heading = f"{self.directory}: {count} collections, {readable(self.bytes)}"
        return "\n".join([heading, *(f"  {each}" for each in self.collections)])


@dataclass(frozen=True)
class Pruned:
    """What `Store.prune` dropped.

    Attributes:
        collections: As they were before.
        leftovers: How many files of killed processes and damaged files were removed.
        bytes: What became free by all of it.
    """

    collections: tuple[CollectionInfo, ...]
    leftovers: int
    bytes: int


def inspect(folder: Path) -> CollectionInfo:
    """Say what the collection in `folder` holds, from names and sizes alone."""
    found = read_description(folder) or Description(folder.name, 0, {"damaged": "collection.json"})
    shards = folder.glob(f"*{SUFFIX}")
    return CollectionInfo(
        fingerprint=folder.name,
        about=found.about,
        rows=sum(rows_in(size(path), found.row_bytes) for path in shards) if found.row_bytes else 0,
        row_bytes=found.row_bytes,
        bytes=size(folder),
        last_used=last_used(folder),
    )


def readable(count: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"
