"""Random sequences of what programs, users and disks do to a store, against a dict.

The rows follow from their keys. Whatever happened: a row that is found is right, what was written and
not touched is found, and nothing else is.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from topwork._store import collection as collection_module
from topwork._store.collection import Collection
from topwork._store.store import open_store

PREFIXES = ("c0ffee" * 6, "decade" * 6)
ROW_BYTES = 48
SHARD_ROWS = 8
MOST = 40  # numbers of rows that are drawn

NUMBERS = st.lists(st.integers(0, MOST - 1), min_size=1, max_size=12, unique=True)
WHICH = st.integers(0, 10**6)
PREFIX = st.sampled_from(PREFIXES)


def keys_of(numbers: list[int]) -> np.ndarray:
    keys = np.zeros((len(numbers), 2), np.uint64)
    keys[:, 0] = np.asarray(numbers, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    keys[:, 1] = numbers
    return keys.view(np.uint8)


def rows_of(prefix: str, numbers: list[int]) -> np.ndarray:
    """Another row for each number and each prefix, no two of which share many bytes."""
    seed = int(prefix[:6], 16)
    return np.stack(
        [np.random.default_rng([seed, n]).integers(0, 256, ROW_BYTES, np.uint8) for n in numbers]
    )


def numbers_in(path: Path) -> list[int]:
    """The numbers whose keys lie in a shard, read without the store."""
    data = path.read_bytes()
    rows = json.loads(data[12:512])["rows"]
    return np.frombuffer(data, np.uint64, 2 * rows, offset=512)[1::2].tolist()


def has_shards(machine: Sequences) -> bool:
    return any(machine.model.values())


class Sequences(RuleBasedStateMachine):
    """Two collections; `model` has, of each shard, the numbers that it holds."""

    @initialize()
    def begin(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name) / "store"
        self.model: dict[str, dict[str, set[int]]] = {prefix: {} for prefix in PREFIXES}
        self.pending: dict[str, list[int]] = {prefix: [] for prefix in PREFIXES}
        self.opened: dict[str, Collection] = {}
        self.is_hurt = False  # since it was opened
        self.open_again()

    def teardown(self) -> None:
        self.opened.clear()
        self._folder.cleanup()

    def shards(self, prefix: str) -> list[Path]:
        """In the order in which they were written; names are random."""
        return [self.path / prefix / name for name in self.model[prefix]]

    def note_new_shards(self, prefix: str, expected: list[int]) -> None:
        """The shards that are new hold what is expected, in some order."""
        there = {path.name: path for path in (self.path / prefix).glob("*.shard")}
        new = {name: numbers_in(there[name]) for name in there.keys() - self.model[prefix].keys()}
        assert sorted(itertools.chain(*new.values())) == sorted(expected)
        for name in sorted(new, key=lambda name: new[name]):
            self.model[prefix][name] = set(new[name])

    @rule(prefix=PREFIX, numbers=NUMBERS)
    def append(self, prefix: str, numbers: list[int]) -> None:
        self.opened[prefix].append(keys_of(numbers), rows_of(prefix, numbers))
        waiting = [*self.pending[prefix], *numbers]
        full = len(waiting) // SHARD_ROWS * SHARD_ROWS
        self.note_new_shards(prefix, waiting[:full])
        self.pending[prefix] = waiting[full:]

    @rule(prefix=PREFIX)
    def flush(self, prefix: str) -> None:
        self.opened[prefix].flush()
        self.note_new_shards(prefix, self.pending[prefix])
        self.pending[prefix] = []

    @rule()
    def kill(self) -> None:
        """The process ends without a flush, and leaves a file that it was writing."""
        for prefix in PREFIXES:
            (self.path / prefix / f".{'ab' * 16}.tmp").write_bytes(b"half a shard")
        self.open_again()

    @rule()
    def open_again(self) -> None:
        """A new process: what waited is lost, what is damaged is said and set aside."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            store = open_store(self.path)
            self.opened = {prefix: store.collection(prefix, row_bytes=ROW_BYTES) for prefix in PREFIXES}
        assert self.is_hurt or not said
        assert all("damaged" in str(each.message) or "lost" in str(each.message) for each in said)
        for prefix in PREFIXES:
            self.pending[prefix] = []
            there = {path.name for path in (self.path / prefix).glob("*.shard")}
            assert there == set(self.model[prefix])
        self.is_hurt = False

    def taken(self, which: int) -> Path:
        """A shard, which from now on is not there any more."""
        paths = [path for prefix in PREFIXES for path in self.shards(prefix)]
        path = paths[which % len(paths)]
        del self.model[path.parent.name][path.name]
        self.is_hurt = True
        return path

    @precondition(has_shards)
    @rule(which=WHICH, place=WHICH, bit=st.integers(0, 7))
    def flip_a_bit(self, which: int, place: int, bit: int) -> None:
        path = self.taken(which)
        content = bytearray(path.read_bytes())
        content[place % len(content)] ^= 1 << bit
        path.write_bytes(content)
        self.open_again()

    @precondition(has_shards)
    @rule(which=WHICH, place=WHICH)
    def truncate(self, which: int, place: int) -> None:
        path = self.taken(which)
        content = path.read_bytes()
        path.write_bytes(content[: place % len(content)])
        self.open_again()

    @rule(prefix=PREFIX, name=st.sampled_from(["collection.json", "../topwork-store.json"]))
    def lose_a_description(self, prefix: str, name: str) -> None:
        (self.path / prefix / name).unlink()
        self.is_hurt = True
        self.open_again()

    @precondition(has_shards)
    @rule(which=WHICH)
    def remove_a_shard(self, which: int) -> None:
        self.taken(which).unlink()
        self.open_again()

    @rule(everything=st.booleans())
    def prune(self, everything: bool) -> None:
        """Rubbish goes, and with a limit of nothing the collections."""
        mine = self.path / PREFIXES[0] / "notes.damaged"
        mine.write_text("mine")
        open_store(self.path).prune(larger_than=0 if everything else None)
        assert mine.read_text() == "mine"
        assert not list(self.path.glob("*/*.shard.damaged"))
        if everything:
            self.model = {prefix: {} for prefix in PREFIXES}
            assert not list(self.path.glob("*/*.shard"))
        self.open_again()

    @rule(prefix=PREFIX, numbers=NUMBERS)
    def another_process_writes(self, prefix: str, numbers: list[int]) -> None:
        with open_store(self.path).collection(prefix, row_bytes=ROW_BYTES) as other:
            other.append(keys_of(numbers), rows_of(prefix, numbers))
        self.note_new_shards(prefix, numbers)
        self.opened[prefix].refresh()

    @invariant()
    def what_is_found_is_right_and_all_of_it(self) -> None:
        for prefix, collection in self.opened.items():
            locations = collection.locate(keys_of(list(range(MOST))))
            found = np.flatnonzero(locations >= 0).tolist()
            assert set(found) == set().union(*self.model[prefix].values())
            if found:
                rows = collection.read(locations[locations >= 0])
                np.testing.assert_array_equal(rows, rows_of(prefix, found))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection_module, "SHARD_ROWS", SHARD_ROWS)


def run(examples: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Sequences,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.thorough
@pytest.mark.usefixtures("small_shards")
def test_no_sequence_gives_a_wrong_row() -> None:
    run(examples=30)


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_no_sequence_of_many_gives_a_wrong_row() -> None:
    run(examples=1000)
