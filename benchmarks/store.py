"""What the feature store costs.

    python benchmarks/store.py
    python benchmarks/store.py --folder /mnt/share --megabytes 2000
    python benchmarks/store.py --data DIR --weights FILE

Without `--data`: how fast it writes and reads, against numpy.save and numpy.load of the same array.
With a folder of photographs (`train` and `validation`, each with a folder for each class): what a `fit`
costs with a store and without. Each figure is the median of some rounds in which the two take turns.
What is read was just written, so it comes from the page cache, as it does in training when the features
fit into memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _photographs
import keras
import numpy as np
import numpy.typing as npt

import topwork as tw
from topwork._store.store import Store, open_store

PREFIX = "be" * 8
BATCH = 32
ROW_BYTES = {
    "mixed7 at 150 px, average pooling": 768 * 4,
    "mixed7 at 150 px": 7 * 7 * 768 * 4,
}

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Material:
    """The rows to keep, their keys, an order to read them in, and where."""

    keys: Bytes
    rows: Bytes
    order: npt.NDArray[np.int64]
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "rows.npy"

    def store(self) -> Store:
        return open_store(self.folder / "store")

    def collection(self):
        return self.store().collection(PREFIX, row_bytes=self.rows.shape[1])


def material(folder: Path, row_bytes: int, total: int) -> Material:
    rng = np.random.default_rng(0)
    count = max(BATCH, total // row_bytes)
    keys = rng.integers(0, 256, (count, 16), dtype=np.uint8)
    rows = rng.integers(0, 256, (count, row_bytes), dtype=np.uint8)
    return Material(keys, rows, rng.permutation(count), folder)


def batches(order: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    return (order[start : start + BATCH] for start in range(0, len(order), BATCH))


def store_write(given: Material) -> Callable[[], object]:
    given.store().prune(larger_than=0)

    def run() -> None:
        with given.collection() as collection:
            for start in range(0, len(given.rows), BATCH):
                batch = slice(start, start + BATCH)
                collection.append(given.keys[batch], given.rows[batch])

    return run


def numpy_write(given: Material) -> Callable[[], object]:
    given.file.unlink(missing_ok=True)

    def run() -> None:
        with given.file.open("wb") as file:
            np.save(file, given.rows)
            file.flush()
            os.fsync(file.fileno())

    return run


def store_open(given: Material) -> Callable[[], object]:
    return given.collection


def numpy_load(given: Material) -> Callable[[], object]:
    return lambda: np.load(given.file)


def store_read(given: Material, order: npt.NDArray[np.int64]) -> Callable[[], object]:
    collection = given.collection()
    locations = collection.locate(given.keys[order])
    return lambda: [collection.read(batch) for batch in batches(locations)]


def mapped_read(given: Material, order: npt.NDArray[np.int64]) -> Callable[[], object]:
    mapped = np.load(given.file, mmap_mode="r")
    return lambda: [mapped[batch] for batch in batches(order)]


def memory_read(given: Material, order: npt.NDArray[np.int64]) -> Callable[[], object]:
    loaded = np.load(given.file)
    return lambda: [loaded[batch] for batch in batches(order)]


def comparisons(given: Material) -> list[tuple[str, Callable, Callable]]:
    """What is compared: a name, and two functions which prepare a run and return it."""
    in_order, shuffled = np.arange(len(given.rows)), given.order
    return [
        ("write, on disk at the end / `numpy.save` + fsync", store_write, numpy_write),
        ("open and verify / `numpy.load`", store_open, numpy_load),
        (
            f"read in order, {BATCH} rows at a time / `numpy.load(mmap_mode)`",
            lambda given: store_read(given, in_order),
            lambda given: mapped_read(given, in_order),
        ),
        (
            f"read in random order, {BATCH} rows at a time / `numpy.load(mmap_mode)`",
            lambda given: store_read(given, shuffled),
            lambda given: mapped_read(given, shuffled),
        ),
        (
            f"read in random order, {BATCH} rows at a time / an array in memory",
            lambda given: store_read(given, shuffled),
            lambda given: memory_read(given, shuffled),
        ),
    ]


def seconds(prepare: Callable[[Material], Callable[[], object]], given: Material) -> float:
    run = prepare(given)
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(name: str, ours: Callable, theirs: Callable, given: Material, rounds: int) -> str:
    pairs = [(seconds(ours, given), seconds(theirs, given)) for _ in range(rounds)]
    ours_median, theirs_median = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(mine / other for mine, other in pairs)
    megabytes = given.rows.nbytes / 1e6
    return (
        f"| {name} | {megabytes / ours_median:,.0f} MB/s | {megabytes / theirs_median:,.0f} MB/s "
        f"| {ratio:.2f} |"
    )


def throughput(folder: Path, total: int, rounds: int) -> None:
    for name, row_bytes in ROW_BYTES.items():
        with tempfile.TemporaryDirectory(dir=folder) as inside:
            given = material(Path(inside), row_bytes, total)
            print(f"\n{len(given.rows):,} rows of {row_bytes:,} bytes ({name})\n")
            print("| what / compared with | store | NumPy | time, store / NumPy |")
            print("| --- | ---: | ---: | ---: |")
            for label, ours, theirs in comparisons(given):
                print(measure(label, ours, theirs, given, rounds), flush=True)


class Epochs(keras.callbacks.Callback):
    """Seconds of training, from the beginning of the second epoch on: Keras traces in the first."""

    seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            self._start = time.perf_counter()

    def on_train_end(self, logs: Any = None) -> None:
        self.seconds = time.perf_counter() - self._start


def timed_fit(given: argparse.Namespace, data: list[Any], **options: Any) -> tuple[float, float]:
    """Seconds of the whole `fit` of a new head, and of its epochs but the first."""
    keras.utils.set_random_seed(0)
    backbone = _photographs.frozen_backbone(given)
    model = tw.add_head(1, pooling=given.pooling, hidden_units=256)(backbone)
    train, validation = data
    epochs = Epochs()
    options |= {"validation_data": validation, "epochs": given.epochs, "callbacks": [epochs]}
    start = time.perf_counter()
    tw.fit(model, train, verbose=0, **options)
    return time.perf_counter() - start, epochs.seconds


def fits(given: argparse.Namespace) -> None:
    data = _photographs.load(given)
    rounds = []
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            rounds.append(
                [
                    timed_fit(given, data, cache="memory"),
                    timed_fit(given, data, cache_dir=folder),
                    timed_fit(given, data, cache_dir=folder),
                ]
            )
    wholes, trainings = np.array(rounds).transpose(2, 1, 0)  # each: kind of fit, round
    memory, first, warm = wholes
    in_memory, _, stored = trainings
    # What is left of a whole fit without its later epochs: the first pass, and tracing.
    memory_pass, first_pass = memory - in_memory, first - trainings[1]
    print(f"\n{given.epochs} epochs, {given.pooling} pooling\n")
    print("| what | with the store | without | time, with / without |")
    print("| --- | ---: | ---: | ---: |")
    print(row("first pass and first epoch, nothing stored", first_pass, memory_pass))
    print(row("later epochs, from the store / from memory", stored, in_memory))
    print(row("whole fit, nothing stored", first, memory))
    print(row("whole fit, all stored", warm, memory))


def row(name: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> str:
    ratio = np.median(ours / theirs)
    return f"| {name} | {np.median(ours):.2f} s | {np.median(theirs):.2f} s | {ratio:.2f} |"


def main() -> None:
    parser = _photographs.parser(__doc__, data_required=False)
    add = parser.add_argument
    add("--folder", type=Path, help="on the disk to measure (default: temporary)")
    add("--megabytes", type=int, default=300, help="features to keep (default 300)")
    add("--rounds", type=int, default=5, help="of each comparison (default 5)")
    add("--pooling", choices=["avg", "max", "flatten"], default="avg")
    add("--epochs", type=int, default=20)
    given = parser.parse_args()
    if given.data:
        fits(given)
    else:
        throughput(given.folder, given.megabytes * 10**6, given.rounds)


if __name__ == "__main__":
    main()
