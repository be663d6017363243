"""Rows that wait for their shard."""

from __future__ import annotations

import numpy as np

from topwork._store.shards import KEY_BYTES, Bytes


class Pending:
    """Rows that wait for their shard to be full."""

    def __init__(self, capacity: int, row_bytes: int) -> None:
        self._keys = np.empty((capacity, KEY_BYTES), np.uint8)
        self._rows = np.empty((capacity, row_bytes), np.uint8)
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether there is room for no more."""
        return self._count == len(self._keys)

    def take(self, keys: Bytes, rows: Bytes) -> int:
        """Copy as many as there is room for, from the beginning; return how many."""
        taken = min(len(keys), len(self._keys) - self._count)
        end = self._count + taken
        self._keys[self._count : end] = keys[:taken]
        self._rows[self._count : end] = rows[:taken]
        # Last, so that an interrupt leaves whole rows only.
        self._count = end
        return taken

    def content(self) -> tuple[Bytes, Bytes]:
        """Keys and rows, as long as nothing more is taken."""
        return self._keys[: self._count], self._rows[: self._count]

    def clear(self) -> None:
        """Forget the rows: they are written."""
        self._count = 0
