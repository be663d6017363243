"""The data arguments of `fit`: training data, validation data, and the weights that depend on both."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from topwork._data.classes import class_numbers
from topwork._data.labels import label_kind
from topwork._data.pixels import warn_of_unlike_pixels
from topwork._data.reading import Source, open_source
from topwork._data.weighting import balanced, class_weights
from topwork._errors import InputError
from topwork._networks.pixel_range import expected_range
from topwork._training.schedule import Schedule, check_fraction, last_part


@dataclasses.dataclass(frozen=True)
class Data:
    """The data arguments of `fit`."""

    x: Any
    y: Any
    sample_weight: Any
    validation_data: Any

    @classmethod
    def of(cls, x: Any, y: Any, sample_weight: Any, validation_data: Any, fraction: float = 0.0) -> Data:
        """The arguments, with `fraction` of arrays taken off as validation data if there is none."""
        check_fraction(fraction)
        if not fraction or validation_data is not None:
            return cls(x, y, sample_weight, validation_data)
        return cls(*last_part(fraction, x, y, sample_weight))

    @property
    def validation(self) -> tuple[Any, ...]:
        """The validation data as images, labels, weights, of which the last may be missing."""
        given = self.validation_data
        return tuple(given) if isinstance(given, (tuple, list)) else (given,)

    def open(
        self, model: keras.Model, steps: int | None = None, validation_steps: int | None = None
    ) -> tuple[Source, Source | None]:
        """Training data and validation data, if there is any, for so many steps where endless."""
        train = open_source(model, self.x, self.y, self.sample_weight, steps=steps)
        if self.validation_data is None:
            return train, None
        if not 0 < len(self.validation) <= 3:
            raise InputError(
                "validation_data is (images, labels[, weights]) or a data set. Received: "
                f"{len(self.validation)} values."
            )
        try:
            validation = open_source(model, *self.validation, steps=validation_steps)
        except InputError as error:
            raise InputError(f"{error} This is about validation_data.") from error
        check_alike(model, train, validation)
        return train, validation


def check_alike(model: keras.Model, train: Source, validation: Source) -> None:
    """Raise if the classes of the two data sets differ, and warn if their pixels do."""
    a, b = train.class_names, validation.class_names
    if a is not None and b is not None and a != b:
        raise InputError(
            f"the classes of the training data are {', '.join(a)}, and those of the validation data "
            f"{', '.join(b)}: the same number would stand for two classes. Read both with class_names="
            f"{list(a)}."
        )
    if expected_range(model) is not None or len(model.inputs) > 1:  # else each is judged by itself
        return
    samples = [source.sample for source in (train, validation)]
    pixels = [np.asarray(each[0]) for each in samples if each is not None and np.ndim(each[0]) == 4]
    if len(pixels) == 2:
        warn_of_unlike_pixels(*pixels)


def weighted(model: keras.Model, train: Source, schedule: Schedule) -> Schedule:
    """The schedule with the weights of classes by their numbers, all that can be known being checked."""
    if schedule.class_weight is None:
        return schedule
    if train.is_in_memory and train.given[2] is not None:
        raise InputError(
            "class_weight and sample_weight cannot be given together for arrays. Multiply them: "
            "sample_weight * class_weights[labels]."
        )
    kind = label_kind(model)
    weights = class_weights(schedule.class_weight, kind, train.class_names)
    if weights == "balanced" and kind is not None:
        batches = (
            class_numbers(batch.y, "the training data", kind.n_classes) for batch in train.batches()
        )
        weights = balanced(np.concatenate(list(batches)), kind.n_classes)
    return dataclasses.replace(schedule, class_weight=weights)
