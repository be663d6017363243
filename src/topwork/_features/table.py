"""The features of a whole data set, handed out for training."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from topwork._data.data_sets import untuned
from topwork._data.inputs import map_arrays
from topwork._features.rows import RowLayout
from topwork._store.index import Locations
from topwork._store.shards import Bytes

Features = dict[str, tuple[Any, ...]]
_FEATURES = "topwork_features"
# Without it TensorFlow reads the source of each function in search of loops, for a fifth of a second.
_as_it_is = tf.autograph.experimental.do_not_convert


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
        rows = images.map(_as_it_is(functools.partial(_draw_row, self.views)))
        # TensorFlow keeps functions until the process ends. A weak reference lets the rows go earlier.
        table = weakref.proxy(self)
        # Tensors, because the function below refers to them; arrays would be copied into its graph.
        labels = [
            map_arrays(tf.convert_to_tensor, part)
            for part in (self.y, self.sample_weight)
            if part is not None
        ]
        batches = rows.map(
            _as_it_is(
                lambda image, row: (
                    table._features(row),
                    *map_arrays(lambda part: tf.gather(part, image), labels),
                )
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return untuned(batches.prefetch(tf.data.AUTOTUNE))

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
