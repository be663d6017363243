"""The feature store under what kills programs: SIGKILL, flipped bits, cut files, many at once.

The rows follow from their keys, so every row that is ever read can be checked. Run as a script, this
file is the writer that the tests kill.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from topwork._store import collection as collection_module
from topwork._store.shards import rows_in
from topwork._store.store import open_store

pytestmark = pytest.mark.thorough

PREFIX = "c0ffee" * 6
ROW_BYTES = 4096
SHARD_ROWS = 64
BATCH = 48
COUNT = 4_000


def keys_of(numbers):
    keys = np.zeros((len(numbers), 2), np.uint64)
    keys[:, 0] = np.asarray(numbers, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    keys[:, 1] = numbers
    return keys.view(np.uint8)


def rows_of(keys):
    """What a prefix would compute: another row for each key, the same in every process."""
    places = np.arange(ROW_BYTES)
    return keys[:, places % 16] * (2 * places + 1).astype(np.uint8) + (places >> 4).astype(np.uint8)


def write(folder: Path, start: int, stop: int, seed: int) -> None:
    """Compute what is missing of a range, in an order of its own; log what was computed."""
    collection_module.SHARD_ROWS = SHARD_ROWS
    numbers = np.random.default_rng(seed).permutation(np.arange(start, stop))
    with (
        (folder / f"{seed}.log").open("ab", buffering=0) as log,
        open_store(folder / "store").collection(PREFIX, row_bytes=ROW_BYTES) as collection,
    ):
        print("ready", flush=True)
        for first in range(0, len(numbers), BATCH):
            batch = numbers[first : first + BATCH]
            missing = batch[collection.locate(keys_of(batch)) < 0]
            log.write(missing.astype(np.int64).tobytes())
            collection.append(keys_of(missing), rows_of(keys_of(missing)))
            collection.refresh()


def start_writer(folder: Path, seed: int, start: int = 0, stop: int = COUNT):
    command = [sys.executable, __file__, str(folder), str(start), str(stop), str(seed)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    return writer


def kill(writer) -> bool:
    """Kill with SIGKILL; return whether that came before the writer's end."""
    writer.send_signal(signal.SIGKILL)
    writer.stdout.close()
    return writer.wait() == -signal.SIGKILL


def finish(writer) -> None:
    writer.stdout.close()
    assert writer.wait(timeout=120) == 0


def computed(folder: Path, seed: int) -> list[int]:
    log = folder / f"{seed}.log"
    return np.frombuffer(log.read_bytes(), np.int64).tolist() if log.exists() else []


def complete(folder: Path) -> set[int]:
    """The numbers whose rows are stored, each of which is read and compared."""
    collection = open_store(folder / "store").collection(PREFIX, row_bytes=ROW_BYTES)
    numbers = np.arange(COUNT)
    locations = collection.locate(keys_of(numbers))
    stored = numbers[locations >= 0]
    for part in np.array_split(stored, 1 + len(stored) // 500):
        rows = collection.read(collection.locate(keys_of(part)))
        np.testing.assert_array_equal(rows, rows_of(keys_of(part)))
    return set(stored.tolist())


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "store" / PREFIX).glob("*.shard"))


