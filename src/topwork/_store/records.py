"""Small JSON files that know their own checksum."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topwork._store.files import write_durably
from topwork._store.regular import read_small

_LARGEST = 2**20


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write `record`, which replaces what is there."""
    text = json.dumps({"crc32": _checksum(record), "record": record}, indent=2)
    write_durably(path, [text.encode() + b"\n"])


def read_record(path: Path) -> dict[str, Any] | None:
    """What `write_record` wrote, or None if that is no longer what the file says.

    Raises:
        OSError: if it is not there, cannot be read, or is not a small file.
    """
    try:
        content = json.loads(read_small(path, _LARGEST))
        record = content["record"]
        intact = isinstance(record, dict) and content["crc32"] == _checksum(record)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if intact else None


def _checksum(record: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())
