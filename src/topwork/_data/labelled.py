"""Labelled images for a comparison: reading them once, and their classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from topwork._data.randomness import randomness_in
from topwork._data.reading import Batch, Source, open_source
from topwork._errors import warn

Classes = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class LabelledData:
    """The `train` or `validation_data` of a comparison.

    Attributes:
        value: (images, labels) as arrays, or a data set of batches of them.
        name: For messages.
        caller: Likewise.
    """

    value: Any
    name: str
    caller: str = "compare_cuts"

    def check(self) -> None:
        """Raise, or warn, of what can be known without reading the data."""
        self.parts()
        randomness = randomness_in(self.value)
        if randomness is not None:
            warn(
                f"{self.caller}: the {self.name} is augmented at random: it has {randomness}. Each image "
                "is used once, as it happens to come, and not found again in a cache_dir. Pass the "
                "images as they are."
            )
        self.class_numbers()

    def parts(self) -> tuple[Any, ...]:
        """(images, labels[, weights]) as arrays, or the data set alone, as `fit` takes them."""
        if isinstance(self.value, (tf.data.Dataset, keras.utils.PyDataset)):
            return (self.value,)
        if isinstance(self.value, (tuple, list)) and len(self.value) in (2, 3):
            return (self.value[0], *map(np.asarray, self.value[1:]))
        raise ValueError(
            f"{self.caller}: the {self.name} must be (images, labels) as arrays, a batched "
            f"tf.data.Dataset or a keras.utils.PyDataset. Received: {_described(self.value)}."
        )

    def class_numbers(self) -> Classes | None:
        """Of arrays; None for a data set, which has to be read for them."""
        labels = self.parts()[1:]
        return class_numbers(labels[0], self.name) if labels else None

    def image_shape(self) -> tuple[int, int, int] | None:
        """(height, width, 3) of the images; None if they have not one such shape."""
        shape = tuple(getattr(self._first_images(), "shape", None) or ())[1:]
        return shape if len(shape) == 3 and None not in shape and shape[-1] == 3 else None

    def _first_images(self) -> Any:
        if isinstance(self.value, tf.data.Dataset):
            return keras.utils.unpack_x_y_sample_weight(self.value.element_spec)[0]
        if isinstance(self.value, keras.utils.PyDataset):
            return keras.utils.unpack_x_y_sample_weight(self.value[0])[0]
        return np.asarray(self.value[0])

    def open(self, model: keras.Model) -> Source:
        """The data as `model` takes it; labels are checked before anything is computed for a batch."""
        source = open_source(model, *self.parts())

        def batches() -> Iterator[Batch]:
            for batch in source.batches():
                class_numbers(batch.y, self.name)
                yield batch

        return dataclasses.replace(source, batches=batches)


def check_data(train: LabelledData, validation: LabelledData) -> None:
    """Raise, or warn, of what can be known of both without reading data sets."""
    for each in (train, validation):
        each.check()
    labels = train.class_numbers(), validation.class_numbers()
    if labels[0] is not None and labels[1] is not None:
        classes_of(*labels)


def class_numbers(y: Any, name: str) -> Classes:
    """The class of each image, (images,), from class numbers or one-hot labels."""
    if y is None:
        raise ValueError(
            f"compare_cuts: the {name} has no labels. Pass (images, labels), or a data set of batches of "
            "both."
        )
    labels = y
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "biuf" or labels.ndim not in (1, 2):
        raise ValueError(
            "compare_cuts: labels must be class numbers, or one-hot, one for each image. The "
            f"{name} has {_described(labels)}. Number the classes, "
            "np.unique(labels, return_inverse=True)[1]."
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _from_one_hot(labels, name)
    numbers = labels.reshape(len(labels))
    whole = numbers == np.floor(numbers)
    if not whole.all():
        raise ValueError(
            f"compare_cuts: labels must be class numbers, and the {name} has the label "
            f"{numbers[~whole][0]}. "
            "Number the classes, np.unique(labels, return_inverse=True)[1]."
        )
    return numbers.astype(np.int64)


def _from_one_hot(labels: Any, name: str) -> Classes:
    is_one_hot = ((labels == 0) | (labels == 1)).all(axis=1) & (labels.sum(axis=1) == 1)
    if not is_one_hot.all():
        raise ValueError(
            f"compare_cuts: the {name} has labels of shape {labels.shape}, which must be one-hot, a "
            f"single 1 in each row. Received the row: {labels[~is_one_hot][0]}. Images of several "
            "classes have no accuracy to compare by; pass the number of the main class of each."
        )
    return labels.argmax(axis=1)


def classes_of(train: Any, validation: Any) -> tuple[Classes, Classes]:
    """The classes of the images of both, numbered from 0, from their labels."""
    known, train_classes = np.unique(class_numbers(train, "training data"), return_inverse=True)
    if len(known) == 1:
        raise ValueError(
            f"compare_cuts: all images of the training data have the label {known[0]}, and a comparison "
            "needs at least two classes. Is the data sorted by class, and only the beginning of it used?"
        )
    wanted = class_numbers(validation, "validation data")
    unknown = np.setdiff1d(wanted, known)
    if len(unknown):
        raise ValueError(
            f"compare_cuts: the validation data has the label {unknown[0]}, and the training data has "
            f"only {_listed(known)}. Number the classes of both in the same way."
        )
    return train_classes, np.searchsorted(known, wanted)


def _listed(numbers: Any) -> str:
    texts = [str(number) for number in numbers]
    return ", ".join(texts if len(texts) <= 10 else [*texts[:9], f"... {texts[-1]}"])


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    length = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"{type(value).__name__}{length}"
