"""Images of a data set found again, for a picture, after it was read once for something else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork._data.digests import digests
from topwork._data.headers import Undecodable
from topwork._data.images import read_image
from topwork._data.origin import Origin
from topwork._data.source import Batch, Source
from topwork._store.shards import Bytes

Picture = npt.NDArray[Any]


class Watched:
    """A source that remembers a digest of each image, by which it is known again in whatever order.

    Args:
        source: The data.
        origin: Where it comes from, if that is known: files are then read one by one.
    """

    def __init__(self, source: Source, origin: Origin | None = None) -> None:
        self._source, self._origin = source, origin
        self._keys: list[Bytes] = []

    @property
    def source(self) -> Source:
        """The data, to be read once."""
        return dataclasses.replace(self._source, batches=self._batches)

    def _batches(self) -> Iterator[Batch]:
        self._keys.clear()
        for batch in self._source.batches():
            self._keys.append(digests(batch.inputs[:1]))
            yield batch

    def pictures(self, numbers: Iterable[int]) -> dict[int, Picture]:
        """The images with these numbers, as far as they are found again."""
        wanted = list(numbers)
        if self._origin is not None and self._origin.paths is not None and self._origin.setting:
            return self._from_files(wanted, self._origin)
        keys = np.concatenate(self._keys)
        missing: dict[bytes, list[int]] = {}
        for number in wanted:
            missing.setdefault(keys[number].tobytes(), []).append(number)
        found: dict[int, Picture] = {}
        batches = self._source.batches()
        while missing and (batch := next(batches, None)) is not None:
            for i, key in enumerate(digests(batch.inputs[:1])):
                # A copy: what is a view keeps its whole batch in memory.
                for number in missing.pop(key.tobytes(), []):
                    found[number] = np.array(batch.inputs[0][i])
        return found

    def _from_files(self, wanted: Iterable[int], origin: Origin) -> dict[int, Picture]:
        height, width, channels = origin.in_order.element_spec[0].shape[-3:]
        found = {}
        for number in wanted:
            path = (origin.paths or ())[number]
            try:
                found[number] = read_image(path, height, width, channels, origin.setting)
            except Undecodable:  # it was there a moment ago
                continue
        return found
