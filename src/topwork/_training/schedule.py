"""The arguments of `fit` that say how to train: what they mean, and that they can be right."""

from __future__ import annotations

import dataclasses
import math
import operator
from typing import Any

import keras
import numpy as np

from topwork._data.arrays import is_data_set
from topwork._data.inputs import map_arrays
from topwork._data.reading import DEFAULT_BATCH_SIZE, as_arrays
from topwork._errors import InputError, whole_number
from topwork._networks.arguments import optional_whole
from topwork._voice import check_verbose, resolved


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """Arguments of Keras' `fit`, under their names there."""

    epochs: int
    initial_epoch: int
    batch_size: int | None
    shuffle: bool | str
    callbacks: Any
    class_weight: Any
    steps_per_epoch: int | None
    validation_steps: int | None
    validation_batch_size: int | None
    validation_freq: Any
    verbose: str | int

    def check(self, *, has_validation: bool) -> None:
        """Raise for what cannot be right, or would have no effect."""
        if _whole(self.initial_epoch, 0) is None or _whole(self.epochs, self.initial_epoch + 1) is None:
            raise InputError(
                "epochs is the number of the last epoch, a whole number greater than initial_epoch. "
                f"Received: epochs={self.epochs!r}, initial_epoch={self.initial_epoch!r}."
            )
        for name in ("batch_size", "steps_per_epoch", "validation_steps", "validation_batch_size"):
            optional_whole(name, getattr(self, name), 1)
        if self.shuffle not in (True, False, "batch"):
            raise InputError(f"shuffle must be True, False or 'batch'. Received: {self.shuffle!r}.")
        check_verbose(self.verbose)
        self._check_callbacks()
        self._check_validation(has_validation)

    def _check_callbacks(self) -> None:
        if self.callbacks is None or isinstance(self.callbacks, keras.callbacks.CallbackList):
            return
        for each in keras.tree.flatten(self.callbacks):
            if not isinstance(each, keras.callbacks.Callback):
                is_class = isinstance(each, type) and issubclass(each, keras.callbacks.Callback)
                advice = (
                    f"Make one of the class: {each.__name__}(...)."
                    if is_class
                    else ("keras.callbacks.EarlyStopping(patience=3), for example.")
                )
                raise InputError(
                    f"callbacks are objects of keras.callbacks.Callback, or a list of them. Received: "
                    f"{each!r}. {advice}"
                )

    def _check_validation(self, has_validation: bool) -> None:
        freq = self.validation_freq
        listed = isinstance(freq, (list, tuple, range, set)) and len(freq) > 0
        if not (listed and all(_whole(epoch, 1) for epoch in freq)) and _whole(freq, 1) is None:
            raise InputError(
                "validation_freq must be a whole number of at least 1, or a list of epochs, counted "
                f"from 1. Received: {freq!r}."
            )
        given = {"validation_steps": None, "validation_batch_size": None, "validation_freq": 1}
        idle = [name for name, default in given.items() if getattr(self, name) != default]
        if idle and not has_validation:
            raise InputError(
                f"{idle[0]}={getattr(self, idle[0])!r} says how to validate, and there is nothing "
                "to validate on. Pass validation_data or validation_split, or leave it out."
            )

    def batch_sizes(self, lengths: list[int], in_memory: list[bool]) -> list[int | None]:
        """For training and for validation; None: batches as they came. As Keras chooses them.

        Args:
            lengths: How many images there are, for training, and for validation if it is done.
            in_memory: Whether they are arrays, which have no batches of their own.
        """
        sizes = [self.batch_size, self.validation_batch_size or self.batch_size]
        steps = [self.steps_per_epoch, self.validation_steps]
        chosen = [
            size or (math.ceil(n / each) if each else DEFAULT_BATCH_SIZE)
            for n, size, each in zip(lengths, sizes, steps, strict=False)
        ]
        own = [self.batch_size, None]  # a data set for training is batched anew if that is asked for
        return [a if arrays else b for a, b, arrays in zip(chosen, own, in_memory, strict=False)]

    def for_keras(self) -> dict[str, Any]:
        """The arguments of Keras' `fit` on a data set of batches that shuffles itself."""
        arguments = dict(vars(self), shuffle=False, verbose=resolved(self.verbose))
        del arguments["batch_size"]
        if not isinstance(self.validation_freq, int):
            is_number = hasattr(self.validation_freq, "__index__")
            freq = self.validation_freq
            listed = [] if is_number else [operator.index(epoch) for epoch in freq]
            arguments["validation_freq"] = operator.index(freq) if is_number else listed
        return arguments


def _whole(value: Any, at_least: int) -> int | None:
    """The number, if it is a whole one and large enough."""
    number = whole_number(value)
    return None if number is None or number < at_least else number


def check_fraction(validation_split: Any) -> None:
    """Raise unless `validation_split` is a part of the data."""
    is_number = isinstance(validation_split, (int, float, np.number))
    if isinstance(validation_split, bool) or not is_number or not 0 <= validation_split < 1:
        raise InputError(
            "validation_split is the part of the images that is kept for validation, from 0 to "
            f"under 1. Received: {validation_split!r}."
        )


def last_part(fraction: float, x: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any, Any]:
    """Arrays without their last `fraction`, and what was taken off as validation data.

    The same images as Keras takes, https://keras.io/api/models/model_training_apis/#fit-method.
    """
    if is_data_set(x) or hasattr(x, "__next__"):
        raise InputError(
            f"validation_split takes arrays apart, and x is {type(x).__name__}. Make two data sets, "
            "dataset.take(n) and dataset.skip(n), and pass the second as validation_data."
        )
    names = ("x", "y", "sample_weight")
    arrays = list(map(as_arrays, (x, y, sample_weight), names))
    flat = [array for array in keras.tree.flatten(arrays) if array is not None]
    n_images = len(flat[0])
    at = math.floor(n_images * (1.0 - fraction))
    if at in (0, n_images):
        raise InputError(
            f"validation_split={fraction} of {n_images} images leaves {at} to train on and "
            f"{n_images - at} to validate on. Pass more images, or another part."
        )
    first, last = (
        [map_arrays(operator.itemgetter(part), array) for array in arrays]
        for part in (slice(at), slice(at, None))
    )
    held_out = tuple(last if last[2] is not None else last[:2])
    return (*first, held_out)
