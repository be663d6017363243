"""Opening shards: each is read once from end to end, and what does not hold is said."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Sequence
from pathlib import Path

from topwork._errors import warn
from topwork._store.description import Description
from topwork._store.files import set_aside
from topwork._store.regular import reason
from topwork._store.shards import (
    Bytes,
    DamagedShardError,
    ForeignShardError,
    Shard,
    is_shard,
    open_shard,
)

# Errors that are about the process (no handles or memory left), not about the file.
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def open_shards(paths: Sequence[Path], wanted: Description) -> list[tuple[Shard, Bytes]]:
    """Verify shards from end to end, several at once; return those that hold, with their keys.

    One that is damaged is set aside, and anything else that is no shard of the `wanted` collection is
    passed over; a warning names each.

    Raises:
        OSError: if the process has no more files or memory.
    """
    # Imported here because a store that is only written to does without.
    from concurrent.futures import ThreadPoolExecutor

    # Reading and checksums leave the interpreter free for other threads.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        opened = list(pool.map(functools.partial(_try_to_open, wanted), paths))
    for outcome in opened:
        if isinstance(outcome, str):
            warn(outcome)
    return [outcome for outcome in opened if isinstance(outcome, tuple)]


def _try_to_open(wanted: Description, path: Path) -> tuple[Shard, Bytes] | str | None:
    try:
        return open_shard(path, wanted.fingerprint, wanted.row_bytes)
    except DamagedShardError as problem:
        if is_shard(path.name):
            aside = set_aside(path)
            return f"The shard {path} is damaged: {problem}. Its rows are computed again; {aside}."
        why = str(problem)
    except ForeignShardError as problem:
        why = str(problem)
    except OSError as error:
        if error.errno in _OURS:
            raise
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return None
        why = f"it cannot be read, {reason(error)}"
    return f"The store passes over {path}: {why}. It is left as it is."
