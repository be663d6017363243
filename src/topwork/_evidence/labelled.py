"""The `train` and `validation_data` of a comparison: what can be known before it begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from topwork._data.arrays import is_data_set
from topwork._data.inputs import as_arrays
from topwork._data.origin import in_order
from topwork._data.pairs import refuse_pairs, refuse_place
from topwork._data.randomness import warn_of_randomness
from topwork._data.reading import Batch, Source, open_source
from topwork._errors import InputError, described
from topwork._evidence.tasks import SeenLabels


@dataclasses.dataclass(frozen=True)
class LabelledData:
    """A data set of a comparison.

    Attributes:
        value: (images, labels[, weights]) as arrays, or a data set of batches of them.
        name: For messages.
    """

    value: Any
    name: str

    def check(self, seen: SeenLabels) -> None:
        """Raise, or warn, of what can be known without a model and without reading a data set."""
        self.check_kind()
        seen.trust(self.value)
        labels = self.labels()
        if labels is not None:
            seen.see(labels[0], f"the {self.name}")
        warn_of_randomness(self.value, self.name)

    def check_kind(self) -> None:
        """Raise for what is neither labelled images as arrays nor a data set."""
        refuse_place(self.value, f"the {self.name}")
        refuse_pairs(self.value, 4, f"the {self.name}")
        if isinstance(self.value, (tuple, list)) and self.value:
            refuse_pairs(self.value[0], 4, f"x of the {self.name}")
        is_arrays = isinstance(self.value, (tuple, list)) and len(self.value) in (2, 3)
        if not (is_arrays or isinstance(self.value, dict) or is_data_set(self.value)):
            raise InputError(
                f"the {self.name} must be (images, labels) as arrays, a batched tf.data.Dataset or a "
                f"keras.utils.PyDataset. Received: {described(self.value)}."
            )

    def labels(self) -> tuple[Any] | None:
        """Of arrays; None for a data set, which has to be read for them."""
        return (
            (as_arrays(self.value[1], f"y of the {self.name}"),)
            if isinstance(self.value, (tuple, list))
            else None
        )

    def image_shape(self) -> tuple[int, int, int] | None:
        """(height, width, channels) of images in colour or grey; None if they have not one such shape."""
        shape = tuple(getattr(self._first_images(), "shape", None) or ())[1:]
        shape = (*shape, 1) if len(shape) == 2 else shape
        return shape if len(shape) == 3 and None not in shape and shape[-1] in (1, 3) else None

    def _first_images(self) -> Any:
        if isinstance(self.value, tf.data.Dataset):
            found, labels, _ = keras.utils.unpack_x_y_sample_weight(self.value.element_spec)
            if getattr(labels, "shape", None) == () and hasattr(found, "shape"):
                # Single images, which is said when they are read: not a batch of narrow grey ones.
                return tf.TensorSpec((None, *found.shape), found.dtype)
        elif isinstance(self.value, keras.utils.PyDataset):
            found = keras.utils.unpack_x_y_sample_weight(self.value[0])[0]
        elif callable(self.value):  # a generator function, read when its images are needed
            return None
        elif isinstance(self.value, dict):
            found = self.value
        else:
            found = as_arrays(self.value[0], f"x of the {self.name}")
        return found.get("image") if isinstance(found, dict) else found

    def open(self, model: keras.Model, seen: SeenLabels) -> Source:
        """The data as `model` takes it; labels are checked before anything is computed for a batch.

        In the order of its files where that is known. Other data may have another order in each
        reading: labels go with the features of the same one.
        """
        source = open_source(model, in_order(self.value)[0])

        def batches() -> Iterator[Batch]:
            for batch in source.batches():
                seen.see(batch.y, f"the {self.name}")
                yield batch

        return dataclasses.replace(source, batches=batches)


def check_data(train: LabelledData, validation: LabelledData, task: str | None) -> SeenLabels:
    """Raise, or warn, of what can be known of both without reading data sets.

    Args:
        train: The training data.
        validation: The validation data.
        task: What the labels are; None: what they look like.

    Returns:
        What is known of the labels so far, for reading the rest.
    """
    seen = SeenLabels(task)
    for each in (train, validation):
        each.check(seen)
    a, b = train.labels(), validation.labels()
    if a is not None and b is not None:
        seen.targets(*a, *b)
    return seen