def be_killed(folder: Path, kills: int, rng: random.Random) -> None:
    """Let one writer after the other be killed; after each, check what is there and what it did."""
    killed = runs = 0
    while killed < kills:
        before = complete(folder)
        if len(before) == COUNT:
            # A fresh start, by removing what a user might remove.
            for path in rng.sample(shards(folder), len(shards(folder)) * 9 // 10):
                path.unlink()
            before = complete(folder)
        runs += 1
        writer = start_writer(folder, seed=runs)
        time.sleep(rng.uniform(0, 0.25))
        killed += kill(writer)
        done, after = computed(folder, runs), complete(folder)
        assert not before & set(done)
        assert before <= after
        # At most what waits for one shard, and the batch that was being computed.
        assert len(set(done) - after) <= SHARD_ROWS + BATCH
    finish(start_writer(folder, seed=runs + 1))
    assert complete(folder) == set(range(COUNT))


def flip_a_bit(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut_off(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def tear(path: Path, rng: random.Random) -> None:
    """A page that never reached the disk, while the length did."""
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data)) // 4096 * 4096
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    path.write_bytes(data)


DAMAGES = (flip_a_bit, cut_off, tear)


def damage_some(folder: Path, rng: random.Random) -> tuple[set[str], int]:
    """Damage three shards; return their paths, and how many rows they held."""
    victims = rng.sample(shards(folder), 3)
    rows = sum(rows_in(path.stat().st_size, ROW_BYTES) for path in victims)
    for path in victims:
        rng.choice(DAMAGES)(path, rng)
    return {str(path) for path in victims}, rows


def be_damaged(folder: Path, rounds: int, rng: random.Random) -> None:
    """Damage shards; check that exactly these are found, and that only they are computed again."""
    finish(start_writer(folder, seed=1))
    for seed in range(2, 2 + rounds):
        victims, rows = damage_some(folder, rng)
        with pytest.warns(UserWarning, match="is damaged") as said:
            intact = complete(folder)
        assert sorted(str(each.message).split()[2] for each in said) == sorted(victims)
        assert len(intact) == COUNT - rows
        finish(start_writer(folder, seed))
        assert sorted(computed(folder, seed)) == sorted(set(range(COUNT)) - intact)
        assert complete(folder) == set(range(COUNT))


def lose_descriptions(folder: Path, rounds: int, rng: random.Random) -> None:
    """Damage the small files beside the shards: no row may be lost, or be given another meaning."""
    finish(start_writer(folder, seed=1))
    store = folder / "store"
    for _ in range(rounds):
        paths = (store / "topwork-store.json", store / PREFIX / "collection.json")
        before = [path.read_bytes() for path in paths]
        for path in paths:
            rng.choice(DAMAGES)(path, rng)
        # A line break that is missing at the end changes nothing, and need not be said.
        n_changed = sum(
            content.strip() != path.read_bytes().strip()
            for path, content in zip(paths, before, strict=True)
        )
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert complete(folder) == set(range(COUNT))
        assert len(said) >= n_changed
        assert ["is damaged" in str(each.message) for each in said] == [True] * len(said)
        assert open_store(store).info().collections[0].rows == COUNT


def be_crowded(folder: Path, rounds: int, rng: random.Random) -> None:
    """Four writers at once, each with a quarter, and some of them killed and started again."""
    quarters = [(COUNT * part // 4, COUNT * (part + 1) // 4) for part in range(4)]
    for turn in range(rounds):
        writers = [start_writer(folder, turn * 4 + n, *quarters[n]) for n in range(4)]
        time.sleep(rng.uniform(0, 0.2))
        for writer in rng.sample(writers, 2):
            kill(writer)
            writers.remove(writer)
        for writer in writers:
            finish(writer)
    for n in range(4):
        finish(start_writer(folder, 1000 + n, *quarters[n]))
    assert complete(folder) == set(range(COUNT))
    (found,) = open_store(folder / "store").info().collections
    assert found.rows == COUNT


def be_redundant(folder: Path) -> None:
    """Four writers at once that all want everything: duplicates are allowed, wrong rows are not."""
    for writer in [start_writer(folder, seed) for seed in range(4)]:
        finish(writer)
    for seed in range(4):
        done = computed(folder, seed)
        assert len(done) == len(set(done))
    assert complete(folder) == set(range(COUNT))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_a_few_times(tmp_path):
    be_killed(tmp_path, kills=5, rng=random.Random(1))


def test_damaged_a_few_times(tmp_path):
    be_damaged(tmp_path, rounds=2, rng=random.Random(2))


def test_descriptions_lost_a_few_times(tmp_path):
    lose_descriptions(tmp_path, rounds=5, rng=random.Random(3))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_crowded(tmp_path):
    be_crowded(tmp_path, rounds=1, rng=random.Random(4))


def test_redundant(tmp_path):
    be_redundant(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_sixty_times(tmp_path):
    be_killed(tmp_path, kills=60, rng=random.Random(5))


@pytest.mark.slow
def test_damaged_many_times(tmp_path):
    be_damaged(tmp_path, rounds=20, rng=random.Random(6))


@pytest.mark.slow
def test_descriptions_lost_many_times(tmp_path):
    lose_descriptions(tmp_path, rounds=60, rng=random.Random(7))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_crowded_and_killed_many_times(tmp_path):
    be_crowded(tmp_path, rounds=15, rng=random.Random(8))


if __name__ == "__main__":
    write(Path(sys.argv[1]), *(int(number) for number in sys.argv[2:]))
