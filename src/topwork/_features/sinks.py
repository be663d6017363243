"""Where rows of features go while they are computed: to memory, to a temporary file or to a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from topwork._data.digests import digests
from topwork._features.rows import RowBuffer
from topwork._store.collection import Collection
from topwork._store.index import Locations
from topwork._store.shards import KEY_BYTES, Bytes

# After so many rows, look again for rows that other processes have completed meanwhile.
_REFRESH_ROWS = 512


class KeptRows:
    """Rows in memory or a temporary file, for this run.

    Args:
        row_bytes: Of a row.
        views: How many rows there are for an image.
        memory_limit: Bytes of memory to keep rows in, before a file takes them.
    """

    def __init__(self, row_bytes: int, views: int, memory_limit: float) -> None:
        self._views = views
        self._buffer = RowBuffer(row_bytes, memory_limit)
        self._tags: list[Any] = [np.empty(0, np.int64)]

    def __enter__(self) -> KeptRows:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def n_computed(self) -> int:
        return len(self._buffer)

    def missing(self, images: Iterator[tuple[list[Any], Any]]) -> Iterator[tuple[list[Any], Any]]:
        """All images."""
        return images

    def images_of(self, tags: Any) -> Any:
        """The numbers of the images that rows with these tags are of."""
        return tags // self._views

    def add(self, rows: Bytes, tags: Any) -> None:
        self._buffer.append(rows)
        self._tags.append(tags)

    def finish(self) -> tuple[Callable[[Locations], Bytes], str]:
        return _rows_by_tag(self._buffer, np.concatenate(self._tags)), self._buffer.place


class StoredRows:
    """Rows in a feature store, where what is there already is not computed again.

    Args:
        row_bytes: Of a row.
        views: How many rows there are for an image.
        memory_limit: Bytes of memory to read rows into; else the store is read.
        collection: What the store has of the frozen part.
        check_space: Raises if the store has no room for what is to come; called before anything is
            computed for it.
        place: The folder of the store.
    """

    def __init__(
        self,
        row_bytes: int,
        views: int,
        memory_limit: float,
        collection: Collection,
        check_space: Callable[[], None],
        place: str,
    ) -> None:
        self._row_bytes, self._views, self._memory_limit = row_bytes, views, memory_limit
        self._collection, self._check_space, self._place = collection, check_space, place
        self._keys: list[Bytes] = [np.empty((0, KEY_BYTES), np.uint8)]
        self._tags: list[Any] = [np.empty(0, np.int64)]
        self._under_way: set[bytes] = set()
        self._refresh_at = _REFRESH_ROWS
        self.n_computed = 0

    def __enter__(self) -> StoredRows:
        self._collection.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._collection.__exit__(*error)

    def missing(self, images: Iterator[tuple[list[Any], Any]]) -> Iterator[tuple[list[Any], Any]]:
        """The images that are neither stored nor on their way there, tagged with their keys."""
        for inputs, tags in images:
            keys = digests(inputs)
            self._keys.append(keys)
            self._tags.append(tags)
            new = self._collection.locate(keys) < 0
            for i in np.flatnonzero(new):
                key = keys[i].tobytes()
                new[i] = key not in self._under_way
                self._under_way.add(key)
            if new.any():
                if len(self._under_way) == new.sum():  # the first ones
                    self._check_space()
                yield (inputs, keys) if new.all() else ([array[new] for array in inputs], keys[new])

    def images_of(self, keys: Any) -> Any:
        """The numbers of the images with these keys, of each the first."""
        known, rows = np.concatenate(self._keys), np.concatenate(self._tags)
        return np.array([rows[(known == key).all(axis=1)].min() for key in keys]) // self._views

    def add(self, rows: Bytes, keys: Any) -> None:
        self._collection.append(keys, rows)
        self.n_computed += len(rows)
        if self.n_computed >= self._refresh_at:
            self._collection.refresh()
            self._refresh_at += _REFRESH_ROWS

    def finish(self) -> tuple[Callable[[Locations], Bytes], str]:
        keys = np.concatenate(self._keys)
        locations = _by_tag(self._collection.locate(keys), np.concatenate(self._tags))
        place = self._place
        if len(keys) * self._row_bytes > self._memory_limit:
            return lambda tags: self._collection.read(locations[tags]), place
        buffer = RowBuffer(self._row_bytes, self._memory_limit)
        ordered = np.unique(locations)  # neighbours are read faster
        try:
            for part in np.array_split(ordered, 1 + len(ordered) // 512):
                buffer.append_in_memory(self._collection.read(part))
        except MemoryError:  # they are in the store already
            return lambda tags: self._collection.read(locations[tags]), place
        places = np.searchsorted(ordered, locations)
        return lambda tags: buffer.read(places[tags]), place


def _rows_by_tag(buffer: RowBuffer, tags: Any) -> Callable[[Locations], Bytes]:
    places = _by_tag(np.arange(len(tags)), tags)
    return lambda wanted: buffer.read(places[wanted])


def _by_tag(values: Any, tags: Any) -> Any:
    """`values` in the order of `tags`, which are the numbers from 0 in some order."""
    ordered = np.empty_like(values)
    ordered[tags] = values
    return ordered


Sink = KeptRows | StoredRows
