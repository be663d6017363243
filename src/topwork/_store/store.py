"""A folder that keeps what frozen networks computed, addressed by content.

A *row* is what a prefix gives for one image: a fixed number of bytes. Rows lie in *collections*,
one for each prefix, and have a *key*, a digest of the image. Nothing can be out of date: another
prefix or another image is another address. The folder may be shared by any number of processes and
machines, which add to it at once without knowing of each other.

The store knows bytes only: nothing of Keras, of images, or of training.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topwork._store import files
from topwork._store.collection import Collection
from topwork._store.description import Description, ensure_folder
from topwork._store.inventory import CollectionInfo, Pruned, StoreInfo, inspect
from topwork._store.shards import FORMAT_VERSION

_VERSION_FILE = "topwork-store.json"
_FORMAT = "topwork feature store"
_FINGERPRINT = re.compile(r"[0-9a-f]{8,128}")
_SECONDS_A_DAY = 86400


@dataclass(frozen=True)
class Store:
    """A folder of collections. Made by `open_store`; can be pickled and sent to other processes.

    Attributes:
        directory: The folder, absolute.
    """

    directory: Path

    def collection(
        self, fingerprint: str, *, row_bytes: int, about: Mapping[str, Any] | None = None
    ) -> Collection:
        """Open a collection, or create it; verify every shard in it.

        Args:
            fingerprint: What identifies the prefix: 8 to 128 hexadecimal digits, lower case.
            row_bytes: The length of a row.
            about: What the prefix is, for people who look into the store; JSON types. Kept from
                the first opening.

        Raises:
            ValueError: if the fingerprint is not one, or its rows have another length.
        """
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise ValueError(
                "A fingerprint has 8 to 128 lower case hexadecimal digits, received "
                f"{fingerprint!r}. Pass a hexdigest(), of hashlib.blake2b for instance."
            )
        if row_bytes < 1:
            raise ValueError(
                f"A row has at least 1 byte, received row_bytes={row_bytes}. Pass the bytes of "
                "all output tensors for one image together."
            )
        folder = self.directory / fingerprint
        wanted = Description(fingerprint, int(row_bytes), dict(about or {}))
        ensure_folder(folder, wanted)
        return Collection(folder, wanted)

    def check_space(self, needed: int) -> None:
        """Raise, before anything is computed, the error that `needed` more bytes would end in.

        Raises:
            OSError: with ``errno.ENOSPC`` if less is free.
        """
        files.check_space(self.directory, needed)

    def info(self) -> StoreInfo:
        """Say what the store holds; reads no row and verifies nothing."""
        found = sorted(self._collections(), key=lambda each: each.last_used, reverse=True)
        return StoreInfo(self.directory, tuple(found))

    def prune(self, *, older_than: float | None = None, larger_than: int | None = None) -> Pruned:
        """Drop the collections that were not used for long, and what killed processes left.

        Do not prune what others are using: they would stop with an error, or compute again.

        Args:
            older_than: Days; a collection that was used last before that is dropped.
            larger_than: Bytes; the least recently used collections are dropped until the rest
                takes no more than that.

        Raises:
            ValueError: if a limit is negative.
        """
        _check_limit("older_than", older_than)
        _check_limit("larger_than", larger_than)
        kept = self.info()
        old = self._unused_for(older_than, kept.collections)
        rest = [each for each in kept.collections if each not in old]
        dropped = (*_beyond(larger_than, rest), *old)
        freed = sum(self._drop(each) for each in dropped)
        removed = [files.remove(path) for path in list(self._rubbish())]
        return Pruned(dropped, len(removed), freed + sum(removed))

    def _folders(self) -> Iterator[Path]:
        for path in self.directory.iterdir():
            if _FINGERPRINT.fullmatch(path.name) and path.is_dir():
                yield path

    def _collections(self) -> Iterator[CollectionInfo]:
        for folder in self._folders():
            try:
                yield inspect(folder)
            except FileNotFoundError:
                # Another process is pruning.
                continue

    def _unused_for(
        self, days: float | None, collections: tuple[CollectionInfo, ...]
    ) -> list[CollectionInfo]:
        if days is None:
            return []
        limit = files.clock(self.directory) - days * _SECONDS_A_DAY
        return [each for each in collections if each.last_used < limit]

    def _drop(self, info: CollectionInfo) -> int:
        folder = self.directory / info.fingerprint
        aside = files.temporary_beside(folder)
        # Renamed first: nobody may find half a collection. If it is gone, another process prunes.
        with contextlib.suppress(FileNotFoundError):
            folder.rename(aside)
        return files.remove(aside)

    def _rubbish(self) -> Iterator[Path]:
        for folder in (self.directory, *self._folders()):
            yield from files.leftovers(folder)
            yield from folder.glob("*.damaged")


def open_store(directory: str | os.PathLike[str]) -> Store:
    """Open the feature store in `directory`; create it if the folder is empty or missing.

    All that can be wrong with the folder is found here, before anything is computed. `fit` and
    `precompute` do so themselves; open it to see what it holds, or to drop what is not used.

    Args:
        directory: The folder, as in `fit(..., cache_dir=directory)`.

    Returns:
        The store. Its `info()` says what it holds, and `prune(older_than=..., larger_than=...)` drops
        what was not used for so many days, or what goes beyond so many bytes.

    Raises:
        NotADirectoryError: if it is a file.
        ValueError: if it holds something else, or a store of another version, or is a URL.
        OSError: if it cannot be created or written.

    Example:
        >>> import tempfile
        >>> import topwork as tw
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tw.open_store(folder).info().collections
        ()
    """
    if "://" in str(directory):
        raise ValueError(
            f"A feature store is a folder of a file system, received the URL {directory}. "
            "Mount what it points to and pass the path."
        )
    path = Path(directory).expanduser().absolute()
    _make_folder(path)
    _refuse_foreign(path)
    _check_writable(path)
    _check_version(path / _VERSION_FILE)
    return Store(path)


def _make_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(
            f"A feature store is a folder, and {path} is a file. Pass another path, or that of "
            "the folder which the store should be in."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(path, "created", error) from error


def _refuse_foreign(path: Path) -> None:
    # In this order: another process may be making this store right now.
    try:
        visible = sorted(entry.name for entry in path.iterdir() if entry.name[0] != ".")
    except OSError as error:
        raise _unusable(path, "read", error) from error
    foreign = [name for name in visible if name not in (_VERSION_FILE, "lost+found")]
    if foreign and not (path / _VERSION_FILE).exists():
        raise ValueError(
            f"{path} is not a feature store: it has no {_VERSION_FILE}, and holds "
            f"{', '.join(map(repr, foreign[:3]))}{', ...' if foreign[3:] else ''}. Pass an empty "
            "or a new folder."
        )


def _check_writable(path: Path) -> None:
    try:
        files.clock(path)
    except OSError as error:
        raise _unusable(path, "written", error) from error


def _unusable(path: Path, how: str, error: OSError) -> OSError:
    return OSError(
        error.errno,
        f"The feature store {path} cannot be {how}: {error.strerror}. Pass a folder that you may "
        "write to, or change its permissions.",
    )


def _check_version(path: Path) -> None:
    ours = {"format": _FORMAT, "version": FORMAT_VERSION}
    if not path.exists():
        files.write_record(path, ours)
    found = files.read_record(path)
    if found is None:
        warnings.warn(
            f"The version file {path} is damaged: its content does not match its checksum. It is "
            f"written anew for version {FORMAT_VERSION}; each shard is verified as always.",
            stacklevel=3,
        )
        files.write_record(path, ours)
    elif found != ours:
        raise ValueError(
            f"{path.parent} is a store of version {found.get('version')}, this topwork reads and "
            f"writes version {FORMAT_VERSION}. Pass another folder, or install the topwork that "
            "made this one."
        )


def _beyond(limit: int | None, collections: list[CollectionInfo]) -> list[CollectionInfo]:
    """The least recently used of `collections`, newest first, that do not fit into `limit`."""
    total = 0
    for place, each in enumerate(collections):
        total += each.bytes
        if limit is not None and total > limit:
            return collections[place:]
    return []


def _check_limit(name: str, limit: float | None) -> None:
    if limit is not None and limit < 0:
        raise ValueError(f"{name} must not be negative, received {limit}. 0 drops everything.")
