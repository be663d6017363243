"""Who computes features, and where they are kept: `cache`, `cache_dir`, `engine`, `precision`."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

from topwork._errors import InputError
from topwork._features.engine import PLAIN, Engine, open_engine
from topwork._features.fingerprint import fingerprint
from topwork._features.frozen_part import FrozenPart
from topwork._features.memory import memory_for_features
from topwork._store.collection import Collection
from topwork._store.store import Store, open_store


@dataclasses.dataclass(frozen=True)
class Cache:
    """The `cache`, `cache_dir`, `engine` and `precision` arguments.

    Attributes:
        kind: Where features are kept in this run: `"auto"`, `"memory"` or `"disk"`.
        store: For later runs; None for this run only.
        engine: Who computes them.
    """

    kind: str
    store: Store | None
    engine: Engine = PLAIN

    def open(self, frozen: FrozenPart, about: dict[str, Any]) -> Collection | None:
        """What the store has of a frozen part; None without a store."""
        if self.store is None:
            return None
        address = fingerprint(frozen.prefix, frozen.engine)
        collection = self.store.collection(address, row_bytes=frozen.layout.row_bytes, about=about)
        if frozen.engine.is_plain:
            return collection
        if not len(collection):
            frozen.prepare()
        if frozen.engine.is_plain:  # which stands in, and has an address of its own
            return self.open(frozen, about)
        frozen.engine = dataclasses.replace(frozen.engine, is_required=True)
        return collection

    def memory_limit(self) -> float:
        """Bytes of memory that may be taken for features."""
        limits = {"memory": math.inf, "disk": 0.0}
        limit = limits.get(self.kind)
        return memory_for_features() if limit is None else limit


def open_cache(
    cache: Any,
    cache_dir: str | os.PathLike[str] | None,
    engine: Any = "auto",
    precision: Any = "float32",
) -> Cache:
    """Check the arguments, open the store, and find out what this machine can do of the precision."""
    if cache is not False and cache not in ("auto", "memory", "disk"):
        raise InputError(f"cache must be 'auto', 'memory', 'disk' or False. Received: {cache!r}.")
    if cache is False and cache_dir is not None:
        raise InputError(
            f"cache=False computes nothing once, and cache_dir={str(cache_dir)!r} asks to keep "
            "what is. Leave one of them out."
        )
    if cache is False and (engine, precision) != ("auto", "float32"):
        raise InputError(
            f"cache=False computes nothing once, and engine={engine!r}, precision={precision!r} say how "
            "that is done. Leave them out: keras.config.set_dtype_policy is for training."
        )
    chosen = open_engine(engine, precision)
    return Cache(str(cache), None if cache_dir is None else open_store(cache_dir), chosen)
