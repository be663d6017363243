"""Files that are there whole or not at all, and clear words when they cannot be."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from topwork._store.regular import reason

if TYPE_CHECKING:
    from typing_extensions import Buffer

STALE_SECONDS = 3600
"""A temporary lives for the seconds that one write takes: an older one has lost its writer."""

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")


def unique_name() -> str:
    """A name that no other process, on any machine, will choose."""
    return os.urandom(16).hex()


def temporary_beside(path: Path) -> Path:
    """A new hidden name in the folder of `path`, on the same file system so that it can be renamed."""
    return path.with_name(f".{unique_name()}.tmp")


def is_temporary(name: str) -> bool:
    """Whether `temporary_beside` gives such names."""
    return _TEMPORARY.fullmatch(name) is not None


def write_durably(path: Path, parts: Sequence[Buffer]) -> None:
    """Write `parts` one after the other; `path` appears when all of it is on disk, or never.

    Raises:
        OSError: with ``errno.ENOSPC`` if the disk or the quota is full, saying how much was needed;
            with another number if nothing may be written.
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
        if isinstance(error, OSError) and error.errno in _FORBIDDEN:
            raise unusable(path.parent, "written", error) from error
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


def is_full(error: OSError) -> bool:
    """Whether the disk or a quota has no more room."""
    return error.errno in _FULL


def disk_full(directory: Path, needed: int) -> OSError:
    """The error for `needed` bytes that do not fit into `directory`, with what is short there."""
    return OSError(
        errno.ENOSPC,
        f"No room for features: {what_is_short(directory, needed)}. What was stored before is kept. "
        "Free some space, prune the store, or choose a folder on another disk; the next run goes on "
        "from what is stored.",
    )


def what_is_short(directory: Path, needed: int) -> str:
    """Why `needed` bytes do not fit into `directory`: bytes, files or a quota."""
    free = shutil.disk_usage(directory).free
    wanted = f"{needed:,} bytes are needed in {directory}"
    if needed > free:
        return f"{wanted}, {free:,} are free"
    if _files_left(directory) == 0:
        return (
            f"{wanted}, and though {free:,} are free its file system takes no more files, however "
            "small: all of its inodes are in use"
        )
    return f"{wanted}, and though {free:,} are free the system allows less, as with a quota"


def _files_left(directory: Path) -> int | None:
    try:
        state = os.statvfs(directory)
    except (AttributeError, OSError):  # Windows has none
        return None
    return state.f_favail if state.f_files else None


def check_space(directory: Path, needed: int) -> None:
    """Raise, before anything is computed, what writing `needed` more bytes would end in.

    Raises:
        OSError: with ``errno.ENOSPC`` if less is free, or another if nothing can be written.
    """
    check_writable(directory, needed)
    if needed > shutil.disk_usage(directory).free:
        raise disk_full(directory, needed)


def check_writable(directory: Path, needed: int = 0) -> None:
    """Raise the error that writing into the folder would end in."""
    try:
        clock(directory)
    except OSError as error:
        if is_full(error):
            raise disk_full(directory, needed) from error
        raise unusable(directory, "written", error) from error


def unusable(path: Path, how: str, error: OSError) -> OSError:
    """The error for a folder of a store in which something cannot be done."""
    if error.errno in _FULL:  # said in words already
        return error
    return OSError(
        error.errno,
        f"The feature store {path} cannot be {how}: {reason(error)}. Pass a folder that you may "
        "write to, or change its permissions.",
    )


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
    temporaries = [Path(entry) for entry in entries(directory) if is_temporary(entry.name)]
    # Asking for the time costs a write, and there is nearly never anything to compare it with.
    try:
        now = clock(directory) if temporaries else 0.0
    except OSError:  # nothing can be removed either
        return
    for path in temporaries:
        with contextlib.suppress(FileNotFoundError):
            if now - path.lstat().st_mtime > STALE_SECONDS:
                yield path


def entries(directory: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder; nothing if it is not there."""
    try:
        with os.scandir(directory) as found:
            return list(found)
    except FileNotFoundError:
        return []


def remove_file(path: Path) -> int:
    """Remove a file that others may be removing too; return how many bytes became free."""
    try:
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            return 0
        path.unlink()
    except OSError:
        return 0
    return found.st_size


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
