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
from topwork._data.source import Source
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


def warn_of_order(data: Any, first: Callable[[], Any]) -> None:
    """Warn where images have another place in each reading.

    Args:
        data: As the user gave it.
        first: Begins to read it, and gives what its first images are known by.
    """
    if is_data_set(data) and _differs(data, first):
        warn(
            "the data comes in another order each time that it is read: results and the numbers of "
            "images are in the order of this one reading, and labels of another do not go with them. "
            "Read it with topwork.data.read_folder, or with shuffle=False."
        )


def first_of(source: Source) -> Callable[[], Any]:
    """What begins to read a source, for `warn_of_order`."""

    def first() -> Any:
        batch = next(source.batches(), None)
        return None if batch is None else in_even_parts(digests, batch.inputs[:1]).tobytes()

    return first


def _differs(data: Any, first: Callable[[], Any]) -> bool:
    if isinstance(data, tf.data.Dataset) and is_shuffled_anew(data):
        return True
    return bool(first() != first())
