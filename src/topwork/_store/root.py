"""The folder of a store: told from other folders by its version file, made, checked, repaired."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from topwork._errors import InputError, warn
from topwork._store import files
from topwork._store.description import described
from topwork._store.records import read_record, write_record
from topwork._store.shards import FORMAT_VERSION

_VERSION_FILE = "topwork-store.json"
_FORMAT = "topwork feature store"
_OURS = {"format": _FORMAT, "version": FORMAT_VERSION}
_FINGERPRINT = re.compile(r"[0-9a-f]{8,128}")


def is_fingerprint(name: str) -> bool:
    """Whether collections may have such names."""
    return _FINGERPRINT.fullmatch(name) is not None


def prepare_root(path: Path, *, repair: bool) -> None:
    """Make the folder of a store unless it is one.

    Raises:
        OSError: if it is a file, or cannot be created, read or written.
        ValueError: if it holds something else, or a store of another version.
    """
    _make_folder(path)
    if (path / _VERSION_FILE).exists():  # what is there can be read where nothing can be written
        _check_version(path / _VERSION_FILE)
    else:
        _refuse_foreign(path, repair)
        files.check_writable(path)
        write_record(path / _VERSION_FILE, _OURS)


def _make_folder(path: Path) -> None:
    try:
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(
                f"A feature store is a folder, and {path} is a file. Pass another path, or that of "
                "the folder which the store should be in."
            )
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno is None:
            raise
        raise files.unusable(path, "created", error) from error


def _refuse_foreign(path: Path, repair: bool) -> None:
    try:
        visible = sorted(entry.name for entry in files.entries(path) if entry.name[0] != ".")
    except OSError as error:
        raise files.unusable(path, "read", error) from error
    # In this order: another process may be making this store right now.
    others = [name for name in visible if name not in (_VERSION_FILE, "lost+found")]
    own = [name for name in others if is_fingerprint(name) and _is_collection(path / name)]
    foreign = [name for name in others if name not in own]
    if (path / _VERSION_FILE).exists() or not others:
        return
    if own and (repair or not foreign):
        warn(
            f"The version file {path / _VERSION_FILE} was lost, and {len(own)} collections of features "
            f"are there. It is written anew for version {FORMAT_VERSION}; each shard is verified as "
            "always.",
        )
        return
    remedy = "Pass an empty or a new folder."
    if own:
        remedy = (
            f"Of these {len(own)} are collections of features: if it was a store, "
            "open_store(..., repair=True) makes it one again and leaves the rest alone."
        )
    raise InputError(
        f"{path} is not a feature store: it has no {_VERSION_FILE}, and holds "
        f"{', '.join(map(repr, foreign[:3]))}{', ...' if foreign[3:] else ''}. {remedy}"
    )


def _is_collection(folder: Path) -> bool:
    try:
        return folder.is_dir() and described(folder) is not None
    except OSError:
        return False


def _check_version(path: Path) -> None:
    try:
        found = read_record(path)
    except OSError as error:
        raise files.unusable(path.parent, "read", error) from error
    if found is None or found.get("format") != _FORMAT:
        warn(
            f"The version file {path} is damaged: it does not say what was written into it. It is "
            f"written anew for version {FORMAT_VERSION}; each shard is verified as always.",
        )
        with contextlib.suppress(OSError):
            write_record(path, _OURS)
    elif any(found.get(key) != value for key, value in _OURS.items()):
        raise InputError(
            f"{path.parent} is a store of version {found.get('version')}, and this topwork reads and "
            f"writes version {FORMAT_VERSION}. Pass another folder, or install the topwork that "
            "made this one."
        )
