"""Room for features of one run: shared out and asked for before the first image, watched from then on."""

from __future__ import annotations

import errno
import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from topwork._errors import verb, warn
from topwork._features.memory import memory_for_features, takes_memory
from topwork._store.files import what_is_short

# If the length of the data is unknown, a file takes over earlier: all rows may have to move there.
_SHARE_OF_UNKNOWN = 0.2
# This part of a temporary disk is left to other programs, but no more than 1 GB.
_PART_LEFT, _MOST_LEFT = 0.05, 2**30

_REMEDY = (
    "Free some space, let the environment variable TMPDIR name a folder on another disk, or pass "
    "cache_dir=..., a folder that keeps what was computed."
)


def memory_limits(needed: Sequence[int | None], memory_limit: float) -> list[float]:
    """How much memory each of several data sets may take before its features go to a temporary file.

    Args:
        needed: Bytes of features of each, at least; None where there is no telling.
        memory_limit: Bytes of memory for all of them.

    Returns:
        Bytes for each. 0: a file takes them from the first one on.

    Raises:
        OSError: with ``errno.ENOSPC`` if there is room for what is known neither here nor there.
    """
    left, limits, in_memory, in_file = memory_limit, [], 0, 0
    for each in needed:
        if each is None:
            limits.append(_SHARE_OF_UNKNOWN * left)
            left *= 1 - _SHARE_OF_UNKNOWN
        elif each <= left:
            limits.append(left)
            left, in_memory = left - each, in_memory + each
        else:
            limits.append(0.0)
            in_file += each
    if in_file == 0 or _fits_on_disk(in_file, in_memory):
        return limits
    return [limit or math.inf for limit in limits]


def _fits_on_disk(needed: int, in_memory: int) -> bool:
    folder = Path(tempfile.gettempdir())
    free = room(folder)
    if needed <= free:
        return True
    memory = int(memory_for_features()) - in_memory
    if needed > memory:
        raise OSError(
            errno.ENOSPC,
            f"{verb() or 'fit'}: no room for the features, which take {needed:,} bytes: {free:,} may be "
            f"used in the temporary folder {folder}, and {max(0, memory):,} of memory. Nothing was "
            f"computed yet. {_REMEDY}",
        )
    warn(
        f"the features take {needed:,} bytes, and {free:,} may be used in the temporary folder "
        f"{folder}: they are kept in memory instead."
    )
    return False


def room(folder: Path) -> int:
    """Bytes that a temporary file in `folder` may still grow by, without filling the disk."""
    usage = shutil.disk_usage(folder)
    left = max(0, usage.free - int(min(_PART_LEFT * usage.total, _MOST_LEFT)))
    return min(left, int(memory_for_features())) if takes_memory(folder) else left


def memory_instead(needed: int, short: str) -> int:
    """How much memory may take what a temporary file cannot take any more; said.

    Args:
        needed: The bytes of rows that are at hand.
        short: Why the file does not take them.

    Raises:
        OSError: with ``errno.ENOSPC`` if that is too little.
    """
    memory = int(memory_for_features())
    if needed > memory:
        raise no_more_room(short)
    warn(
        f"the temporary file of features cannot grow: {short}. What follows is kept in memory, of which "
        f"{memory:,} bytes may be used."
    )
    return memory


def no_more_room(short: str) -> OSError:
    """The error for rows that neither the temporary file nor memory can take any more."""
    return OSError(
        errno.ENOSPC,
        f"{verb() or 'fit'}: there is no more room for features in memory, and none in the temporary "
        f"file: {short}. They are for this run only, so what was computed is lost. {_REMEDY}",
    )


def short_of(needed: int, error: OSError | None = None) -> str:
    """Why the temporary file does not take `needed` bytes, for a message."""
    folder = Path(tempfile.gettempdir())
    left = room(folder)
    if needed > left:
        return f"{needed:,} bytes are needed in {folder}, and {left:,} may be used"
    if error is not None and error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        return f"it cannot be made in {folder} ({error.strerror or error})"
    return what_is_short(folder, needed)
