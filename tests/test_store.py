"""The feature store: what is appended comes back, and every way it can go wrong is said."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork._store import collection as collection_module
from topwork._store import records as records_module
from topwork._store import shards as shards_module
from topwork._store.index import KeyIndex
from topwork._store.store import CollectionInfo, Store, open_store

PREFIX = "0123456789abcdef"
ROW_BYTES = 24
DAY = 86400


def keys_of(numbers):
    """16-byte keys that differ in one place only; many end in zeros or in spaces."""
    keys = np.zeros((len(numbers), 16), np.uint8)
    for key, number in zip(keys, numbers, strict=True):
        key[number % 16] = number // 16 + 1
    return keys


def rows_of(numbers, row_bytes=ROW_BYTES):
    steps = np.arange(1, row_bytes + 1)
    return (np.asarray(numbers)[:, None] * steps % 251).astype(np.uint8).reshape(-1, row_bytes)


@pytest.fixture
def store(tmp_path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(collection_module, "SHARD_ROWS", 4)


def filled(store, numbers, fingerprint=PREFIX):
    with store.collection(fingerprint, row_bytes=ROW_BYTES) as collection:
        collection.append(keys_of(numbers), rows_of(numbers))
    return collection


def shards(store, fingerprint=PREFIX) -> list[Path]:
    return sorted((store.directory / fingerprint).glob("*.shard"))


def temporaries(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.tmp"))


def append_and_raise(collection, error):
    with collection:
        collection.append(keys_of([1]), rows_of([1]))
        raise error


@contextlib.contextmanager
def failing(function, code, on=os):
    error = OSError(code, os.strerror(code))
    with patch.object(on, function, side_effect=error):
        yield


# Rows


def test_rows_come_back_in_any_order(store):
    collection = filled(store, range(100))
    numbers = np.random.default_rng(0).permutation(100)
    again = store.collection(PREFIX, row_bytes=ROW_BYTES)
    for each in (collection, again):
        rows = each.read(each.locate(keys_of(numbers)))
        np.testing.assert_array_equal(rows, rows_of(numbers))


def test_a_missing_key_is_located_at_minus_one(store):
    collection = filled(store, [1, 2])
    np.testing.assert_array_equal(collection.locate(keys_of([3, 1, 4])) >= 0, [False, True, False])


def test_an_empty_collection_and_empty_arrays(store):
    collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    collection.append(keys_of([]), rows_of([]))
    collection.flush()
    assert collection.locate(keys_of([])).shape == (0,)
    assert collection.locate(keys_of([1])).tolist() == [-1]
    assert collection.read(np.zeros(0, np.int64)).shape == (0, ROW_BYTES)
    assert shards(store) == []


def test_rows_become_visible_with_their_shard(store, small_shards):
    collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    collection.append(keys_of(range(6)), rows_of(range(6)))
    assert (collection.locate(keys_of(range(6))) >= 0).tolist() == [True] * 4 + [False] * 2
    collection.flush()
    assert (collection.locate(keys_of(range(6))) >= 0).all()
    assert len(shards(store)) == 2


def test_a_shard_closes_before_it_has_too_many_bytes(store, monkeypatch):
    monkeypatch.setattr(collection_module, "SHARD_BYTES", 3 * ROW_BYTES + 1)
    filled(store, range(7))
    assert len(shards(store)) == 3


def test_a_row_larger_than_a_shard_should_be(store, monkeypatch):
    monkeypatch.setattr(collection_module, "SHARD_BYTES", ROW_BYTES - 1)
    collection = filled(store, range(2))
    np.testing.assert_array_equal(collection.read(collection.locate(keys_of([1, 0]))), rows_of([1, 0]))


def test_append_copies_so_the_caller_may_reuse_arrays(store):
    keys, rows = keys_of([1]), rows_of([1])
    with store.collection(PREFIX, row_bytes=ROW_BYTES) as collection:
        collection.append(keys, rows)
        keys[:], rows[:] = 0, 0
    np.testing.assert_array_equal(collection.read(collection.locate(keys_of([1]))), rows_of([1]))


def test_refresh_finds_what_others_completed(store):
    early = store.collection(PREFIX, row_bytes=ROW_BYTES)
    filled(store, [5])
    assert early.locate(keys_of([5])).tolist() == [-1]
    early.refresh()
    np.testing.assert_array_equal(early.read(early.locate(keys_of([5]))), rows_of([5]))


def test_locations_hold_while_shards_are_added(store, small_shards):
    collection = filled(store, range(10))
    before = collection.locate(keys_of(range(10)))
    filled(store, range(20, 40))
    collection.refresh()
    np.testing.assert_array_equal(collection.read(before), rows_of(range(10)))


def test_an_exception_keeps_what_was_computed(store):
    collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    with pytest.raises(KeyboardInterrupt):
        append_and_raise(collection, KeyboardInterrupt)
    again = store.collection(PREFIX, row_bytes=ROW_BYTES)
    assert again.locate(keys_of([1])).tolist() == [0]


def test_collections_do_not_mix(store):
    filled(store, [1])
    other = filled(store, [2], "fedcba9876543210")
    assert (other.locate(keys_of([1, 2])) >= 0).tolist() == [False, True]


def test_a_store_can_be_sent_to_another_process(store):
    assert pickle.loads(pickle.dumps(store)) == store


steps = st.one_of(
    st.lists(st.integers(0, 60), max_size=12),
    st.sampled_from(["flush", "refresh", "open again", "another writer"]),
)


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(steps, max_size=12), shard_rows=st.integers(1, 9))
def test_the_store_agrees_with_a_dictionary(steps, shard_rows):
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(collection_module, "SHARD_ROWS", shard_rows),
        patch.object(os, "fsync"),
    ):
        store, expected = open_store(folder), set()
        collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
        for step in steps:
            if step == "flush":
                collection.flush()
            elif step == "refresh":
                collection.refresh()
            elif step == "open again":
                collection.flush()
                collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
            elif step == "another writer":
                filled(store, range(50, 70))
                expected |= set(range(50, 70))
            else:
                collection.append(keys_of(step), rows_of(step))
                expected |= set(step)
        collection.flush()
        collection.refresh()
        numbers = np.arange(80)
        locations = collection.locate(keys_of(numbers))
        assert set(numbers[locations >= 0].tolist()) == expected
        stored = numbers[locations >= 0]
        np.testing.assert_array_equal(collection.read(locations[locations >= 0]), rows_of(stored))


# Keys


raw_keys = st.lists(st.sampled_from([0, 1, 32, 255]), min_size=16, max_size=16).map(bytes)


@given(chunks=st.lists(st.lists(raw_keys, max_size=20), max_size=8), absent=st.lists(raw_keys))
def test_the_index_agrees_with_a_dictionary(chunks, absent):
    index, expected, first = KeyIndex(), {}, 0
    for chunk in chunks:
        index.add(as_array(chunk), first)
        for place, key in enumerate(chunk):
            expected.setdefault(key, set()).add(first + place)
        first += len(chunk)
    wanted = [*expected, *absent]
    for key, location in zip(wanted, index.find(as_array(wanted)), strict=True):
        assert int(location) in expected.get(key, {-1})


def as_array(keys):
    return np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), 16)


def test_a_million_keys_stay_in_few_runs_and_little_memory():
    index = KeyIndex()
    keys = np.random.default_rng(0).integers(0, 256, (1_000_000, 16), dtype=np.uint8)
    index.add(keys[:900_000], 0)
    for first in range(900_000, 1_000_000, 500):
        index.add(keys[first : first + 500], first)
    assert len(index._runs) < 14
    assert sum(run.nbytes + places.nbytes for run, places in index._runs) == 24_000_000
    np.testing.assert_array_equal(index.find(keys[::999]), np.arange(0, 1_000_000, 999))


# Reading


@pytest.mark.parametrize("system", ["unix", "windows"])
def test_threads_read_more_files_than_stay_open(store, small_shards, monkeypatch, system):
    monkeypatch.setattr(collection_module, "OPEN_FILES", 3)
    if system == "windows":
        monkeypatch.delattr(os, "preadv")
    collection = filled(store, range(200))

    def read(seed):
        numbers = np.random.default_rng(seed).integers(0, 200, 300)
        return (collection.read(collection.locate(keys_of(numbers))) == rows_of(numbers)).all()

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(read, range(12)))


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system does not list open files")
def test_few_files_stay_open(store, monkeypatch):
    monkeypatch.setattr(collection_module, "SHARD_ROWS", 1)
    before = open_files()
    collection = filled(store, range(200))
    collection.read(collection.locate(keys_of(range(200))))
    assert open_files() <= before + collection_module.OPEN_FILES
    del collection
    assert open_files() == before


def test_a_read_that_comes_in_pieces(store, monkeypatch):
    collection = filled(store, range(9))
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: whole(fd, [views[0][:7]], at))
    np.testing.assert_array_equal(
        collection.read(collection.locate(keys_of(range(9)))), rows_of(range(9))
    )


def test_a_shard_that_is_removed_after_it_was_found(store):
    filled(store, [1])
    collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    shards(store)[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"shard .* was removed after .* Run again"):
        collection.read(collection.locate(keys_of([1])))


def test_a_shard_that_is_cut_short_after_it_was_found(store):
    collection = filled(store, [1])
    os.truncate(shards(store)[0], 600 - 50)
    with pytest.raises(OSError, match=r"shard .* was cut short after .* Run again"):
        collection.read(collection.locate(keys_of([1])))


def test_a_shard_that_the_disk_stops_reading(store):
    collection = filled(store, [1])
    with failing("preadv", errno.EIO), pytest.raises(OSError, match="became unreadable after"):
        collection.read(collection.locate(keys_of([1])))


def test_another_failure_of_reading_is_passed_on(store):
    collection = filled(store, [1])
    with failing("preadv", errno.EINVAL), pytest.raises(OSError, match="Invalid argument"):
        collection.read(collection.locate(keys_of([1])))


# Arguments


def test_arrays_that_are_not_what_they_should_be(store):
    collection = filled(store, [1, 2])
    one_key, one_row = keys_of([1]), rows_of([1])
    with pytest.raises(ValueError, match=r"keys must be a uint8 array of shape \(n, 16\)\. Rec.*64"):
        collection.locate(one_key.astype("int64"))
    with pytest.raises(ValueError, match=r"keys must be .*Received: uint8 of shape \(16,\)\. View"):
        collection.append(one_key[0], one_row)
    with pytest.raises(ValueError, match=r"rows must be .* \(n, 24\). Received: uint8 .* \(1, 23\)"):
        collection.append(one_key, one_row[:, 1:])
    with pytest.raises(ValueError, match=r"needs a key. Received: 2 keys and 1 rows. Pass as many"):
        collection.append(keys_of([1, 2]), one_row)


def test_locations_that_are_not_what_they_should_be(store):
    collection = filled(store, [1, 2])
    with pytest.raises(ValueError, match=r"one-dimensional int64 array. Received: float64 .*\(1,\)"):
        collection.read(np.zeros(1))
    with pytest.raises(ValueError, match=r"from 0 to 1. Received: -1 to 0. -1 is the mark"):
        collection.read(np.array([0, -1]))
    with pytest.raises(ValueError, match=r"from 0 to 1. Received: 2 to 2"):
        collection.read(np.array([2]))


@pytest.mark.parametrize("fingerprint", ["", "../../etc", "ABCDEF0123", "0" * 129, "abc"])
def test_a_fingerprint_that_is_none(store, fingerprint):
    expected = f"8 to 128 lower case hexadecimal digits. Received: {fingerprint!r}. Pass a hexdigest"
    with pytest.raises(ValueError, match=re.escape(expected)):
        store.collection(fingerprint, row_bytes=1)


def test_a_row_without_bytes(store):
    with pytest.raises(ValueError, match=r"at least 1 byte. Received: row_bytes=0. Pass the bytes"):
        store.collection(PREFIX, row_bytes=0)


def test_rows_of_another_length(store):
    filled(store, [1])
    with pytest.raises(ValueError, match=r"holds rows of 24 bytes. Received: row_bytes=8\. .*own"):
        store.collection(PREFIX, row_bytes=8)


# Opening


def test_a_store_is_created_with_its_parents_and_opened_again(tmp_path):
    store = open_store(tmp_path / "a" / "b")
    filled(store, [1])
    assert open_store(str(tmp_path / "a" / "b")) == store
    assert temporaries(tmp_path) == []


def test_an_empty_file_system_is_an_empty_folder(tmp_path):
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".DS_Store").touch()
    open_store(tmp_path)


def test_a_url_is_not_a_folder():
    with pytest.raises(ValueError, match=r"Received: the URL gs://bucket/x. Mount what it points to"):
        open_store("gs://bucket/x")


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"is a folder, and .*file is a file. Pass anoth"):
        open_store(tmp_path / "file")
    with pytest.raises(NotADirectoryError, match=r"file/b cannot be created: Not a directory. Pass"):
        open_store(tmp_path / "file" / "b")


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    for name in ("cats", "dogs", "notes.txt", "zebras"):
        (tmp_path / name).mkdir()
    expected = r"is not a feature store: it has no topwork-store.json, and holds 'cats', 'dogs', "
    with pytest.raises(ValueError, match=expected + r"'notes.txt', \.\.\.\. Pass an empty or a new"):
        open_store(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_folder_that_cannot_be_written(tmp_path):
    expected = r"store .* cannot be written: Permission denied. Pass a folder that you may write to"
    with failing("touch", errno.EACCES, on=Path), pytest.raises(PermissionError, match=expected):
        open_store(tmp_path)


def test_a_folder_that_cannot_be_read(tmp_path):
    expected = r"store .* cannot be read: Permission denied. Pass a folder"
    with failing("scandir", errno.EACCES), pytest.raises(PermissionError, match=expected):
        open_store(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do anything")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written: Permission denied"):
        open_store(tmp_path)


def test_a_store_of_another_version(store):
    record = {"format": "topwork feature store", "version": 7}
    records_module.write_record(store.directory / "topwork-store.json", record)
    expected = "is a store of version 7, and this topwork reads and writes version 1. Pass another"
    with pytest.raises(ValueError, match=expected):
        open_store(store.directory)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"crc32": 0, "record": {}}'])
def test_a_damaged_version_file_is_written_anew(store, damage):
    filled(store, [1])
    file = store.directory / "topwork-store.json"
    intact = file.read_bytes()
    file.write_bytes(damage)
    with pytest.warns(UserWarning, match=r"version file .* is damaged.* written anew for version 1"):
        open_store(store.directory)
    assert file.read_bytes() == intact


def test_a_damaged_description_is_written_anew(store):
    filled(store, [1])
    file = store.directory / PREFIX / "collection.json"
    file.write_bytes(file.read_bytes().replace(b"24", b"25"))
    with pytest.warns(UserWarning, match=r"description .* is damaged.* anew where .*no rows are lost"):
        collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    assert collection.locate(keys_of([1])).tolist() == [0]
    store.collection(PREFIX, row_bytes=ROW_BYTES)


def test_a_description_that_was_removed_is_written_anew(store):
    filled(store, [1])
    (store.directory / PREFIX / "collection.json").unlink()
    store.collection(PREFIX, row_bytes=ROW_BYTES)
    assert store.info().collections[0].rows == 1


def test_a_file_in_the_place_of_a_collection(store):
    (store.directory / PREFIX).touch()
    with pytest.raises(OSError, match=PREFIX):
        store.collection(PREFIX, row_bytes=ROW_BYTES)


def test_many_create_the_same_store_and_collection_at_once(tmp_path):
    at_once = threading.Barrier(4)

    def create(folder, number):
        at_once.wait()
        return filled(open_store(folder), [number])

    with ThreadPoolExecutor(4) as threads:
        for attempt in range(15):
            folder = tmp_path / str(attempt)
            made = [threads.submit(create, folder, number) for number in range(4)]
            assert [each.result() is not None for each in made] == [True] * 4
            collection = open_store(folder).collection(PREFIX, row_bytes=ROW_BYTES)
            assert (collection.locate(keys_of(range(4))) >= 0).all()
    assert temporaries(tmp_path) == []


# Damage


def damaged_by(change):
    """Each way to damage the bytes of a shard, and the reason that is given."""
    return [
        ("emptied", lambda data: b"", "does not begin like a shard"),
        ("another kind of file", lambda data: b"GIF89a" + data[6:], "does not begin like a shard"),
        ("a torn header", lambda data: data[:300], "header does not match its checksum"),
        ("a bit of the header", lambda data: flip(data, 100), "header does not match its checksum"),
        ("a bit of a key", lambda data: flip(data, 520), "content does not match its checksum"),
        ("a bit of a row", lambda data: flip(data, -1), "content does not match its checksum"),
        ("cut short", lambda data: data[:-1], "has 591 bytes instead of 592"),
        ("longer", lambda data: data + b"x", "has 593 bytes instead of 592"),
    ][change]


def flip(data, place):
    changed = bytearray(data)
    changed[place] ^= 0x10
    return bytes(changed)


def data_of(**changed):
    fields = {"version": 1, "fingerprint": PREFIX, "rows": 2, "row_bytes": 24, "crc32": 0} | changed
    text = json.dumps(fields).encode().ljust(500)
    return b"topwork\n" + zlib.crc32(text).to_bytes(4, "little") + text


@pytest.mark.parametrize("change", range(8), ids=lambda change: damaged_by(change)[0])
def test_a_damaged_shard_is_set_aside_and_said_once(store, change):
    _, damage, reason = damaged_by(change)
    filled(store, [1, 2])
    filled(store, [3])
    path = next(path for path in shards(store) if path.stat().st_size == 592)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=reason) as said:
        collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    assert len(said) == 1
    message = str(said[0].message)
    assert message.startswith(f"The shard {path} is damaged: it")
    assert message.endswith(
        f"Its rows are computed again; it was renamed to {path.name}.damaged, which prune() removes."
    )
    assert (collection.locate(keys_of([1, 2, 3])) >= 0).tolist() == [False, False, True]
    collection.refresh()
    store.collection(PREFIX, row_bytes=ROW_BYTES)


def test_a_shard_that_shrinks_while_it_is_verified(store):
    filled(store, range(40))
    path = shards(store)[0]
    size = path.stat()
    path.write_bytes(path.read_bytes()[:600])
    with patch.object(os, "fstat", return_value=size), pytest.warns(UserWarning, match="content"):
        store.collection(PREFIX, row_bytes=ROW_BYTES)


def test_a_shard_on_a_bad_sector(store):
    filled(store, [1])
    disk = failing("open_regular", errno.EIO, on=shards_module)
    with disk, pytest.warns(UserWarning, match="the disk cannot read it"):
        store.collection(PREFIX, row_bytes=ROW_BYTES)


def test_a_failure_that_is_no_damage_sets_nothing_aside(store):
    filled(store, [1])
    process = failing("open_regular", errno.EMFILE, on=shards_module)
    with process, pytest.raises(OSError, match="Too many open files"):
        store.collection(PREFIX, row_bytes=ROW_BYTES)
    assert len(shards(store)) == 1


def test_a_damaged_shard_that_cannot_be_renamed_is_ignored(store):
    filled(store, [1])
    os.truncate(shards(store)[0], 5)
    expected = r"computed again; it could not be renamed \(Permission denied\) and is ignored\.$"
    with failing("replace", errno.EACCES, on=Path), pytest.warns(UserWarning, match=expected):
        collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    assert collection.locate(keys_of([1])).tolist() == [-1]
    collection.refresh()


def test_a_damaged_shard_that_another_process_sets_aside(store):
    filled(store, [1])
    os.truncate(shards(store)[0], 5)
    expected = r"computed again; another process has set it aside\.$"
    with failing("replace", errno.ENOENT, on=Path), pytest.warns(UserWarning, match=expected):
        store.collection(PREFIX, row_bytes=ROW_BYTES)


def test_a_shard_that_disappears_before_it_is_opened(store, monkeypatch):
    filled(store, [1])
    early = store.collection("ff" * 8, row_bytes=ROW_BYTES)
    ghost = early._directory / "gone.shard"
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([ghost]))
    early.refresh()
    assert early.locate(keys_of([1])).tolist() == [-1]


def test_intact_shards_stay_if_the_warning_is_an_error(store):
    filled(store, [1])
    collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    filled(store, [2, 3])
    filled(store, [4])
    os.truncate(next(path for path in shards(store) if path.stat().st_size == 592), 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="is damaged"):
            collection.refresh()
    collection.refresh()
    assert (collection.locate(keys_of([1, 2, 3, 4])) >= 0).tolist() == [True, False, False, True]


# A disk that is full


def test_the_space_is_checked_before_anything_is_computed(store):
    store.check_space(1)
    expected = r"No room for features: 1,000,000,000,000,000,000 bytes are needed in .*, [\d,]+ are"
    with pytest.raises(OSError, match=expected) as raised:
        store.check_space(10**18)
    assert raised.value.errno == errno.ENOSPC
    assert "Free some space, prune the store, or choose a folder" in str(raised.value)


@pytest.mark.parametrize("code", [errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)])
def test_a_full_disk_keeps_what_is_complete_and_what_is_pending(store, small_shards, code):
    collection = filled(store, range(4))
    expected = rf"No room for features: {512 + 4 * (16 + 24)} bytes are needed in .*{PREFIX}, "
    with failing("fsync", code), pytest.raises(OSError, match=expected) as raised:
        collection.append(keys_of(range(4, 8)), rows_of(range(4, 8)))
    assert raised.value.errno == errno.ENOSPC
    assert temporaries(store.directory) == []
    collection.append(keys_of([8]), rows_of([8]))
    collection.flush()
    np.testing.assert_array_equal(
        collection.read(collection.locate(keys_of(range(9)))), rows_of(range(9))
    )


def test_a_full_disk_is_said_once(store, small_shards):
    collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    with failing("fsync", errno.ENOSPC), pytest.raises(OSError, match="No room") as raised, collection:
        collection.append(keys_of(range(4)), rows_of(range(4)))
    assert raised.value.errno == errno.ENOSPC


def test_another_failure_of_writing_is_passed_on(store, small_shards):
    collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    with failing("fsync", errno.EROFS), pytest.raises(OSError, match="Read-only"):
        collection.append(keys_of(range(4)), rows_of(range(4)))
    assert temporaries(store.directory) == []


def test_an_exception_is_not_hidden_by_a_full_disk(store):
    expected = "The last features could not be kept: .*No room for features"
    collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    with (
        failing("fsync", errno.ENOSPC),
        pytest.warns(UserWarning, match=expected),
        pytest.raises(ZeroDivisionError),
    ):
        append_and_raise(collection, ZeroDivisionError)


def test_a_full_disk_at_the_end_is_an_error(store):
    collection = store.collection(PREFIX, row_bytes=ROW_BYTES)
    collection.append(keys_of([1]), rows_of([1]))
    with failing("fsync", errno.ENOSPC), pytest.raises(OSError, match="No room"), collection:
        pass


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no permission to mount a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_disk_that_is_really_full(small_disk, small_shards):
    row_bytes, numbers = 20_000, range(10)
    store = open_store(small_disk)
    (small_disk / ".something_else").write_bytes(bytes(900_000))
    collection = store.collection(PREFIX, row_bytes=row_bytes)
    with pytest.raises(OSError, match=r"80,576 bytes are needed in .*, [\d,]+ are free"):
        collection.append(keys_of(numbers), rows_of(numbers, row_bytes))
    with pytest.raises(OSError, match="1,000,000 bytes are needed"):
        store.check_space(1_000_000)
    assert (collection.locate(keys_of(numbers)) >= 0).sum() == 4
    assert temporaries(small_disk) == []

    (small_disk / ".something_else").unlink()
    with collection:
        collection.append(keys_of([8, 9]), rows_of([8, 9], row_bytes))
    again = store.collection(PREFIX, row_bytes=row_bytes)
    np.testing.assert_array_equal(again.read(again.locate(keys_of(numbers))), rows_of(numbers, row_bytes))


def test_a_folder_that_cannot_be_synced_is_no_error(store, monkeypatch):
    whole = os.open

    def refuse_folders(path, flags, *rest):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied")
        return whole(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse_folders)
    filled(store, [1])


# Housekeeping


def use(store, fingerprint, days_ago):
    used = store.directory / fingerprint / "used"
    now = used.stat().st_mtime
    os.utime(used, (now - days_ago * DAY,) * 2)


@pytest.fixture
def three(store):
    for number, days_ago in enumerate((30, 20, 10)):
        fingerprint = f"{number}" * 8
        filled(store, range(100), fingerprint)
        use(store, fingerprint, days_ago)
    return store


def names(collections: tuple[CollectionInfo, ...]) -> list[str]:
    return [each.fingerprint[0] for each in collections]


def test_info_says_what_is_there(store, small_shards):
    about = {"model": "inception_v3", "cut": "mixed7"}
    with store.collection(PREFIX, row_bytes=ROW_BYTES, about=about) as collection:
        collection.append(keys_of(range(10)), rows_of(range(10)))
    (found,) = store.info().collections
    assert (found.fingerprint, found.rows, found.row_bytes) == (PREFIX, 10, ROW_BYTES)
    assert found.about == about
    content = 3 * 512 + 10 * (16 + ROW_BYTES)
    assert content < found.bytes < content + 300
    assert store.info().bytes == found.bytes


def test_info_prints(three):
    text = str(three.info())
    assert re.match(r".*store: 3 collections, 13\.\d+ kB\n", text)
    line = r"  22222222  100 rows of 24 bytes, 4\.\d+ kB, last used \d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(line, text.splitlines()[1])


def test_info_of_a_collection_whose_description_is_damaged(store):
    filled(store, [1])
    (store.directory / PREFIX / "collection.json").write_text("")
    (store.directory / PREFIX / "used").unlink()
    (found,) = store.info().collections
    assert (found.rows, found.about) == (1, {"damaged": "collection.json"})
    assert "damaged=collection.json" in str(store.info())


def test_what_is_used_is_recorded(three):
    before = three.info().collections
    assert names(before) == ["2", "1", "0"]
    three.collection("0" * 8, row_bytes=ROW_BYTES)
    assert names(three.info().collections) == ["0", "2", "1"]


def test_prune_drops_what_is_old(three):
    before = three.info()
    pruned = three.prune(older_than=15)
    assert names(pruned.collections) == ["1", "0"]
    assert pruned.leftovers == 0
    assert pruned.bytes == sum(each.bytes for each in before.collections[1:])
    assert names(three.info().collections) == ["2"]


def test_prune_drops_the_least_recently_used_beyond_a_size(three):
    size = three.info().collections[0].bytes
    assert names(three.prune(larger_than=2 * size).collections) == ["0"]
    assert names(three.prune(larger_than=2 * size).collections) == []
    assert names(three.prune(larger_than=0).collections) == ["2", "1"]
    assert three.info().collections == ()


def test_prune_takes_both_limits(three):
    size = three.info().collections[0].bytes
    assert names(three.prune(older_than=25, larger_than=size).collections) == ["1", "0"]


@pytest.mark.parametrize("name", ["older_than", "larger_than"])
def test_a_negative_limit(store, name):
    with pytest.raises(ValueError, match=f"{name} must not be negative. Received: -1. 0 drops"):
        store.prune(**{name: -1})


OLD, NEW, FOLDER = (f".{letter * 32}.tmp" for letter in "abc")


def leave_temporaries(store):
    for folder in (store.directory, store.directory / PREFIX):
        for name, age in ((OLD, 2 * 3600), (NEW, 60)):
            (folder / name).write_bytes(b"12345")
            now = (folder / name).stat().st_mtime
            os.utime(folder / name, (now - age,) * 2)


def test_prune_removes_what_killed_processes_left_and_what_is_damaged(store):
    filled(store, [1])
    leave_temporaries(store)
    (store.directory / FOLDER).mkdir()
    (store.directory / FOLDER / f"{'1' * 32}.shard").write_bytes(b"123")
    os.utime(store.directory / FOLDER, (0, 0))
    (store.directory / PREFIX / f"{'1' * 32}.shard.damaged").write_bytes(b"1234567")
    pruned = store.prune()
    assert (pruned.collections, pruned.leftovers, pruned.bytes) == ((), 4, 5 + 5 + 3 + 7)
    assert len(temporaries(store.directory)) == 2
    assert store.collection(PREFIX, row_bytes=ROW_BYTES).locate(keys_of([1])).tolist() == [0]


def test_opening_a_collection_removes_what_killed_writers_left(store):
    filled(store, [1])
    leave_temporaries(store)
    store.collection(PREFIX, row_bytes=ROW_BYTES)
    assert [path.name for path in temporaries(store.directory / PREFIX)] == [NEW]


def test_a_writer_goes_on_when_its_collection_is_pruned(store):
    collection = filled(store, [1])
    store.prune(larger_than=0)
    collection.append(keys_of([2]), rows_of([2]))
    collection.flush()
    again = store.collection(PREFIX, row_bytes=ROW_BYTES)
    assert (again.locate(keys_of([1, 2])) >= 0).tolist() == [False, True]


def test_two_may_prune_at_once(three, monkeypatch):
    seen = three.info()
    three.prune(larger_than=0)
    monkeypatch.setattr(Store, "info", lambda self: seen)
    assert three.prune(larger_than=0).bytes == 0


def test_info_while_another_process_prunes(three, monkeypatch):
    gone = three.directory / "4444444444"
    monkeypatch.setattr(Store, "_folders", lambda self: iter([gone, three.directory / "00000000"]))
    assert names(three.info().collections) == ["0"]


# Import


def test_the_store_imports_neither_keras_nor_tensorflow():
    code = (
        "import sys, topwork._store.store; "
        "print(sorted({'tensorflow', 'keras', 'concurrent.futures'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_format_is_what_the_documentation_says(store):
    filled(store, [1, 2])
    data = shards(store)[0].read_bytes()
    fields = json.loads(data[12:512])
    assert data[:8] == b"topwork\n"
    assert int.from_bytes(data[8:12], "little") == zlib.crc32(data[12:512])
    assert fields["crc32"] == zlib.crc32(data[512:])
    rows = np.frombuffer(data, np.uint8, offset=512 + 16 * fields["rows"])
    np.testing.assert_array_equal(rows.reshape(2, -1), rows_of([1, 2]))
    assert shards_module.rows_in(len(data), fields["row_bytes"]) == 2
