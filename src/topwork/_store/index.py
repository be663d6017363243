"""Where the row of a key is: sorted arrays instead of a dictionary, 24 bytes a key."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Locations: TypeAlias = npt.NDArray[np.int64]
_Sortable: TypeAlias = npt.NDArray[np.bytes_]
_Run: TypeAlias = tuple[_Sortable, Locations]

MISSING = -1


class KeyIndex:
    """Finds locations by key; many threads may ask while one adds.

    The keys lie in a few sorted runs, each at least twice as long as the next: adding a shard to
    a million keys merges little, and finding a key searches few. A run is never changed, and the
    tuple of runs is exchanged in one step, so a reader needs no lock.
    """

    def __init__(self) -> None:
        self._runs: tuple[_Run, ...] = ()

    def add(self, keys: npt.NDArray[np.uint8], first: int) -> None:
        """Add ``(n, 16)`` keys whose rows have the locations `first`, `first` + 1, ..."""
        if not len(keys):
            return
        locations = np.arange(first, first + len(keys), dtype=np.int64)
        runs = [*self._runs, _sorted(_sortable(keys), locations)]
        while len(runs) > 1 and len(runs[-2][0]) < 2 * len(runs[-1][0]):
            longer, shorter = runs[-2:]
            runs[-2:] = [_merged(longer, shorter)]
        self._runs = tuple(runs)

    def find(self, keys: npt.NDArray[np.uint8]) -> Locations:
        """The location of each of ``(n, 16)`` keys, -1 where there is none."""
        wanted = _sortable(keys)
        found = np.full(len(wanted), MISSING, np.int64)
        for run, locations in self._runs:
            places = np.minimum(np.searchsorted(run, wanted), len(run) - 1)
            hit = run[places] == wanted
            found[hit] = locations[places[hit]]
        return found


def _sortable(keys: npt.NDArray[np.uint8]) -> _Sortable:
    # NumPy orders byte strings as memcmp does. It ignores zeros at their end, which cannot make
    # two different keys equal: all have the same length.
    return np.ascontiguousarray(keys).view(f"S{keys.shape[1]}").reshape(len(keys))


def _sorted(keys: _Sortable, locations: Locations) -> _Run:
    # Timsort, which "stable" means for strings, merges two sorted runs in linear time.
    order = np.argsort(keys, kind="stable")
    return keys[order], locations[order]


def _merged(first: _Run, second: _Run) -> _Run:
    return _sorted(np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]]))
