"""Files that are there whole or not at all, and clear words when they cannot be."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Buffer

STALE_SECONDS = 3600
"""A temporary lives for the seconds that one write takes: an older one has lost its writer."""

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def unique_name() -> str:
    """A name that no other process, on any machine, will choose."""
    return os.urandom(16).hex()


def temporary_beside(path: Path) -> Path:
    """A new hidden name in the folder of `path`, on the same file system so that it can be renamed."""
    return path.with_name(f".{unique_name()}.tmp")


def write_durably(path: Path, parts: Sequence[Buffer]) -> None:
    """Write `parts` one after the other; `path` appears when all of it is on disk, or never.

    Raises:
        OSError: with ``errno.ENOSPC`` if the disk or the quota is full, saying how much was needed.
    """
    aside = temporary_beside(path)
    try:
        with aside.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError) and error.errno in _FULL:
            raise disk_full(path.parent, sum(memoryview(part).nbytes for part in parts)) from error
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Bring the names in `directory` to disk, where the system can.

    Windows cannot open a folder and some network file systems refuse to sync one. What is lost
    there by a power cut is a name, hence a whole shard that is computed again: not an error.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def disk_full(directory: Path, needed: int) -> OSError:
    """The error for `needed` bytes that do not fit into `directory`."""
    free = shutil.disk_usage(directory).free
    return OSError(
        errno.ENOSPC,
        f"No room for features: {needed:,} bytes are needed in {directory}, {free:,} are free "
        "(a quota may allow less). What was stored before is kept. Free some space, prune the "
        "store, or choose a folder on another disk; the next run goes on from what is stored.",
    )


def check_space(directory: Path, needed: int) -> None:
    """Raise what `write_durably` would raise if `needed` more bytes were written now."""
    if needed > shutil.disk_usage(directory).free:
        raise disk_full(directory, needed)


def clock(directory: Path) -> float:
    """The present time as the file system of `directory` tells it, in seconds.

    Modification times on a shared folder come from its server, whose clock may differ from ours:
    ages are only right if "now" comes from the same clock. Fails where nothing can be written.
    """
    probe = temporary_beside(directory / "probe")
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def leftovers(directory: Path) -> Iterator[Path]:
    """The temporaries in `directory` that killed processes left behind."""
    temporaries = [path for path in directory.glob(".*.tmp") if not path.is_symlink()]
    # Asking for the time costs a write, and there is nearly never anything to compare it with.
    now = clock(directory) if temporaries else 0.0
    for path in temporaries:
        with contextlib.suppress(FileNotFoundError):
            if now - path.stat().st_mtime > STALE_SECONDS:
                yield path


def remove(path: Path) -> int:
    """Remove a file or a folder that others may be removing too; return how many bytes it held."""
    held = size(path)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return held


def size(path: Path) -> int:
    """The bytes in a file, or in all files of a folder; 0 if it is not there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if path.is_dir():
            return sum(size(entry) for entry in path.iterdir())
        return path.stat().st_size
    return 0


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a small JSON file that knows its own checksum."""
    text = json.dumps({"crc32": _checksum(record), "record": record}, indent=2)
    write_durably(path, [text.encode() + b"\n"])


def read_record(path: Path) -> dict[str, Any] | None:
    """What `write_record` wrote, or None if that is no longer what the file says."""
    try:
        content = json.loads(path.read_bytes())
        record = content["record"]
        intact = isinstance(record, dict) and content["crc32"] == _checksum(record)
    except (ValueError, KeyError, TypeError):
        return None
    return record if intact else None


def _checksum(record: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def set_aside(path: Path) -> str:
    """Rename a damaged shard so that nobody reads it again, and say what became of it."""
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(aside)
    except FileNotFoundError:
        return "another process has set it aside"
    except OSError as error:
        return f"it could not be renamed ({error.strerror}) and is ignored"
    return f"it was renamed to {aside.name}, which prune() removes"
