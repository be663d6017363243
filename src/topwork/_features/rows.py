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

from topwork._features.temporary import no_more_room
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
        """Which rows have a number that is NaN or infinite."""
        bad, start = np.zeros(len(rows), bool), 0
        for size, dtype in zip(self.sizes, self.dtypes, strict=True):
            part, start = rows[:, start : start + size], start + size
            if dtype.is_floating:
                values = np.ascontiguousarray(part).view(dtype.as_numpy_dtype)
                # A sum is not finite if one of its terms is not, and costs a fraction of asking each.
                if not np.isfinite(values.sum(dtype=np.float64)):
                    bad |= ~np.isfinite(values).all(axis=1)
        return bad

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
    # A type of one byte has no axis of bytes to give up.
    axis_of_bytes = [] if dtype.size == 1 else [dtype.size]
    return tf.bitcast(tf.reshape(part, [-1, *shape, *axis_of_bytes]), dtype)


def layout_of(tensors: Sequence[Any]) -> RowLayout:
    """The layout for symbolic Keras tensors, whose shapes must be known but for the batch."""
    return RowLayout(
        shapes=tuple(tuple(tensor.shape[1:]) for tensor in tensors),
        dtypes=tuple(tf.as_dtype(tensor.dtype) for tensor in tensors),
    )


class RowBuffer:
    """Rows in the order they come, in memory up to a limit or its end, then in a temporary file.

    The file has no name where the system allows that, so that it is gone whatever ends the process.
    """

    def __init__(self, row_bytes: int, memory_limit: float) -> None:
        self._row_bytes = row_bytes
        self._memory_limit = memory_limit
        self._rows_a_block = max(1, _BLOCK_BYTES // row_bytes)
        self._blocks: list[Bytes] = []
        self._file: Any = None
        self._reader: OpenFile | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def in_memory(self) -> bool:
        return self._file is None

    def append(self, rows: Bytes) -> None:
        """Add rows (n, row_bytes); they are copied."""
        if len(rows) == 0:
            return
        total = (self._count + len(rows)) * self._row_bytes
        if self._file is None and total > self._memory_limit:
            self._spill()
        if self._file is None:
            try:
                self.append_in_memory(rows)
            except MemoryError:  # less than was thought at the beginning: others take it too
                self._spill()
            else:
                return
        self._write(rows)
        self._count += len(rows)

    def append_in_memory(self, rows: Bytes) -> None:
        """The same without the way out.

        Raises:
            MemoryError: There is none left. No row was added.
        """
        self._fill_blocks(rows)
        self._count += len(rows)

    def read(self, locations: Locations) -> Bytes:
        """The rows at `locations`, which count from 0 in the order of `append`."""
        if self._file is None and len(self._blocks) == 1:
            return self._blocks[0][locations]
        rows = np.empty((len(locations), self._row_bytes), np.uint8)
        for row, location in zip(rows, locations.tolist(), strict=True):
            if self._reader is None:
                block, place = divmod(location, self._rows_a_block)
                row[:] = self._blocks[block][place]
            else:
                self._reader.read_into(row.data, location * self._row_bytes)
        return rows

    def _fill_blocks(self, rows: Bytes) -> None:
        at = self._count
        while len(rows):
            place = at % self._rows_a_block
            if place == 0:
                self._blocks.append(np.empty((self._rows_a_block, self._row_bytes), np.uint8))
            taken = min(len(rows), self._rows_a_block - place)
            self._blocks[-1][place : place + taken] = rows[:taken]
            rows, at = rows[taken:], at + taken

    def _spill(self) -> None:
        descriptor, name = tempfile.mkstemp(prefix="topwork-features-")
        self._reader = OpenFile(Path(name))
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        weakref.finalize(self, _remove, self._file, name)
        if os.name == "posix":  # elsewhere an open file cannot be removed
            Path(name).unlink()
        for start, block in zip(range(0, self._count, self._rows_a_block), self._blocks, strict=False):
            self._write(block[: self._count - start])
        self._blocks.clear()

    def _write(self, rows: Bytes) -> None:
        view = np.ascontiguousarray(rows).data.cast("B")
        try:
            while view.nbytes:
                view = view[self._file.write(view) :]
        except OSError as error:
            if not is_full(error):
                raise
            raise no_more_room(view.nbytes) from error


def _remove(file: Any, name: str) -> None:
    file.close()
    Path(name).unlink(missing_ok=True)
