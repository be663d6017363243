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
from the size of the file. Of the JSON more keys may come in later versions; a shard of another version
is passed over.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from topwork._store.files import unique_name, write_durably
from topwork._store.regular import open_regular

Bytes: TypeAlias = npt.NDArray[np.uint8]

FORMAT_VERSION = 1
KEY_BYTES = 16
HEADER_BYTES = 512
SUFFIX = ".shard"
MOST_ROWS = 65_536
"""Of a shard, so that a header cannot ask for more memory than 1 MB of keys."""
MOST_BYTES = 2**30
"""Of a shard, unless a single row is larger: verifying more would look like hanging."""

_MAGIC = b"topwork\n"
_JSON_BYTES = HEADER_BYTES - len(_MAGIC) - 4
_NAME = re.compile(rf"[0-9a-f]{{32}}{re.escape(SUFFIX)}(\.damaged)?")
# Large enough to make the calls cheap, small enough to stay in the processor's cache.
_CHUNK_BYTES = 1 << 20


class DamagedShardError(Exception):
    """A file that is not what was written; the message is the reason."""


class ForeignShardError(Exception):
    """A file that is no shard of this collection and this version; the message is the reason."""


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


@dataclass(frozen=True)
class Header:
    """What a shard says of itself, with the checksum of all that follows."""

    fingerprint: str
    rows: int
    row_bytes: int
    crc32: int


def is_shard(name: str, *, damaged: bool = False) -> bool:
    """Whether shards have such names; with `damaged` those that were set aside too."""
    found = _NAME.fullmatch(name)
    return found is not None and (damaged or not found[1])


def rows_in(file_bytes: int, row_bytes: int) -> int:
    """How many rows a shard of `file_bytes` holds."""
    return max(0, (file_bytes - HEADER_BYTES) // (KEY_BYTES + row_bytes))


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
        ForeignShardError: if it is whole as far as one can see, and not of this collection.
        OSError: if it cannot be opened, is gone or is no file.
    """
    try:
        with open_regular(path) as file:
            header = _read_header(file)
            if header.fingerprint != fingerprint or header.row_bytes != row_bytes:
                raise ForeignShardError("it belongs to another collection")
            shard = Shard(path, header.rows, row_bytes)
            return shard, _read_verified(file, shard, header.crc32)
    except OSError as error:
        if error.errno == errno.EIO:
            raise DamagedShardError("the disk cannot read it") from error
        raise


def read_header(path: Path) -> Header | None:
    """What the shard at `path` says of itself; None if it says nothing that holds."""
    try:
        with open_regular(path) as file:
            return _read_header(file)
    except (OSError, DamagedShardError, ForeignShardError):
        return None


def _read_header(file: io.FileIO) -> Header:
    header = file.read(HEADER_BYTES)
    text = header[-_JSON_BYTES:]
    if header[: len(_MAGIC)] != _MAGIC:
        raise DamagedShardError("it does not begin like a shard")
    if header[len(_MAGIC) : -_JSON_BYTES] != zlib.crc32(text).to_bytes(4, "little"):
        raise DamagedShardError("its header does not match its checksum")
    try:
        fields = json.loads(text)
        version = fields["version"]
        found = Header(*(fields[name] for name in ("fingerprint", "rows", "row_bytes", "crc32")))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ForeignShardError("its header is not that of a shard") from error
    if version != FORMAT_VERSION:
        raise ForeignShardError(f"it is of format version {version}")
    if not _is_possible(found):
        raise ForeignShardError("its header says what no shard can have")
    return found


def _is_possible(header: Header) -> bool:
    numbers = (header.rows, header.row_bytes, header.crc32)
    if not all(type(number) is int and number >= 0 for number in numbers):
        return False
    return header.rows <= MOST_ROWS and (header.rows <= 1 or header.rows * header.row_bytes <= MOST_BYTES)


def _read_verified(file: io.FileIO, shard: Shard, checksum: int) -> Bytes:
    expected, found = shard.offset(shard.rows), os.fstat(file.fileno()).st_size
    if found != expected:  # before anything is allocated
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
