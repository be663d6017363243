"""Room on the temporary disk for features of one run: asked for before the first image."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

from topwork._errors import verb, warn
from topwork._features.memory import MEMORY_FRACTION, available_memory
from topwork._store.files import what_is_short

_REMEDY = (
    "Free some space, let the environment variable TMPDIR name a folder on another disk, or pass "
    "cache_dir=..., a folder that keeps what was computed."
)


def fits_on_disk(needed: int) -> bool:
    """Whether `needed` bytes of features go to a temporary file; False: they go to memory instead.

    Raises:
        OSError: with ``errno.ENOSPC`` if there is room for them in neither.
    """
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return True
    memory = int(MEMORY_FRACTION * available_memory())
    if needed > memory:
        raise OSError(
            errno.ENOSPC,
            f"{verb() or 'fit'}: no room for the features, which take {needed:,} bytes: {free:,} are "
            f"free in the temporary folder {folder}, and {memory:,} of memory may be used. Nothing was "
            f"computed yet. {_REMEDY}",
        )
    warn(
        f"the features take {needed:,} bytes, and {free:,} are free in the temporary folder {folder}: "
        "they are kept in memory instead."
    )
    return False


def no_more_room(needed: int) -> OSError:
    """The error for `needed` bytes that the temporary file cannot take any more."""
    short = what_is_short(Path(tempfile.gettempdir()), needed)
    return OSError(
        errno.ENOSPC,
        f"{verb() or 'fit'}: the temporary file of features has no more room: {short}. It is for this "
        f"run only, so what was computed is lost. {_REMEDY}",
    )
