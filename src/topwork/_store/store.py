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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topwork._errors import InputError, public, warn
from topwork._names import published
from topwork._store import files
from topwork._store.collection import Collection
from topwork._store.description import Description, ensure_folder, own_files
from topwork._store.inventory import CollectionInfo, Pruned, StoreInfo, inspect
from topwork._store.regular import reason
from topwork._store.root import is_fingerprint, prepare_root

_SECONDS_A_DAY = 86400


@published
@dataclass(frozen=True)
class Store:
    """A folder of collections. Made by `open_store`; can be pickled and sent to other processes.

    Attributes:
        directory: The folder, absolute.
    """

    directory: Path

    def _repr_html_(self) -> str:
        return self.info()._repr_html_()

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
        if not is_fingerprint(fingerprint):
            raise ValueError(
                "A fingerprint has 8 to 128 lower case hexadecimal digits. Received: "
                f"{fingerprint!r}. Pass a hexdigest(), of hashlib.blake2b for instance."
            )
        if row_bytes < 1:
            raise ValueError(
                f"A row has at least 1 byte. Received: row_bytes={row_bytes}. Pass the bytes of "
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

    @public
    def prune(self, *, older_than: float | None = None, larger_than: int | None = None) -> Pruned:
        """Drop the collections that were not used for long, and what killed processes left.

        Only files that the store wrote are removed: what else lies in its folder stays. Do not prune
        what others are using: they would stop with an error, or compute again.

        Args:
            older_than: Days; a collection that was used last before that is dropped.
            larger_than: Bytes; the least recently used collections are dropped until the rest
                takes no more than that.

        Raises:
            ValueError: if a limit is negative.
            OSError: if nothing may be removed.
        """
        _check_limit("older_than", older_than)
        _check_limit("larger_than", larger_than)
        files.check_writable(self.directory)
        kept = self.info()
        old = self._unused_for(older_than, kept.collections)
        rest = [each for each in kept.collections if each not in old]
        dropped = (*_beyond(larger_than, rest), *old)
        freed = sum(_remove_collection(self.directory / each.fingerprint) for each in dropped)
        removed = [size for path in self._rubbish() if (size := _remove_rubbish(path)) is not None]
        return Pruned(dropped, len(removed), freed + sum(removed))

    def _folders(self) -> Iterator[Path]:
        """What may be a collection by its name."""
        for entry in files.entries(self.directory):
            if is_fingerprint(entry.name) and entry.is_dir():
                yield Path(entry)

    def _collections(self) -> Iterator[CollectionInfo]:
        for folder in self._folders():
            try:
                found = inspect(folder)
            except FileNotFoundError:
                # Another process is pruning.
                continue
            except OSError as error:
                warn(
                    f"The store passes over the folder {folder}: it cannot be read, {reason(error)}.",
                )
                continue
            if found is not None:
                yield found

    def _unused_for(
        self, days: float | None, collections: tuple[CollectionInfo, ...]
    ) -> list[CollectionInfo]:
        if days is None:
            return []
        limit = files.clock(self.directory) - days * _SECONDS_A_DAY
        return [each for each in collections if each.last_used < limit]

    def _rubbish(self) -> Iterator[Path]:
        yield from files.leftovers(self.directory)
        for each in self._collections():
            folder = self.directory / each.fingerprint
            yield from files.leftovers(folder)
            yield from (Path(entry) for entry in own_files(folder) if entry.name.endswith(".damaged"))


def _remove_collection(folder: Path) -> int:
    """Remove what the store wrote, and the folder if nothing else is in it."""
    names = {entry.name for entry in own_files(folder)}
    if names >= {entry.name for entry in files.entries(folder)} and not folder.is_symlink():
        aside = files.temporary_beside(folder)
        # Renamed first: nobody should find half a collection.
        try:
            folder.rename(aside)
        except OSError:
            aside = folder
        folder = aside
    freed = sum(files.remove_file(folder / name) for name in names)
    with contextlib.suppress(OSError):
        folder.rmdir()
    return freed


def _remove_rubbish(path: Path) -> int | None:
    """Remove a temporary or a damaged file; how many bytes it had, None if it stays."""
    freed = _remove_collection(path) if path.is_dir() else files.remove_file(path)
    return None if os.path.lexists(path) else freed


@public
def open_store(directory: str | os.PathLike[str], *, repair: bool = False) -> Store:
    """Open the feature store in `directory`; create it if the folder is empty or missing.

    All that can be wrong with the folder is found here, before anything is computed. `fit` and
    `precompute` open the store themselves. Open it yourself to see what it holds, or to remove what is no
    longer used.

    Args:
        directory: The folder, as in `fit(..., cache_dir=directory)`.
        repair: Whether a folder becomes a store again that has collections of features and other
            things, but no version file. The other things do not change.

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
    if not isinstance(directory, (str, os.PathLike)) or not str(directory):
        raise InputError(
            f"a feature store is the path of a folder. Received: {directory!r}. Pass a new or an empty "
            "folder, or that of a store."
        )
    if "://" in str(directory):
        raise InputError(
            f"a feature store is a folder of a file system. Received: the URL {directory}. "
            "Mount what it points to and pass the path."
        )
    path = Path(directory).expanduser().absolute()
    prepare_root(path, repair=repair)
    return Store(path)


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
        raise InputError(f"{name} must not be negative. Received: {limit}. 0 drops everything.")
