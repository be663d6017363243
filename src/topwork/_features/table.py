"""Computing the features of a whole data set, and handing them out for training."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._data.reading import Batch, Source
from topwork._errors import InputError
from topwork._features.frozen_part import FrozenPart, in_full_batches
from topwork._features.rows import RowBuffer, RowLayout
from topwork._store.collection import Collection
from topwork._store.index import Locations
from topwork._store.shards import KEY_BYTES, Bytes

# How many rows are computed before looking again for what other processes completed meanwhile.
_REFRESH_ROWS = 512

Features = dict[str, tuple[Any, ...]]
_FEATURES = "topwork_features"


def frontier_of(x: Any) -> list[Any] | None:
    """The frontier's tensors, if `x` is a batch of features from a `Table`; None if it is images."""
    return list(x[_FEATURES]) if isinstance(x, dict) and set(x) == {_FEATURES} else None


@dataclasses.dataclass(frozen=True)
class Table:
    """The features of a data set, with its labels.

    Attributes:
        layout: Of a row.
        read: From numbers of rows to rows. Row `i * views + v` is view `v` of image `i`.
        views: How many rows there are for an image.
        y: The labels of all images, in the structure that they came in; None without.
        sample_weight: Likewise.
        batch_lengths: Of the batches that the data came in.
        n_computed: How many rows were computed, and not found in a store.
        place: Where the rows are, for people.
        from_store: Whether they are kept for later runs.
    """

    layout: RowLayout
    read: Callable[[Locations], Bytes]
    views: int
    y: Any
    sample_weight: Any
    batch_lengths: list[int]
    n_computed: int
    place: str
    from_store: bool

    def __len__(self) -> int:
        return sum(self.batch_lengths)

    @property
    def n_bytes(self) -> int:
        return len(self) * self.views * self.layout.row_bytes

    def dataset(self, batch_size: int | None, *, shuffle: bool | str) -> tf.data.Dataset:
        """Batches of (features, labels[, weights]), in the structure that `frontier_of` recognises.

        With several views each image comes once an epoch, in one view drawn at random.

        The table has to live for as long as the dataset is read.

        Args:
            batch_size: None: batches as long as those that the data came in.
            shuffle: Whether each epoch has an order of its own; `"batch"`: within each batch.
        """
        images = _indices(len(self), self.batch_lengths, batch_size, shuffle)
        rows = images.map(functools.partial(_draw_row, self.views))
        # TensorFlow keeps functions until the process ends, and must not keep the rows with them.
        table = weakref.proxy(self)
        # As tensors, which the function below refers to; arrays would become a part of its graph.
        labels = [
            keras.tree.map_structure(tf.convert_to_tensor, part)
            for part in (self.y, self.sample_weight)
            if part is not None
        ]
        batches = rows.map(
            lambda image, row: (
                table._features(row),
                *keras.tree.map_structure(lambda part: tf.gather(part, image), labels),
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return batches.prefetch(tf.data.AUTOTUNE)

    def _features(self, row: tf.Tensor) -> Features:
        table = weakref.proxy(self)
        data = tf.numpy_function(lambda rows: table.read(rows), [row], tf.uint8, stateful=False)
        data = tf.ensure_shape(data, [None, self.layout.row_bytes])
        return {_FEATURES: tuple(self.layout.unpack(data))}


def _draw_row(views: int, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    view = tf.random.uniform(tf.shape(image), maxval=views, dtype=tf.int64)
    return image, image * views + view


def _indices(
    n_images: int, batch_lengths: list[int], batch_size: int | None, shuffle: bool | str
) -> tf.data.Dataset:
    if shuffle == "batch":
        return _indices(n_images, batch_lengths, batch_size, False).map(tf.random.shuffle)
    if shuffle:
        order = tf.data.Dataset.range(n_images).shuffle(n_images, reshuffle_each_iteration=True)
        return order.batch(batch_size or max(batch_lengths))
    if batch_size is not None:
        return tf.data.Dataset.range(n_images).batch(batch_size)
    as_they_came = tf.RaggedTensor.from_row_lengths(tf.range(n_images, dtype=tf.int64), batch_lengths)
    return tf.data.Dataset.from_tensor_slices(as_they_came)


@dataclasses.dataclass(frozen=True)
class Keeping:
    """Where features are kept.

    Attributes:
        memory_limit: Bytes of memory to keep rows in, before a file takes them.
        collection: Of a feature store, to keep them for later runs.
        check_space: Raises if the store has no room for what is to come; called before anything is
            computed for it.
        place: The folder of the store.
    """

    memory_limit: float
    collection: Collection | None = None
    check_space: Callable[[], None] = lambda: None
    place: str = ""


def compute_table(
    frozen: FrozenPart,
    source: Source,
    keeping: Keeping,
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
        keeping: Where the features go.
        check: Called with the inputs, labels and weights of each batch; raises for what cannot be used.
        augment: From the inputs of a batch to another draw of them; None: as they are.
        views: How often each image is augmented and computed.
        advance: Called with the number of images read so far, after each batch.
        name: Of the data, for messages.

    Raises:
        InputError: Features are NaN or infinite.
    """
    reader = _Reader(source, check, augment, views)
    sink = (_Kept if keeping.collection is None else _Stored)(frozen, keeping, views)
    with sink:
        for inputs, tags in in_full_batches(sink.missing(reader.images(advance))):
            rows = frozen.rows(inputs)
            _check_finite(frozen, rows, lambda: sink.images_of(tags), name)  # noqa: B023 - called at once
            sink.add(rows, tags)
    read, place = sink.finish()
    return Table(
        layout=frozen.layout,
        read=read,
        views=views,
        y=reader.joined("y"),
        sample_weight=reader.joined("sample_weight"),
        batch_lengths=reader.batch_lengths,
        n_computed=sink.n_computed,
        place=place,
        from_store=keeping.collection is not None,
    )


def _check_finite(frozen: FrozenPart, rows: Bytes, images: Callable[[], Any], name: str) -> None:
    bad = frozen.layout.not_finite(rows)
    if bad.any():
        raise InputError(
            f"the features of {bad.sum()} of {len(rows)} images of the {name} are NaN or infinite, first "
            f"those of image {images()[bad].min()} (counted from 0). The frozen layers overflow, as "
            "float16 does above 65504, or their weights are not finite. Build the network in float32, "
            "keras.config.set_dtype_policy('float32'), or load other weights."
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
        self._parts: list[Batch] = []
        self.batch_lengths: list[int] = []

    def images(self, advance: Callable[[int], None]) -> Iterator[tuple[list[Any], Any]]:
        """Inputs of a batch with the number of the row that each image's features become."""
        n_before = 0
        for batch in self._source.batches():
            self._check(batch.inputs, batch.y, batch.sample_weight)
            self._parts.append(dataclasses.replace(batch, inputs=[]))
            self.batch_lengths.append(len(batch))
            first = np.arange(n_before, n_before + len(batch)) * self._views
            for view in range(self._views):
                yield self._augment(batch.inputs) if self._augment else batch.inputs, first + view
            n_before += len(batch)
            advance(n_before)

    def joined(self, name: str) -> Any:
        parts = [getattr(part, name) for part in self._parts]
        if not parts or parts[0] is None:
            return None
        return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


class _Kept:
    """Rows in memory or a temporary file, for this run."""

    def __init__(self, frozen: FrozenPart, keeping: Keeping, views: int) -> None:
        self._views = views
        self._buffer = RowBuffer(frozen.layout.row_bytes, keeping.memory_limit)
        self._tags: list[Any] = [np.empty(0, np.int64)]

    def __enter__(self) -> _Kept:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def n_computed(self) -> int:
        return len(self._buffer)

    def missing(self, images: Iterator[tuple[list[Any], Any]]) -> Iterator[tuple[list[Any], Any]]:
        """All images."""
        return images

    def images_of(self, tags: Any) -> Any:
        """The numbers of the images that rows with these tags are of."""
        return tags // self._views

    def add(self, rows: Bytes, tags: Any) -> None:
        self._buffer.append(rows)
        self._tags.append(tags)

    def finish(self) -> tuple[Callable[[Locations], Bytes], str]:
        return _rows_by_tag(self._buffer, np.concatenate(self._tags)), self._buffer.place


class _Stored:
    """Rows in a feature store, where what is there already is not computed again."""

    def __init__(self, frozen: FrozenPart, keeping: Keeping, views: int) -> None:
        assert keeping.collection is not None
        self._collection, self._keeping, self._views = keeping.collection, keeping, views
        self._row_bytes = frozen.layout.row_bytes
        self._keys: list[Bytes] = [np.empty((0, KEY_BYTES), np.uint8)]
        self._tags: list[Any] = [np.empty(0, np.int64)]
        self._under_way: set[bytes] = set()
        self._refresh_at = _REFRESH_ROWS
        self.n_computed = 0

    def __enter__(self) -> _Stored:
        self._collection.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._collection.__exit__(*error)

    def missing(self, images: Iterator[tuple[list[Any], Any]]) -> Iterator[tuple[list[Any], Any]]:
        """The images that are neither stored nor on their way there, tagged with their keys."""
        for inputs, tags in images:
            keys = digests(inputs)
            self._keys.append(keys)
            self._tags.append(tags)
            new = self._collection.locate(keys) < 0
            for i in np.flatnonzero(new):
                key = keys[i].tobytes()
                new[i] = key not in self._under_way
                self._under_way.add(key)
            if new.any():
                if len(self._under_way) == new.sum():  # the first ones
                    self._keeping.check_space()
                yield [array[new] for array in inputs], keys[new]

    def images_of(self, keys: Any) -> Any:
        """The numbers of the images with these keys, of each the first."""
        known, rows = np.concatenate(self._keys), np.concatenate(self._tags)
        return np.array([rows[(known == key).all(axis=1)].min() for key in keys]) // self._views

    def add(self, rows: Bytes, keys: Any) -> None:
        self._collection.append(keys, rows)
        self.n_computed += len(rows)
        if self.n_computed >= self._refresh_at:
            self._collection.refresh()
            self._refresh_at += _REFRESH_ROWS

    def finish(self) -> tuple[Callable[[Locations], Bytes], str]:
        keys = np.concatenate(self._keys)
        locations = _by_tag(self._collection.locate(keys), np.concatenate(self._tags))
        place = self._keeping.place
        if len(keys) * self._row_bytes > self._keeping.memory_limit:
            return lambda tags: self._collection.read(locations[tags]), place
        buffer = RowBuffer(self._row_bytes, self._keeping.memory_limit)
        ordered = np.unique(locations)  # neighbours are read faster
        try:
            for part in np.array_split(ordered, 1 + len(ordered) // 512):
                buffer.append_in_memory(self._collection.read(part))
        except MemoryError:  # they are in the store already
            return lambda tags: self._collection.read(locations[tags]), place
        places = np.searchsorted(ordered, locations)
        return lambda tags: buffer.read(places[tags]), place


def _rows_by_tag(buffer: RowBuffer, tags: Any) -> Callable[[Locations], Bytes]:
    places = _by_tag(np.arange(len(tags)), tags)
    return lambda wanted: buffer.read(places[wanted])


def _by_tag(values: Any, tags: Any) -> Any:
    """`values` in the order of `tags`, which are the numbers from 0 in some order."""
    ordered = np.empty_like(values)
    ordered[tags] = values
    return ordered


def digests(inputs: list[Any]) -> Bytes:
    """A key for each image, (n, 16), from the bytes of all inputs.

    SHA-256 runs at twice the speed of the alternatives on processors with instructions for it.
    """
    n_images = len(inputs[0])
    keys = np.empty((n_images, KEY_BYTES), np.uint8)
    for i in range(n_images):
        digest = hashlib.sha256()
        for array in inputs:
            digest.update(repr(array.shape[1:]).encode())  # a bar lying is not a bar standing
            digest.update(np.ascontiguousarray(array[i]).data)
        keys[i] = np.frombuffer(digest.digest()[:KEY_BYTES], np.uint8)
    return keys
