"""Opening nothing but files: what has a file's name may be a pipe, a folder or a device."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class OddFileError(OSError):
    """What has the name of a file is none, or is larger than such a file can be."""


def open_regular(path: Path) -> io.FileIO:
    """Open a file for reading, without a buffer.

    Raises:
        OddFileError: if it is something else. Opening a pipe would wait for a writer.
        OSError: if it is not there or cannot be read.
    """
    _refuse_others(path, path.stat().st_mode)  # first: opening a device may do something
    file = io.FileIO(path, "rb", opener=_open_without_waiting)
    try:
        _refuse_others(path, os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def read_small(path: Path, limit: int) -> bytes:
    """All bytes of a file of at most `limit` bytes.

    Raises:
        OddFileError: if it is larger, or no file.
        OSError: if it is not there or cannot be read.
    """
    with open_regular(path) as file:
        content = b""
        while len(content) <= limit and (piece := file.read(limit + 1 - len(content))):
            content += piece
    if len(content) > limit:
        raise OddFileError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
    return content


def reason(error: OSError) -> str:
    """What happened, in the words of the system or our own, without number and path."""
    return error.strerror or str(error)


def _refuse_others(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise OddFileError(errno.EINVAL, f"it is {kind} and not a file", str(path))


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
