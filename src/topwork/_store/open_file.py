"""Reading from files that stay open, and words for those that changed meanwhile."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path

from topwork._store.regular import open_regular, reason


class OpenFile:
    """A file to read from at any place, by any number of threads at once.

    It closes when its last user lets go of it, so a cache can drop it while a thread reads. Rows
    are read into the caller's memory, not mapped: the resident memory of a process that has read
    20 GB through a map is 20 GB.
    """

    _file: io.FileIO | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._file = open_regular(path)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise _lost(path, "was removed") from error
            raise _lost(path, f"cannot be read ({reason(error)})") from error
        self._descriptor = self._file.fileno()

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

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
