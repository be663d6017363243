"""Computing the frozen features of a data set: where they are kept, and what the user sees of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Iterator
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
        with _progress(self._verbose, name, source.n_batches, views) as advance:
            table = compute_table(
                self._frozen,
                source,
                keeping,
                check=guard.check,
                augment=None if augment is None else on_arrays(augment),
                views=views,
                advance=advance,
                name=name,
            )
        if labelled:
            guard.check_not_empty()
        return table

    def say(self, tables: list[Table]) -> None:
        """Print one line: what was computed once, how large it is and where it is kept."""
        if self._verbose == 0:
            return
        images = " + ".join(f"{len(table):,}" for table in tables)
        views = f" in {tables[0].views} views" if tables[0].views > 1 else ""
        computed = sum(table.n_computed for table in tables)
        found = sum(len(table) * table.views for table in tables) - computed
        counts = f", {computed:,} computed and {found:,} found" if self._cache.store else ""
        size = readable(sum(table.n_bytes for table in tables))
        places = " and ".join(dict.fromkeys(table.place for table in tables))
        print(
            f"topwork: frozen part run once over {images} images{views} in "
            f"{time.perf_counter() - self._start:.1f} s{counts}; features of {size} in {places}.",
            flush=True,
        )


@contextlib.contextmanager
def _progress(
    verbose: str | int, name: str, n_batches: int | None, views: int
) -> Iterator[Callable[[int], None]]:
    """Keras' progress bar over the images of a data set, each counted once for each view.

    With `verbose=2` only its last line.
    """
    bars: list[keras.utils.Progbar] = []
    done = 0

    def advance(n_images: int) -> None:
        nonlocal done
        if verbose != 0 and not bars:
            # How long the batches are is known from the first one only.
            target = None if n_batches is None else n_batches * n_images * views
            print(f"Running the frozen part once: {name}", flush=True)
            bars.append(keras.utils.Progbar(target, 2 if verbose == 2 else 1, unit_name="image"))
        done = n_images * views
        if bars and done != bars[0].target:
            bars[0].update(done, finalize=False)

    yield advance
    if bars:
        bars[0].target = done
        bars[0].update(done, finalize=True)
