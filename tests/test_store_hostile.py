"""A store among files that are not its own, that are odd, forged or unreadable: said, never touched."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

import topwork as tw
from topwork._store import files
from topwork._store.records import write_record
from topwork._store.store import Store, open_store

PREFIX = "0123456789abcdef" * 4
ROW_BYTES = 24
ODD = "0" * 32 + ".shard"


def keys_of(numbers: range) -> np.ndarray:
    return np.array([[n] * 16 for n in numbers], np.uint8)


def rows_of(numbers: range) -> np.ndarray:
    return np.array([[n + 1] * ROW_BYTES for n in numbers], np.uint8)


def fill(store: Store, numbers: range) -> None:
    with store.collection(PREFIX, row_bytes=ROW_BYTES) as collection:
        collection.append(keys_of(numbers), rows_of(numbers))


def check(store: Store, numbers: range) -> None:
    collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    found = collection.locate(keys_of(numbers))
    assert (found >= 0).all()
    np.testing.assert_array_equal(collection.read(found), rows_of(numbers))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(tmp_path / "store")
    fill(made, range(5))
    return made


def header(**changed: object) -> bytes:
    fields = {
        "version": 1,
        "fingerprint": PREFIX,
        "rows": 2,
        "row_bytes": ROW_BYTES,
        "crc32": 0,
    } | changed
    return with_checksum(json.dumps({k: v for k, v in fields.items() if v is not None}).encode())


def with_checksum(text: bytes) -> bytes:
    text = text.ljust(500)
    return b"topwork\n" + zlib.crc32(text).to_bytes(4, "little") + text


def sparse(path: Path) -> None:
    """A shard whose header and length agree on 1.1 TB, and that takes 4 kB of the disk."""
    rows = 2**28
    path.write_bytes(header(rows=rows, row_bytes=ROW_BYTES))
    os.truncate(path, 512 + rows * (16 + ROW_BYTES))


ODDITIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "it is a pipe and not a file"),
    "a folder": (Path.mkdir, "it is a folder and not a file"),
    "a loop": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it is a device and not a file"),
    "another version": (lambda path: path.write_bytes(header(version=2)), "of format version 2"),
    "another prefix": (lambda path: path.write_bytes(header(fingerprint="ff" * 8)), "another collection"),
    "other rows": (lambda path: path.write_bytes(header(row_bytes=9)), "another collection"),
    "a key fewer": (lambda path: path.write_bytes(header(crc32=None)), "not that of a shard"),
    "no object": (lambda path: path.write_bytes(with_checksum(b"[]")), "not that of a shard"),
    "nested": (lambda path: path.write_bytes(with_checksum(b"[" * 500)), "not that of a shard"),
    "a forged count": (lambda path: path.write_bytes(header(rows=2**40)), "what no shard can have"),
    "less than none": (lambda path: path.write_bytes(header(rows=-3)), "what no shard can have"),
    "a count of text": (lambda path: path.write_bytes(header(rows="2")), "what no shard can have"),
    "sparse": (sparse, "what no shard can have"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="makes pipes and links")
@pytest.mark.parametrize("kind", ODDITIES)
def test_odd_shards_are_passed_over_and_left(store: Store, kind: str) -> None:
    make, reason = ODDITIES[kind]
    path = store.directory / PREFIX / ODD
    make(path)
    with pytest.warns(UserWarning, match=reason) as said:
        check(store, range(5))
    assert [str(each.message).startswith(f"The store passes over {path}: it") for each in said] == [True]
    assert os.path.lexists(path)
    assert len(store.info().collections) == 1


def test_an_unreadable_shard_is_passed_over(store: Store) -> None:
    path = store.directory / PREFIX / ODD
    path.write_bytes(b"of somebody else")
    stat = Path.stat

    def refuse(self: Path, **options: bool) -> os.stat_result:
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(self, **options)

    with patch.object(Path, "stat", refuse), pytest.warns(UserWarning, match="read, Permission denied"):
        check(store, range(5))


def test_a_key_more_in_the_descriptions_is_no_damage(store: Store) -> None:
    for path in (store.directory / "topwork-store.json", store.directory / PREFIX / "collection.json"):
        record = json.loads(path.read_text())["record"]
        write_record(path, {**record, "new": 1})
    check(open_store(store.directory), range(5))
    assert len(store.info().collections) == 1


DAMAGES = {
    "a key fewer": {"fingerprint": PREFIX},
    "a length of text": {"fingerprint": PREFIX, "row_bytes": "24", "about": {}},
    "of another": {"fingerprint": "ff" * 8, "row_bytes": 24, "about": {}},
    "about nothing": {"fingerprint": PREFIX, "row_bytes": 24, "about": 3},
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_description_that_cannot_be_is_written_anew(store: Store, kind: str) -> None:
    write_record(store.directory / PREFIX / "collection.json", DAMAGES[kind])
    assert store.info().collections[0].rows == 5  # told by a shard
    with pytest.warns(UserWarning, match=r"description .* is damaged"):
        check(store, range(5))
    check(store, range(5))


@pytest.mark.parametrize("name", ["topwork-store.json", f"{PREFIX}/collection.json"])
def test_deeply_nested_json_is_damage(store: Store, name: str) -> None:
    (store.directory / name).write_text("[" * 200_000)
    with pytest.warns(UserWarning, match="is damaged"):
        check(open_store(store.directory), range(5))


@pytest.mark.skipif(sys.platform == "win32", reason="makes pipes")
@pytest.mark.parametrize("name", ["topwork-store.json", f"{PREFIX}/collection.json"])
def test_a_pipe_in_the_place_of_a_description(store: Store, name: str) -> None:
    path = store.directory / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match=r"The feature store .* cannot be .*it is a pipe and not a file"):
        check(open_store(store.directory), range(5))
    assert path.is_fifo()


def test_info_of_strange_words_and_times(store: Store) -> None:
    with store.collection("ff" * 8, row_bytes=1, about={"name": "\x1b[2J"}):
        pass
    found = store.info().collections
    assert "\x1b" not in str(store.info())
    assert "at no time that there is" in str(dataclasses.replace(found[0], last_used=1e30))


# Deleting


def test_prune_removes_nothing_that_is_not_its_own(store: Store) -> None:
    folder = store.directory
    mine = [
        folder / "20250603" / "photo.jpg",
        folder / "deadbeef" / f"{'1' * 32}.shard.damaged",
        folder / "notes.damaged",
        folder / ".draft.tmp",
        folder / PREFIX / "notes.damaged",
        folder / PREFIX / "mine.shard.damaged",
        folder / PREFIX / "sub" / "notes.txt",
    ]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        os.utime(path, (0, 0))
    os.utime(folder / "20250603", (0, 0))
    assert [each.fingerprint for each in store.info().collections] == [PREFIX]
    pruned = store.prune(older_than=0, larger_than=0)
    assert [each.fingerprint for each in pruned.collections] == [PREFIX]
    assert [path for path in mine if not path.exists()] == []
    assert not list((folder / PREFIX).glob("*.shard"))
    assert store.info().collections == ()


def test_a_file_of_mine_with_a_shards_ending_is_not_renamed(store: Store) -> None:
    path = store.directory / PREFIX / "mine.shard"
    path.write_text("mine")
    with pytest.warns(UserWarning, match=r"passes over .*mine.shard: it does not begin like a shard"):
        check(store, range(5))
    assert path.read_text() == "mine"


# Reading where nothing can be written


def nothing_can_be_written(code: int) -> object:
    return patch.object(files, "clock", side_effect=OSError(code, os.strerror(code), "probe"))


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_complete_store_is_read_where_nothing_can_be_written(store: Store, code: int) -> None:
    with nothing_can_be_written(code):  # type: ignore[attr-defined]
        again = open_store(store.directory)
        check(again, range(5))
        with pytest.raises(OSError, match=r"cannot be written: |takes no more files|No room"):
            again.collection(PREFIX, row_bytes=ROW_BYTES).check_space(1)
        with pytest.raises(OSError, match=r"cannot be written: |No room"):
            again.prune()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=12", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no permission to mount a small disk")
    yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_read_only_or_has_no_inodes_left(
    mounted: Callable[[str], Path], tmp_path: Path
) -> None:
    store = open_store(tmp_path / "disk")
    fill(store, range(5))
    with contextlib.suppress(OSError):
        for number in range(99):
            (store.directory / f".{number}").touch()
    again = open_store(store.directory)
    check(again, range(5))
    with pytest.raises(OSError, match=r"though [\d,]+ are free its file system takes no more files"):
        fill(again, range(5, 9))
    mounted("ro")
    check(open_store(store.directory), range(5))
    with pytest.raises(OSError, match="cannot be written: Read-only file system"):
        fill(again, range(5, 9))


def test_a_quota_is_not_told_as_enough_room(tmp_path: Path) -> None:
    failing = patch.object(os, "fsync", side_effect=OSError(errno.EDQUOT, "Disk quota exceeded"))
    with failing, pytest.raises(OSError, match=r"1 bytes are needed .* allows less, as with a quota"):
        files.write_durably(tmp_path / "x", [b"1"])


# The way back


def test_a_lost_version_file_is_written_anew(store: Store) -> None:
    (store.directory / "topwork-store.json").unlink()
    with pytest.warns(
        UserWarning, match=r"version file .* was lost, and 1 collections of features are there"
    ):
        check(open_store(store.directory), range(5))
    check(open_store(store.directory), range(5))


def test_another_record_in_the_place_of_the_version_file_is_damage(store: Store) -> None:
    described = store.directory / PREFIX / "collection.json"
    (store.directory / "topwork-store.json").write_bytes(described.read_bytes())
    with pytest.warns(UserWarning, match=r"version file .* is damaged: it does not say what was written"):
        check(open_store(store.directory), range(5))
    check(open_store(store.directory), range(5))


def test_a_lost_version_file_among_other_things_needs_a_word(store: Store) -> None:
    (store.directory / "topwork-store.json").unlink()
    (store.directory / "photo.jpg").touch()
    with pytest.raises(
        ValueError, match=r"holds 'photo.jpg'. Of these 1 are .*repair=True\) makes it one"
    ):
        open_store(store.directory)
    with pytest.warns(UserWarning, match="was lost"):
        check(tw.open_store(store.directory, repair=True), range(5))
    assert (store.directory / "photo.jpg").exists()


@pytest.mark.parametrize("folder", [None, 3, "", b"bytes"])
def test_what_is_no_path(folder: object) -> None:
    with pytest.raises(
        ValueError, match=r"^open_store: a feature store is the path of a folder. Received"
    ):
        open_store(folder)  # type: ignore[arg-type]
