"""Looking at the batches of a data set as Keras reads them, before Keras trains on them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from topwork._data.checks import Guard
from topwork._data.data_sets import MappedPyDataset
from topwork._data.source import Batch, joined, numbered_batches


class Watch:
    """Looks at what Keras reads of a data set: nothing is read once more for it, or in another order.

    Args:
        model: Says what pixels and labels it takes.
        name: Of the data, for messages: ``"the training data"``.
        also: Called with each batch too.
    """

    def __init__(self, model: keras.Model, name: str, also: Callable[[Batch], None]) -> None:
        self._model, self._name, self._also = model, name, also
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """Count batches and images from 0 again."""
        with self._lock:
            self._guard = Guard(self._model, self._name, warns=False)
            self._read: list[tuple[int, Any]] = []
            self._batches = numbered_batches(self._model, _taken_out(self._read))
            self._parts: dict[int, Batch] = {}
            self._longest = 0

    def over(self, data: Any) -> Any:
        """The data set, to give to Keras in its place."""
        if isinstance(data, tf.data.Dataset):
            return _watched(data, self._see)
        # Other processes could not tell what they have seen.
        is_py_dataset = isinstance(data, keras.utils.PyDataset) and not data.use_multiprocessing
        return MappedPyDataset(data, self._see) if is_py_dataset else data

    def seen(self, name: str) -> Any:
        """All `"y"` or all `"sample_weight"` since the beginning."""
        return joined(list(self._parts.values()), name)

    def _see(self, element: Any, number: int | None = None) -> Any:
        """Look at a batch, of which the number is known where they come in any order."""
        with self._lock:
            place = len(self._parts) if number is None else number
            self._read.append((place, element))
            batch = next(self._batches)
            self._longest = max(self._longest, len(batch))
            if number is not None:
                self._guard.n_seen = number * self._longest
            self._guard.check(batch.inputs, batch.y, batch.sample_weight)
            if place not in self._parts:  # Keras reads the first ones of a PyDataset once more
                self._also(batch)
            self._parts[place] = dataclasses.replace(batch, inputs=[])
        return element


def _taken_out(read: list[Any]) -> Iterator[tuple[int, Any]]:
    """What is put into the list, one after the other."""
    while True:
        yield read.pop()


def _watched(dataset: tf.data.Dataset, see: Callable[[Any], Any]) -> tf.data.Dataset:
    def look(*element: Any) -> Any:
        leaves = tf.nest.flatten(element)
        present = [leaf for leaf in leaves if leaf is not None]

        def see_all(*read: Any) -> None:
            values = iter(read)
            whole = [None if leaf is None else next(values) for leaf in leaves]
            see(tf.nest.pack_sequence_as(element, whole))

        tf.py_function(see_all, present, [])
        return element if len(element) > 1 else element[0]

    return dataset.map(tf.autograph.experimental.do_not_convert(look)).prefetch(2)
