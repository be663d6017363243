"""Features as rows of bytes: their layout, and a place to keep them for one run."""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from topwork._features.temporary import memory_instead, no_more_room, room, short_of
from topwork._store.files import is_full
from topwork._store.index import Locations
from topwork._store.open_file import OpenFile
from topwork._store.shards import Bytes

_BLOCK_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class RowLayout:
    """How the frontier's tensors of one image lie in a row, one after the other.

    Attributes:
        shapes: Of each tensor, without the batch.
        dtypes: Of each tensor.
    """

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[tf.DType, ...]

    @property
    def sizes(self) -> list[int]:
        """Bytes of each tensor in a row."""
        return [
            math.prod(shape) * dtype.size for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
        ]

    @property
    def row_bytes(self) -> int:
        return sum(self.sizes)

    def pack(self, tensors: Sequence[Any]) -> Bytes:
        """Rows (n, row_bytes) from tensors of n images each."""
        parts = [np.ascontiguousarray(tensor) for tensor in tensors]
        flat = [part.reshape(len(part), -1).view(np.uint8) for part in parts]
        return flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)

    def not_finite(self, rows: Bytes) -> npt.NDArray[np.bool_]:
        """Which rows have a number that is NaN or infinite, in which tensor: (rows, tensors)."""
        bad, start = np.zeros((len(rows), len(self.sizes)), bool), 0
        for i, (size, dtype) in enumerate(zip(self.sizes, self.dtypes, strict=True)):
            part, start = rows[:, start : start + size], start + size
            if dtype.is_floating:
                values = np.ascontiguousarray(part).view(dtype.as_numpy_dtype)
                bad[:, i] = ~np.isfinite(values).all(axis=1)
        return bad

    def vectors(self, rows: Bytes, i: int) -> npt.NDArray[np.float32]:
        """The i-th tensor of some rows, which is a vector of float32 numbers: (rows, numbers)."""
        start = sum(self.sizes[:i])
        part = np.ascontiguousarray(rows[:, start : start + self.sizes[i]])
        return part.view(np.float32)

    def unpack(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """The inverse, in a TensorFlow graph."""
        parts = tf.split(rows, self.sizes, axis=1)
        return [
            _typed(part, shape, dtype)
            for part, shape, dtype in zip(parts, self.shapes, self.dtypes, strict=True)
        ]


def _typed(part: tf.Tensor, shape: tuple[int, ...], dtype: tf.DType) -> tf.Tensor:
    if dtype == tf.bool:
        return tf.reshape(part, [-1, *shape]) > 0
    # With one byte to a number there is no axis of bytes to remove.
    axis_of_bytes = [] if dtype.size == 1 else [dtype.size]
    return tf.bitcast(tf.reshape(part, [-1, *shape, *axis_of_bytes]), dtype)


def layout_of(tensors: Sequence[Any]) -> RowLayout:
    """The layout for symbolic Keras tensors, whose shapes must be known but for the batch."""
    return RowLayout(
        shapes=tuple(tuple(tensor.shape[1:]) for tensor in tensors),
        dtypes=tuple(tf.as_dtype(tensor.dtype) for tensor in tensors),
    )


class RowBuffer:
    """Rows in the order they come: in memory up to a limit or its end, then in a temporary file.

    Where its disk has no more room, what follows is kept in memory again, as far as that goes. The file
    has no name where the system allows that, so that it is gone whatever ends the process.
    """

    def __init__(self, row_bytes: int, memory_limit: float) -> None:
        self._row_bytes = row_bytes
        self._memory_limit = memory_limit
        self._rows_a_block = max(1, _BLOCK_BYTES // row_bytes)
        self._blocks: list[Bytes] = []  # of the rows after those in the file
        self._n_in_memory = self._n_in_file = 0
        self._file: Any = None
        self._reader: OpenFile | None = None
        self._short = ""  # of what the file is short, once it is

    def __len__(self) -> int:
        return self._n_in_file + self._n_in_memory

    @property
    def place(self) -> str:
        """Where the rows are, for people."""
        places = {"a temporary file": self._n_in_file, "memory": self._n_in_memory}
        return " and ".join(place for place, n_rows in places.items() if n_rows) or "memory"

    def append(self, rows: Bytes) -> None:
        """Add rows (n, row_bytes); they are copied.

        Raises:
            OSError: with ``errno.ENOSPC`` if there is room neither in memory nor on the temporary disk.
        """
        if len(rows) == 0 or self._fits_in_memory(rows):
            return
        if not self._short:
            self._move_to_file()
            if not self._short and self._write(rows):
                return
            taken = self._n_in_memory * self._row_bytes
            self._memory_limit = taken + memory_instead(rows.nbytes, self._short)
        if not self._fits_in_memory(rows):
            raise no_more_room(self._short)

    def append_in_memory(self, rows: Bytes) -> None:
        """The same without the way out.

        Raises:
            MemoryError: There is none left. No row was added.
        """
        at = self._n_in_memory
        while len(rows):
            block, place = divmod(at, self._rows_a_block)
            if block == len(self._blocks):
                self._blocks.append(np.empty((self._rows_a_block, self._row_bytes), np.uint8))
            taken = min(len(rows), self._rows_a_block - place)
            self._blocks[block][place : place + taken] = rows[:taken]
            rows, at = rows[taken:], at + taken
        self._n_in_memory = at

    def read(self, locations: Locations) -> Bytes:
        """The rows at `locations`, which count from 0 in the order of `append`."""
        if self._n_in_file == 0 and len(self._blocks) == 1:
            return self._blocks[0][locations]
        rows = np.empty((len(locations), self._row_bytes), np.uint8)
        for row, location in zip(rows, locations.tolist(), strict=True):
            if self._reader is not None and location < self._n_in_file:
                self._reader.read_into(row.data, location * self._row_bytes)
            else:
                block, place = divmod(location - self._n_in_file, self._rows_a_block)
                row[:] = self._blocks[block][place]
        return rows

    def _fits_in_memory(self, rows: Bytes) -> bool:
        """Add the rows, if they are within the limit and memory has room for them."""
        if (self._n_in_memory + len(rows)) * self._row_bytes > self._memory_limit:
            return False
        try:
            self.append_in_memory(rows)
        except MemoryError:  # less than was thought at the beginning: others take it too
            return False
        return True

    def _move_to_file(self) -> None:
        self._memory_limit = 0
        if self._file is None:
            self._open_file()
        while self._n_in_memory and not self._short:
            block = self._blocks[0][: self._n_in_memory]
            if self._write(block):
                self._n_in_memory -= len(block)
                del self._blocks[0]
        if not self._n_in_memory:
            self._blocks.clear()

    def _open_file(self) -> None:
        try:
            descriptor, name = tempfile.mkstemp(prefix="topwork-features-")
        except OSError as error:
            self._short = short_of(self._row_bytes, error)
            return
        self._reader = OpenFile(Path(name))
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        weakref.finalize(self, _remove, self._file, name)
        if os.name == "posix":  # elsewhere an open file cannot be removed
            Path(name).unlink()

    def _write(self, rows: Bytes) -> bool:
        """Whether the file has taken the rows; if not, it takes no more."""
        view = np.ascontiguousarray(rows).data.cast("B")
        try:
            if view.nbytes > room(Path(tempfile.gettempdir())):
                self._short = short_of(view.nbytes)
                return False
            while view.nbytes:
                view = view[self._file.write(view) :]
        except OSError as error:
            if not is_full(error):
                raise
            self._short = short_of(rows.nbytes, error)
            return False
        self._n_in_file += len(rows)
        return True


def _remove(file: Any, name: str) -> None:
    file.close()
    Path(name).unlink(missing_ok=True)
