"""Mistakes in the data that would spoil training without an error message."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from topwork._data.label_checks import LabelCheck
from topwork._data.labels import LabelKind as LabelKind
from topwork._data.labels import label_kind as label_kind
from topwork._data.pixels import warn_of_scaled_pixels as warn_of_scaled_pixels
from topwork._data.ragged import even_parts
from topwork._data.source import Source
from topwork._data.weighting import check_sample_weight
from topwork._errors import InputError
from topwork._networks.pixel_range import expected_range


class Guard:
    """Looks at each batch of a data set, before anything is trained on it.

    Args:
        model: Says what pixels and labels it takes.
        data_name: For messages: ``"the training data"``.
        labelled: Whether labels and weights are looked at too.
        warns: Whether to warn of pixels of another range than the model expects.
        raises: False where all was looked through already.
    """

    def __init__(
        self,
        model: keras.Model,
        data_name: str,
        *,
        labelled: bool = True,
        warns: bool = True,
        raises: bool = True,
    ) -> None:
        self._data_name, self._raises = data_name, raises
        self._input_names = [tensor.name for tensor in model.inputs]
        self._range = expected_range(model) if warns else None
        self._labels = LabelCheck(model) if labelled and raises else None
        self.n_seen = 0

    def check(self, inputs: list[Any], y: Any, sample_weight: Any = None) -> None:
        """Raise for pixels, labels or weights that cannot be trained on; warn of pixels, once."""
        for part, _ in even_parts(inputs):
            self._check_pixels(part)
        n_images = next(len(array) for array in inputs if array is not None)
        if self._labels is not None:
            self._labels.check(y, sample_weight, self._data_name, self.n_seen, n_images)
            check_sample_weight(sample_weight, self._data_name)
        self.n_seen += n_images

    def look_through(self, source: Source) -> Source:
        """The data, after all of what is in memory was checked, and of other data the first batch."""
        if self._labels is not None and not source.is_in_memory:
            self._labels.check_known(source, self._data_name)
        first = [] if source.first is None else [source.first]
        for batch in source.batches() if source.is_in_memory else first:
            self.check(batch.inputs, batch.y, batch.sample_weight)
        self.check_not_empty()
        if self._labels is not None and source.is_in_memory:
            self._labels.warn_of_others(source.given[1], self._data_name)
        return dataclasses.replace(source, is_checked=True) if source.is_in_memory else source

    def check_not_empty(self) -> None:
        """Raise if no image has been seen."""
        if self.n_seen == 0:
            raise InputError(f"{self._data_name} has no images. Look at how the data set is made.")

    def _check_pixels(self, inputs: list[Any]) -> None:
        for name, array in zip(self._input_names, inputs, strict=True):
            if array is not None and self._raises:
                self._check_finite(name, array)
        # A black image tells nothing: the first batch with anything else in it decides.
        if self._range is not None and inputs[0].any():
            warn_of_scaled_pixels(inputs[0], self._range, self._data_name)
            self._range = None

    def _check_finite(self, name: str, array: Any) -> None:
        if array.dtype.kind != "f" or np.isfinite(array).all():
            return
        bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        first = self.n_seen + int(bad.argmax())
        raise InputError(
            f"{self._data_name} has pixels that are NaN or infinite, in input {name!r}, first in "
            f"image {first} (counted from 0). Find out where they come from, a division by zero for "
            "example, and leave such images out."
        )
