"""What a store says it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from topwork._names import published
from topwork._store.description import described, last_used, own_files
from topwork._store.shards import MOST_BYTES, is_shard, rows_in
from topwork._tables import html_lines, html_table


@published
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
        return (
            f"{self.fingerprint[:12]}  {self.rows:,} rows of {self.row_bytes:,} bytes, "
            f"{readable(self.bytes)}, last used {_date(self.last_used)}  {self._about()}".rstrip()
        )

    def cells(self) -> tuple[str, ...]:
        """The collection as the texts of a table."""
        sizes = (f"{self.rows:,}", f"{self.row_bytes:,}", readable(self.bytes))
        return (self._about() or "-", *sizes, _date(self.last_used), self.fingerprint[:12])

    def _about(self) -> str:
        return _printable(", ".join(f"{name}={value}" for name, value in self.about.items()))


@published
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
        return "\n".join([self._heading(), *(f"  {each}" for each in self.collections)])

    def _repr_html_(self) -> str:
        header = ("frozen part", "rows", "bytes a row", "on disk", "last used", "address")
        table = html_table(header, [each.cells() for each in self.collections])
        return html_lines(self._heading(), bold=1) + (table if self.collections else "")

    def _heading(self) -> str:
        count = len(self.collections)
        return f"{self.directory}: {count} collection{'s' * (count != 1)}, {readable(self.bytes)}"


@published
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


def inspect(folder: Path) -> CollectionInfo | None:
    """Say what the collection in `folder` holds, from names and sizes alone; None if it is none."""
    found = described(folder)
    if found is None:
        return None
    sizes = {entry.name: entry.stat(follow_symlinks=False).st_size for entry in own_files(folder)}
    largest = max(MOST_BYTES, found.row_bytes) * 2
    shards = [size for name, size in sizes.items() if is_shard(name) and size <= largest]
    return CollectionInfo(
        fingerprint=folder.name,
        about=found.about,
        rows=sum(rows_in(size, found.row_bytes) for size in shards),
        row_bytes=found.row_bytes,
        bytes=sum(sizes.values()),
        last_used=last_used(folder),
    )


def _printable(text: str) -> str:
    """Without what moves the cursor of a terminal."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _date(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
    except (OverflowError, OSError, ValueError):
        return "at no time that there is"


def readable(count: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"
