"""Computing the features of a whole data set in one pass."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from topwork._data.ragged import even_parts
from topwork._data.reading import Batch, Source
from topwork._data.source import joined
from topwork._errors import InputError
from topwork._features.frozen_part import FrozenPart, in_full_batches
from topwork._features.sinks import Sink, StoredRows
from topwork._features.table import Table
from topwork._store.shards import Bytes

# So many batches are read ahead while the network computes one: reading comes in bursts.
_AHEAD = 2


def compute_table(
    frozen: FrozenPart,
    source: Source,
    sink: Sink,
    *,
    check: Callable[[list[Any], Any, Any], None],
    augment: Callable[[list[Any]], list[Any]] | None,
    views: int,
    advance: Callable[[int], None],
    name: str = "data",
) -> Table:
    """Read a data set once, and run the frozen part on each image or find what was stored of it.

    Args:
        frozen: The frozen part.
        source: The data.
        sink: Where the features go.
        check: Called with the inputs, labels and weights of each batch; raises for what cannot be used.
        augment: From the inputs of a batch to another draw of them; None: as they are.
        views: How often each image is augmented and computed.
        advance: Called with the number of images read so far, after each batch.
        name: Of the data, for messages.

    Raises:
        InputError: Features are NaN or infinite.
    """
    reader = _Reader(source, check, augment, views)

    def take(inputs: list[Any], tags: Any, rows: Bytes) -> None:
        frozen.compare(inputs, rows)
        _check_finite(frozen, rows, lambda: sink.images_of(tags), name)
        sink.add(rows, tags)

    with sink:
        missing = sink.missing(reader.images(advance))
        _run_ahead(frozen, in_full_batches(missing, frozen.batch_size), take)
    read, place = sink.finish()
    return Table(
        layout=frozen.layout,
        read=read,
        views=views,
        y=joined(reader.parts, "y"),
        sample_weight=joined(reader.parts, "sample_weight"),
        batch_lengths=reader.batch_lengths,
        n_computed=sink.n_computed,
        place=place,
        from_store=isinstance(sink, StoredRows),
    )


def _run_ahead(
    frozen: FrozenPart,
    batches: Iterator[tuple[list[Any], Any]],
    take: Callable[[list[Any], Any, Bytes], None],
) -> None:
    """Call `take(inputs, tags, rows)` for each of `batches` in their order, with the rows computed.

    The network has a thread of its own, and nothing else has: reading, checks, digests and the store go
    on in this one while it computes, so that warnings and errors arise where they always did.
    """
    waiting: collections.deque[tuple[list[Any], Any, Future[Bytes]]] = collections.deque()

    def take_first() -> None:
        inputs, tags, rows = waiting.popleft()
        take(inputs, tags, rows.result())

    network = ThreadPoolExecutor(1, thread_name_prefix="topwork-network")
    try:
        for inputs, tags in _raised_late(batches, waiting, take_first):
            if not waiting:
                frozen.prepare()  # what it says belongs here too
            waiting.append((inputs, tags, network.submit(frozen.rows, inputs)))
            if len(waiting) > _AHEAD:
                take_first()
        while waiting:
            take_first()
    finally:
        network.shutdown(cancel_futures=True)


def _raised_late(
    batches: Iterator[tuple[list[Any], Any]], waiting: Any, take_first: Callable[[], None]
) -> Iterator[tuple[list[Any], Any]]:
    """The batches; where reading them fails, what is computed already is taken before it is said."""
    try:
        yield from batches
    except GeneratorExit:
        raise
    except BaseException:
        while waiting:
            take_first()
        raise


def _check_finite(frozen: FrozenPart, rows: Bytes, images: Callable[[], Any], name: str) -> None:
    where = frozen.layout.not_finite(rows)
    if where.any():
        bad = where.any(axis=1)
        layer = frozen.prefix.output_names[int(where.any(axis=0).argmax())].removeprefix("head_average_")
        raise InputError(
            f"the features of {bad.sum()} of {len(rows)} images of the {name} are NaN or infinite, first "
            f"those of image {images()[bad].min()} (counted from 0), at {layer!r}. The frozen layers "
            "overflow, as float16 does above 65504, or their weights are not finite. Build the network "
            "in float32, keras.config.set_dtype_policy('float32'), or load other weights."
        )


class _Reader:
    """Reads the data once; remembers labels, weights and the lengths of the batches."""

    def __init__(
        self,
        source: Source,
        check: Callable[[list[Any], Any, Any], None],
        augment: Callable[[list[Any]], list[Any]] | None,
        views: int,
    ) -> None:
        self._source, self._check, self._augment, self._views = source, check, augment, views
        self.parts: list[Batch] = []
        self.batch_lengths: list[int] = []

    def images(self, advance: Callable[[int], None]) -> Iterator[tuple[list[Any], Any]]:
        """Inputs of a batch with the number of the row that each image's features become."""
        n_before = 0
        for batch in self._source.batches():
            self._check(batch.inputs, batch.y, batch.sample_weight)
            self.parts.append(dataclasses.replace(batch, inputs=[]))
            self.batch_lengths.append(len(batch))
            first = np.arange(n_before, n_before + len(batch)) * self._views
            for view in range(self._views):
                for part, where in even_parts(batch.inputs):
                    yield self._augment(part) if self._augment else part, (first + view)[where]
            n_before += len(batch)
            advance(n_before)
