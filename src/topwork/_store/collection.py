"""The rows that one prefix computed: a folder of shards that any number of processes add to."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from topwork._errors import warn
from topwork._store.description import USED, Description, create_folder
from topwork._store.files import check_space, entries, leftovers, remove_file, unusable
from topwork._store.index import KeyIndex, Locations
from topwork._store.open_file import OpenFile
from topwork._store.pending import Pending
from topwork._store.shards import KEY_BYTES, SUFFIX, Bytes, Shard, write_shard
from topwork._store.verification import open_shards

# A killed process loses what it had not written yet: seconds of work on any machine, while a file
# is still large enough for a disk or a network to stream it.
SHARD_ROWS = 512
SHARD_BYTES = 64 * 2**20

# Half of what macOS allows a process, the lowest limit around.
OPEN_FILES = 128


class Collection:
    """Rows of one length, by key. Made by `Store.collection`.

    Rows that are appended are kept in memory until they fill a shard; `flush` closes a shard
    before. As a context manager it flushes at the end, also when that is an exception: what was
    computed is kept. All methods may be called from several threads.
    """

    def __init__(self, directory: Path, description: Description) -> None:
        self._directory = directory
        self._description = description
        self._lock = threading.RLock()
        capacity = min(SHARD_ROWS, max(1, SHARD_BYTES // description.row_bytes))
        self._pending = Pending(capacity, description.row_bytes)
        self._index = KeyIndex()
        self._seen: set[str] = set()
        self._shards: list[Shard] = []
        self._ends = np.zeros(0, np.int64)
        self._open_file = functools.lru_cache(maxsize=OPEN_FILES)(OpenFile)
        for path in leftovers(directory):
            remove_file(path)
        self.refresh()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.flush()
        except OSError as failure:
            if error is None:
                raise
            # The same disk will make the same error again: it is said once.
            if not isinstance(error, OSError):
                warn(f"The last features could not be kept: {failure}")

    def __len__(self) -> int:
        """How many rows complete shards have, duplicates included."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __bool__(self) -> bool:
        return True  # also without rows

    def locate(self, keys: Bytes) -> Locations:
        """Find rows that are in complete shards.

        Args:
            keys: ``(n, 16)``.

        Returns:
            For each key what `read` takes, or -1 where there is no row. Locations hold as long
            as this object; another one, or another process, has others.
        """
        _check_bytes("keys", keys, KEY_BYTES)
        return self._index.find(keys)

    def read(self, locations: Locations) -> Bytes:
        """Read rows from disk.

        Args:
            locations: ``(b,)``, as `locate` gave them, in any order; neighbours are read faster.

        Returns:
            The rows, ``(b, row_bytes)``.

        Raises:
            ValueError: if a location is -1, or not of this collection.
            OSError: if a file disappeared or was cut short since its rows were found.
        """
        ends = self._ends
        _check_locations(locations, int(ends[-1]) if len(ends) else 0)
        rows = np.empty((len(locations), self._description.row_bytes), np.uint8)
        numbers = np.searchsorted(ends, locations, side="right")
        for start, stop in _neighbours(locations, numbers):
            number = numbers[start]
            shard = self._shards[number]
            row = shard.rows - int(ends[number] - locations[start])
            view = rows[start:stop].data.cast("B")
            self._open_file(shard.path).read_into(view, shard.offset(row))
        return rows

    def check_space(self, rows: int) -> None:
        """Raise, before anything is computed, what appending so many rows would end in.

        Raises:
            OSError: with ``errno.ENOSPC`` if there is no room, another if nothing may be written.
        """
        check_space(self._directory, max(0, rows) * (self._description.row_bytes + KEY_BYTES))

    def append(self, keys: Bytes, rows: Bytes) -> None:
        """Add rows; each full shard is written at once.

        Nobody checks whether a key is there already: a second copy costs space and does no harm.

        Args:
            keys: ``(n, 16)``.
            rows: ``(n, row_bytes)``; copied.

        Raises:
            OSError: if a shard could not be written. Its rows stay pending: the next `append` or
                `flush` tries again.
        """
        _check_bytes("keys", keys, KEY_BYTES)
        _check_bytes("rows", rows, self._description.row_bytes)
        if len(keys) != len(rows):
            raise ValueError(
                f"Each row needs a key. Received: {len(keys)} keys and {len(rows)} rows. "
                "Pass as many keys as rows."
            )
        with self._lock:
            while len(keys):
                taken = self._pending.take(keys, rows)
                keys, rows = keys[taken:], rows[taken:]
                if self._pending.full:
                    self.flush()

    def flush(self) -> None:
        """Write what is pending as a shard, so that it survives and others see it."""
        with self._lock:
            keys, rows = self._pending.content()
            if len(keys):
                shard = self._write(keys, rows)
                self._seen.add(shard.path.name)
                self._add([(shard, keys)])
                self._pending.clear()

    def refresh(self) -> None:
        """Find the shards that other processes completed in the meantime.

        Each new shard is read once, from end to end, to verify its checksum. One that is damaged
        is set aside with a warning, and its rows are missing.
        """
        with self._lock:
            self._touch()
            names = self._names() - self._seen
            if names:
                paths = [self._directory / name for name in sorted(names)]
                self._add(open_shards(paths, self._description))
                self._seen |= names

    def _names(self) -> set[str]:
        try:
            found = entries(self._directory)
        except OSError as error:
            raise unusable(self._directory, "read", error) from error
        return {entry.name for entry in found if entry.name.endswith(SUFFIX)}

    def _add(self, shards: list[tuple[Shard, Bytes]]) -> None:
        if not shards:
            return
        first = int(self._ends[-1]) if len(self._ends) else 0
        ends = first + np.cumsum([shard.rows for shard, _ in shards], dtype=np.int64)
        # In this order, since other threads look in the opposite one without waiting.
        self._shards.extend(shard for shard, _ in shards)
        self._ends = np.concatenate([self._ends, ends])
        self._index.add(np.concatenate([keys for _, keys in shards]), first)

    def _write(self, keys: Bytes, rows: Bytes) -> Shard:
        fingerprint = self._description.fingerprint
        try:
            shard = write_shard(self._directory, fingerprint, keys, rows)
        except FileNotFoundError:
            # Another process pruned the collection, or took us for dead while the machine slept.
            create_folder(self._directory, self._description)
            shard = write_shard(self._directory, fingerprint, keys, rows)
        self._touch()
        return shard

    def _touch(self) -> None:
        # When it was last used matters to prune() only, and is not worth an error.
        with contextlib.suppress(OSError):
            (self._directory / USED).touch()


def _neighbours(locations: Locations, shards: Locations) -> Iterator[tuple[int, int]]:
    """Split into ranges whose rows lie one after the other in one file."""
    apart = (np.diff(locations) != 1) | (np.diff(shards) != 0)
    edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(locations)]
    return ((start, stop) for start, stop in itertools.pairwise(edges) if start < stop)


def _check_bytes(name: str, array: Bytes, width: int) -> None:
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != width:
        raise ValueError(
            f"{name} must be a uint8 array of shape (n, {width}). Received: {array.dtype} of "
            f"shape {array.shape}. View the bytes with array.view(numpy.uint8)."
        )


def _check_locations(locations: Locations, rows: int) -> None:
    if locations.dtype != np.int64 or locations.ndim != 1:
        raise ValueError(
            f"locations must be a one-dimensional int64 array. Received: {locations.dtype} of "
            f"shape {locations.shape}. Pass what locate() returned."
        )
    if len(locations) and not 0 <= locations.min() <= locations.max() < rows:
        raise ValueError(
            f"locations must be from 0 to {rows - 1}. Received: {locations.min()} to "
            f"{locations.max()}. -1 is the mark of a missing row: compute and append it first."
        )
