"""Computing the frozen features of a data set: where they are kept, and what the user sees of it."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import time
from typing import Any

import keras

from topwork._data.augmenting import Augment, on_arrays
from topwork._data.checks import Guard
from topwork._data.reading import Source
from topwork._errors import InputError
from topwork._features.fingerprint import fingerprint
from topwork._features.frozen_part import FrozenPart
from topwork._features.memory import MEMORY_FRACTION, available_memory
from topwork._features.table import Keeping, Table, compute_table
from topwork._features.unknown_code import unknown_code
from topwork._store.collection import Collection
from topwork._store.inventory import readable
from topwork._store.store import Store, open_store
from topwork._voice import check_verbose, progress, say


@dataclasses.dataclass(frozen=True)
class Cache:
    """The `cache` and `cache_dir` arguments: where features are kept.

    Attributes:
        kind: `"auto"`, `"memory"` or `"disk"`.
        store: For later runs; None for this run only.
    """

    kind: str
    store: Store | None

    def open(self, frozen: FrozenPart, about: dict[str, Any]) -> Collection | None:
        """What the store has of a frozen part; None without a store."""
        if self.store is None:
            return None
        address = fingerprint(frozen.prefix)
        return self.store.collection(address, row_bytes=frozen.layout.row_bytes, about=about)

    def keeping(self, collection: Collection | None) -> Keeping:
        """A place for the rows of one more data set."""
        limits = {"memory": math.inf, "disk": 0.0}
        limit = limits.get(self.kind)
        if limit is None:
            limit = MEMORY_FRACTION * available_memory()
        n_stored = 0 if collection is None else len(collection)
        return Keeping(limit, collection, self.store, n_stored)


def open_cache(cache: Any, cache_dir: str | os.PathLike[str] | None) -> Cache:
    """Check the arguments, and open the store."""
    if cache is not False and cache not in ("auto", "memory", "disk"):
        raise InputError(f"cache must be 'auto', 'memory', 'disk' or False. Received: {cache!r}.")
    if cache is False and cache_dir is not None:
        raise InputError(
            f"cache=False computes nothing once, and cache_dir={str(cache_dir)!r} asks to keep "
            "what is. Leave one of them out."
        )
    return Cache(str(cache), None if cache_dir is None else open_store(cache_dir))


class Computation:
    """The frozen part of a model, ready to be run over data sets."""

    def __init__(self, model: keras.Model, frozen: FrozenPart, cache: Cache, verbose: str | int) -> None:
        self._model, self._frozen, self._cache, self._verbose = model, frozen, cache, verbose
        check_verbose(verbose)
        self._start = time.perf_counter()
        unknown = None if cache.store is None else unknown_code(frozen.prefix)
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

    def table(
        self,
        source: Source,
        name: str,
        augment: Augment | None = None,
        views: int = 1,
        *,
        labelled: bool = True,
    ) -> Table:
        """Run the frozen part over a data set, or find what was stored of it."""
        guard = Guard(self._model, f"the {name}", labelled=labelled)
        keeping = self._cache.keeping(self._collection)
        with progress(name, source.n_batches, "batch", self._verbose) as count:
            table = compute_table(
                self._frozen,
                source,
                keeping,
                check=guard.check,
                augment=None if augment is None else on_arrays(augment),
                views=views,
                advance=lambda _: count(),
                name=name,
            )
        if labelled:
            guard.check_not_empty()
        return table

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
            f"{time.perf_counter() - self._start:.1f} s{counts}; features of {size} in {places}.",
            self._verbose,
        )
