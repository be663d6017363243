r"""The format of a shard: one file of keys and rows that is written once and never changed.

=================  ================================================================
bytes              content
=================  ================================================================
8                  ``b"topwork\n"``
4                  CRC-32 of the next 500 bytes, little-endian
500                JSON, padded with spaces: version, fingerprint, rows, row_bytes, crc32
rows x 16          keys
rows x row_bytes   rows
=================  ================================================================

The header has a fixed length: the place of a row follows from its number, and the number of rows
from the size of the file.
"""

from __future__ import annotations

import errno
import io
import json
import os
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from topwork._store.files import unique_name, write_durably

Bytes: TypeAlias = npt.NDArray[np.uint8]

FORMAT_VERSION = 1
KEY_BYTES = 16
HEADER_BYTES = 512
SUFFIX = ".shard"

_MAGIC = b"topwork\n"
_JSON_BYTES = HEADER_BYTES - len(_MAGIC) - 4
# Large enough to make the calls cheap, small enough to stay in the processor's cache.
_CHUNK_BYTES = 1 << 20


class DamagedShardError(Exception):
    """A file that is not the shard its name promises; the message is the reason."""


@dataclass(frozen=True)
class Shard:
    """A complete shard whose content was verified.

    Attributes:
        path: The file.
        rows: How many rows it holds.
        row_bytes: The length of a row.
    """

    path: Path
    rows: int
    row_bytes: int

    def offset(self, row: int) -> int:
        """Where row number `row` begins in the file."""
        return HEADER_BYTES + self.rows * KEY_BYTES + row * self.row_bytes


def rows_in(file_bytes: int, row_bytes: int) -> int:
    """How many rows a shard of `file_bytes` holds."""
    return (file_bytes - HEADER_BYTES) // (KEY_BYTES + row_bytes)


def write_shard(directory: Path, fingerprint: str, keys: Bytes, rows: Bytes) -> Shard:
    """Write one complete shard under a name of its own.

    Args:
        directory: The folder of the collection.
        fingerprint: The collection that the rows belong to.
        keys: ``(n, 16)``, contiguous.
        rows: ``(n, row_bytes)``, contiguous.
    """
    path = directory / f"{unique_name()}{SUFFIX}"
    shard = Shard(path, rows=len(rows), row_bytes=rows.shape[1])
    # CRC-32 runs at 3 GB/s where SHA-256 reaches half of that and BLAKE2b a quarter, so that
    # verifying costs no more than reading. It finds every flipped bit and every burst up to 32
    # bits, and misses 1 in 4 billion of other damage; torn and truncated files, the common
    # case, are found with certainty by the exact length. Nobody is kept from forging a shard.
    checksum = zlib.crc32(rows.data, zlib.crc32(keys.data))
    write_durably(path, [_header(fingerprint, shard, checksum), keys.data, rows.data])
    return shard


def _header(fingerprint: str, shard: Shard, checksum: int) -> bytes:
    fields = {
        "version": FORMAT_VERSION,
        "fingerprint": fingerprint,
        "rows": shard.rows,
        "row_bytes": shard.row_bytes,
        "crc32": checksum,
    }
    text = json.dumps(fields).encode().ljust(_JSON_BYTES)
    return _MAGIC + zlib.crc32(text).to_bytes(4, "little") + text


def open_shard(path: Path, fingerprint: str, row_bytes: int) -> tuple[Shard, Bytes]:
    """Verify a shard from its first byte to its last; return it with its keys.

    Args:
        path: The file.
        fingerprint: The collection that it has to belong to.
        row_bytes: The length of the rows that it has to hold.

    Raises:
        DamagedShardError: if it is not exactly what `write_shard` wrote, or the disk cannot tell.
        FileNotFoundError: if it is gone.
    """
    try:
        with path.open("rb", buffering=0) as file:
            fields = _read_header(file)
            if fields["fingerprint"] != fingerprint or fields["row_bytes"] != row_bytes:
                raise DamagedShardError("it belongs to another collection")
            shard = Shard(path, fields["rows"], row_bytes)
            return shard, _read_verified(file, shard, fields["crc32"])
    except OSError as error:
        if error.errno == errno.EIO:
            raise DamagedShardError("the disk cannot read it") from error
        raise


def _read_header(file: io.FileIO) -> dict[str, Any]:
    header = file.read(HEADER_BYTES)
    text = header[-_JSON_BYTES:]
    if header[: len(_MAGIC)] != _MAGIC:
        raise DamagedShardError("it does not begin like a shard")
    if header[len(_MAGIC) : -_JSON_BYTES] != zlib.crc32(text).to_bytes(4, "little"):
        raise DamagedShardError("its header does not match its checksum")
    fields: dict[str, Any] = json.loads(text)
    if fields["version"] != FORMAT_VERSION:
        raise DamagedShardError(f"it is of format version {fields['version']}")
    return fields


def _read_verified(file: io.FileIO, shard: Shard, checksum: int) -> Bytes:
    expected, found = shard.offset(shard.rows), os.fstat(file.fileno()).st_size
    if found != expected:
        raise DamagedShardError(f"it has {found:,} bytes instead of {expected:,}")
    keys = np.empty((shard.rows, KEY_BYTES), np.uint8)
    _fill(file, keys.data.cast("B"))
    if _checksum_of_rest(file, zlib.crc32(keys.data)) != checksum:
        raise DamagedShardError("its content does not match its checksum")
    return keys


def _fill(file: io.FileIO, view: memoryview) -> None:
    # If the file shrinks meanwhile, what is left unfilled does not match the checksum.
    while view.nbytes and (count := file.readinto(view)):
        view = view[count:]


def _checksum_of_rest(file: io.FileIO, checksum: int) -> int:
    chunk = memoryview(bytearray(_CHUNK_BYTES))
    while count := file.readinto(chunk):
        checksum = zlib.crc32(chunk[:count], checksum)
    return checksum


class OpenFile:
    """A file to read from at any place, by any number of threads at once.

    It closes when its last user lets go of it, so a cache can drop it while a thread reads. Rows
    are read into the caller's memory, not mapped: the resident memory of a process that has read
    20 GB through a map is 20 GB.
    """

    _descriptor = -1

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except FileNotFoundError as error:
            raise _lost(path, "was removed") from error

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes that begin at `offset`."""
        try:
            while view.nbytes:
                count = self._read_some(view, offset)
                if not count:
                    raise _lost(self._path, "was cut short")
                view, offset = view[count:], offset + count
        except OSError as error:
            if error.errno == errno.EIO:
                raise _lost(self._path, "became unreadable") from error
            raise

    def _read_some(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [view], offset)
        # Windows has one position for each open file: nobody else may move it in between.
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            data = os.read(self._descriptor, view.nbytes)
        view[: len(data)] = data
        return len(data)


def _lost(path: Path, how: str) -> OSError:
    return OSError(
        errno.ENOENT,
        f"The shard {path} {how} after its rows were found: another program or prune() may have "
        "touched it, or the disk fails. Run again: rows that are missing are computed again.",
    )
