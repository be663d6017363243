"""Images that are in the training data and in the validation data, byte for byte."""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from topwork._data.digests import digests
from topwork._data.order import is_shuffled_anew
from topwork._data.ragged import in_even_parts
from topwork._data.source import Batch, Source
from topwork._errors import warn

_MOST_NAMED = 3
Hashes = npt.NDArray[np.int64]


class SharedImages:
    """Looks at training and validation data as they are read, and says which images are in both.

    Args:
        train: The training data.
        validation: The validation data.
    """

    def __init__(self, train: Source, validation: Source) -> None:
        self._read = [_Hashed(train), _Hashed(validation)]

    @property
    def sources(self) -> list[Source]:
        """The same data, to be read once."""
        return [each.source for each in self._read]

    def warn_at_once(self) -> bool:
        """Say what is known without reading a data set, which Keras will do; whether that is all."""
        for each in self._read:
            if each.source.is_in_memory:
                each.look_through()
        if all(source.is_in_memory for source in self.sources):
            self.warn()
            return True
        train, validation = self._read
        pairs = list(_pairs_of_files(train.files, validation.files))
        _warn(len(pairs), len(validation.files), _listed(pairs))
        return bool(train.files and validation.files)

    def see(self, which: int, batch: Batch) -> None:
        """Look at a batch of the training data, 0, or of the validation data, 1, that Keras has read."""
        self._read[which].is_read_by_keras = True
        self._read[which].see(batch)

    def warn(self) -> None:
        """Say which of the images that were read are in both."""
        train, validation = (each.hashes for each in self._read)
        places = np.flatnonzero(np.isin(validation, train))
        _warn(len(places), len(validation), self._named(places) if len(places) else "")

    def _named(self, places: Any) -> str:
        """The first few: by their files, else by their numbers where the data has an order."""
        train, validation = self._read
        pairs = list(_pairs_of_files(train.files, validation.files))
        if not pairs and train.is_in_order and validation.is_in_order:
            first = {value: number for number, value in reversed(list(enumerate(train.hashes.tolist())))}
            values = validation.hashes.tolist()
            pairs = [
                (validation.name(place), train.name(first[values[place]]))
                for place in places[: _MOST_NAMED + 1].tolist()
            ]
        return _listed(pairs)


def _listed(pairs: list[tuple[str, str]]) -> str:
    named = [f"{one} is {other}" for one, other in pairs[:_MOST_NAMED]]
    more = ", ..." if len(pairs) > len(named) else ""
    return f", {', '.join(named)}{more} (of the validation and of the training data)" if named else ""


def _warn(n_shared: int, n_images: int, named: str) -> None:
    if n_shared:
        warn(
            f"{n_shared:,} of the {n_images:,} images of the validation data are in the training data "
            f"too, byte for byte{named}. What is measured on them is no evidence of what the model makes "
            "of new images. Leave them out of one of the two."
        )


def shared_images(train: Source, validation: Source) -> SharedImages | None:
    """What looks at both as they are read; None, said at once, where one object was given as both."""
    if not _is_same(train, validation):
        return SharedImages(train, validation)
    warn(
        "validation_data is the training data itself. What is measured on it is no evidence of what "
        "the model makes of new images. Pass other images."
    )
    return None


def _is_same(train: Source, validation: Source) -> bool:
    """Whether one object was given as both."""
    one, other = (source.images for source in (train, validation))
    return len(one) == len(other) > 0 and all(a is b for a, b in zip(one, other, strict=True))


class _Hashed:
    """A data set that remembers half of the digest of each image that was read of it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._hashes = array("q")
        self.is_read_by_keras = False
        self.source = dataclasses.replace(source, batches=self._batches)

    def _batches(self) -> Iterator[Batch]:
        self._hashes = array("q")
        for batch in self._source.batches():
            self.see(batch)
            yield batch

    def see(self, batch: Batch) -> None:
        inputs = [each for each in batch.inputs if each is not None]
        keys = in_even_parts(digests, inputs)
        self._hashes.frombytes(keys[:, :8].tobytes())

    def look_through(self) -> None:
        """Read it, where nothing else does."""
        for _ in self._batches():
            pass

    @property
    def hashes(self) -> Hashes:
        return np.array(self._hashes, np.int64)

    @property
    def is_in_order(self) -> bool:
        """Whether an image has the same number each time; shuffled ones have not."""
        data = self._source.given[0]
        if self.is_read_by_keras and isinstance(data, keras.utils.PyDataset):
            return False
        return not is_shuffled_anew(data)

    @property
    def files(self) -> list[str]:
        """Those that the images come from; empty where they are not known."""
        return list(getattr(self._source.given[0], "file_paths", None) or [])

    def name(self, number: int) -> str:
        files = self.files
        return repr(files[number]) if number < len(files) else f"image {number}"


def _pairs_of_files(train: list[str], validation: list[str]) -> Iterator[tuple[str, str]]:
    """Files of the same content, in the order of the validation data; no other file is opened."""
    sizes = {_size(path) for path in validation}
    known = {_digest(path): path for path in reversed(train) if _size(path) in sizes}
    sizes = {_size(path) for path in known.values()}
    for path in validation:
        digest = _digest(path) if _size(path) in sizes else None
        if digest is not None and digest in known:
            yield repr(path), repr(known[digest])


def _size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


def _digest(path: str) -> bytes | None:
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        return None
