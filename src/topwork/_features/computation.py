"""Computing the frozen features of data sets: what is known before, and what the user sees of it."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Iterator, Sequence

import keras

from topwork._data.augmenting import Augment, on_arrays
from topwork._data.checks import Guard
from topwork._data.randomness import python_in
from topwork._data.reading import Source
from topwork._data.shared_images import shared_images
from topwork._errors import InputError
from topwork._features.cache import Cache
from topwork._features.frozen_part import FrozenPart
from topwork._features.one_pass import compute_table
from topwork._features.sinks import KeptRows, Sink, StoredRows
from topwork._features.table import Table
from topwork._features.temporary import memory_limits
from topwork._features.unknown_code import unknown_code
from topwork._store.collection import Collection
from topwork._store.inventory import readable
from topwork._voice import check_verbose, progress, say


@dataclasses.dataclass(frozen=True)
class Run:
    """A data set that the frozen part is run over.

    Attributes:
        source: The data.
        name: Of the data, for messages.
        augment: Makes another copy of each image; None: as they are.
        views: How many copies.
        labelled: Whether its labels have to be what the model's losses take.
        may_be_empty: Whether no image is no mistake.
    """

    source: Source
    name: str
    augment: Augment | None = None
    views: int = 1
    labelled: bool = True
    may_be_empty: bool = False

    def bytes_at_least(self, row_bytes: int) -> int | None:
        """How many bytes of features are to come; None where there is no telling."""
        at_least = self.source.n_images_at_least
        return None if at_least is None else at_least * self.views * row_bytes


class Computation:
    """The frozen part of a model, ready to be run over data sets.

    Args:
        model: What is given the data, and named in messages.
        prefix: Its frozen part.
        cache: Who computes it, and where what it gives is kept.
        verbose: 0 is silent.
    """

    def __init__(self, model: keras.Model, prefix: keras.Model, cache: Cache, verbose: str | int) -> None:
        self._model, self._cache, self._verbose = model, cache, verbose
        self._frozen = FrozenPart(prefix, cache.engine)
        check_verbose(verbose)
        self._start = time.perf_counter()
        unknown = None if cache.store is None else unknown_code(prefix)
        if unknown:
            raise InputError(
                f"cache_dir cannot be used for {model.name!r}: its frozen part has code that is not "
                f"Keras' own, {unknown}. What another version of that code computed could not be told "
                "apart. Leave cache_dir out: features are then kept for this run only."
            )

    @functools.cached_property
    def _collection(self) -> Collection | None:
        # Opened once for all data sets: the weights are hashed for it, and every shard is read.
        return self._cache.open(self._frozen, {"model": self._model.name})

    def tables(self, *runs: Run) -> list[Table]:
        """Run the frozen part over data sets, or find what was stored of them.

        That what lies in memory can be used, and that there is room for all, is known before anything is
        computed. Of two, the data to train on and to validate on, the images that are in both are said.
        """
        runs = tuple(map(self._looked_through, runs))
        if self._collection is None:
            self._frozen.prepare()
        _say_what_cannot_be_known(runs, self._verbose)
        sinks = self._sinks(runs)
        shared = shared_images(*(run.source for run in runs)) if len(runs) == 2 else None
        if shared is not None:
            pairs = zip(runs, shared.sources, strict=True)
            runs = tuple(dataclasses.replace(run, source=source) for run, source in pairs)
        tables = [self._table(run, sink) for run, sink in zip(runs, sinks, strict=False)]
        if shared is not None:
            shared.warn()
        return tables

    def _looked_through(self, run: Run) -> Run:
        if run.source.is_checked or not run.source.is_in_memory:
            return run
        guard = Guard(self._model, f"the {run.name}", labelled=run.labelled, warns=False)
        return dataclasses.replace(run, source=guard.look_through(run.source))

    def _table(self, run: Run, sink: Sink) -> Table:
        is_checked = run.source.is_checked
        guard = Guard(self._model, f"the {run.name}", labelled=run.labelled, raises=not is_checked)
        with progress(run.name, run.source.n_batches, "batch", self._verbose) as count:
            table = compute_table(
                self._frozen,
                run.source,
                sink,
                check=guard.check,
                augment=None if run.augment is None else on_arrays(run.augment),
                views=run.views,
                advance=lambda _: count(),
                name=run.name,
            )
        if not run.may_be_empty:
            guard.check_not_empty()
        return table

    def _sinks(self, runs: Sequence[Run]) -> Iterator[Sink]:
        """Where the rows of each data set go."""
        row_bytes, limit = self._frozen.layout.row_bytes, self._cache.memory_limit()
        store, collection = self._cache.store, self._collection
        if store is None or collection is None:
            # For a data set this reads one batch, so it is done only where it matters.
            needed = [None if limit == math.inf else run.bytes_at_least(row_bytes) for run in runs]
            for run, most in zip(runs, memory_limits(needed, limit), strict=True):
                yield KeptRows(row_bytes, run.views, most)
            return

        def check_space() -> None:
            needed = sum(run.bytes_at_least(row_bytes) or 0 for run in runs)
            store.check_space(needed - len(collection) * row_bytes)

        place = str(store.directory)
        for run in runs:  # the limit is asked for anew: the rows of those before may be in memory
            limit = self._cache.memory_limit()
            yield StoredRows(row_bytes, run.views, limit, collection, check_space, place)

    def say(self, tables: list[Table]) -> None:
        """Say in one line what was computed once, how large it is and where it is kept."""
        images = " + ".join(f"{len(table):,}" for table in tables)
        views = f" in {tables[0].views} views" if tables[0].views > 1 else ""
        computed = sum(table.n_computed for table in tables)
        found = sum(len(table) * table.views for table in tables) - computed
        counts = f", {computed:,} computed and {found:,} found" if self._cache.store else ""
        size = readable(sum(table.n_bytes for table in tables))
        places = " and ".join(dict.fromkeys(table.place for table in tables))
        say(
            f"frozen part run once over {images} images{views} in "
            f"{time.perf_counter() - self._start:.1f} s{self._by_whom()}{counts}; features of {size} in "
            f"{places}.",
            self._verbose,
        )

    def _by_whom(self) -> str:
        engine, difference = self._frozen.engine, self._frozen.difference
        if engine.is_plain:
            return ""
        apart = "" if difference is None else f", {100 * difference:.2g} % from the model's own"
        return f" by {engine}{apart}"


def _say_what_cannot_be_known(runs: Sequence[Run], verbose: str | int) -> None:
    """Say in one line that data is made by Python code, which may give other images another time."""
    made = {run.name: python_in(run.source.given[0]) for run in runs}
    by_python = [f"{name} ({code})" for name, code in made.items() if code is not None]
    if by_python:
        say(
            f"the {' and the '.join(by_python)} comes from Python code. Whether that gives the same "
            "images in every epoch cannot be known; where it does, data.is_constant = True says so.",
            verbose,
        )
