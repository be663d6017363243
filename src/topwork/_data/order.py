"""Whether data comes in another order in each reading, so that the number of an image says nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from topwork._data.arrays import is_data_set
from topwork._data.data_sets import has_epochs
from topwork._data.digests import digests
from topwork._data.ragged import in_even_parts
from topwork._data.source import Batch, Source
from topwork._errors import warn
from topwork._private_keras import dataset_steps


def is_shuffled_anew(data: Any) -> bool:
    """Whether data is made so that each epoch has an order of its own, as far as that can be seen."""
    if isinstance(data, tf.data.Dataset):
        return any(name == "_ShuffleDataset" for name, *_ in dataset_steps(data))
    if isinstance(data, keras.utils.PyDataset):
        # `shuffle` is what the iterators of older code have.
        return bool(getattr(data, "shuffle", has_epochs(data)))
    return False


def warn_of_order(data: Any, source: Source) -> None:
    """Warn where images have another place in each reading of a source; `data` is what was given."""
    warn_if_reordered(data, lambda: _key(source.first), lambda: _key(next(source.batches(), None)))


def _key(batch: Batch | None) -> bytes | None:
    return None if batch is None else in_even_parts(digests, batch.inputs[:1]).tobytes()


def warn_if_reordered(data: Any, first: Callable[[], Any], again: Callable[[], Any]) -> None:
    """Warn where images have another place in each reading.

    Args:
        data: As the user gave it.
        first: Gives what the first images of a reading are known by.
        again: Gives the same of another reading.
    """
    if is_data_set(data) and _differs(data, first, again):
        warn(
            "the data comes in another order each time that it is read: results and the numbers of "
            "images are in the order of this one reading, and labels of another do not go with them. "
            "Read it with topwork.data.read_folder, or with shuffle=False."
        )


def _differs(data: Any, first: Callable[[], Any], again: Callable[[], Any]) -> bool:
    if isinstance(data, tf.data.Dataset) and is_shuffled_anew(data):
        return True
    return bool(first() != again())
