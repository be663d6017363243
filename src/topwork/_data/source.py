"""What every kind of data becomes: batches of arrays, paired, as the model takes them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from topwork._data.inputs import input_names, inputs_of, map_arrays
from topwork._data.ragged import array_of, even_parts
from topwork._errors import InputError


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images of one batch as a list of arrays, one for each input of the model, with what they are.

    An optional input that was left out is None; images of several sizes are an array of arrays.
    """

    inputs: list[Any]
    y: Any
    sample_weight: Any

    def __len__(self) -> int:
        return len(next(array for array in self.inputs if array is not None))


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set that can be read.

    Attributes:
        batches: Reads it from its beginning.
        n_batches: How many batches there are, None where that is not known before.
        is_in_memory: Whether reading costs next to nothing.
        given: Images (or a data set), labels and sample weights as `model.fit` takes them.
        images: The arrays of images, or the data set, as the user gave them.
        only_plainly: Why its images cannot be computed once: "the data set ..."; None where they can.
        is_checked: Whether all of it was looked through already.
        is_endless: Whether what was given repeats without end what `batches` reads once.
        class_names: The names of the classes, where the data set has them.
    """

    batches: Callable[[], Iterator[Batch]]
    n_batches: int | None
    is_in_memory: bool = False
    given: tuple[Any, Any, Any] = (None, None, None)
    images: tuple[Any, ...] = ()
    only_plainly: str | None = None
    is_checked: bool = False
    is_endless: bool = False
    class_names: tuple[str, ...] | None = None

    @functools.cached_property
    def first(self) -> Batch | None:
        """The first batch, read once for all that is asked of it; None of a data set without any."""
        return next(self.batches(), None)

    @property
    def sample(self) -> list[Any] | None:
        """The inputs of a few images of one size; None of a data set without any."""
        return None if self.first is None else next(even_parts(self.first.inputs))[0]

    @functools.cached_property
    def n_images_at_least(self) -> int | None:
        """How many images there are, judged by the first batch; None where there is no telling."""
        if self.n_batches is None:
            return None
        return 0 if self.first is None else (self.n_batches - 1) * len(self.first) + 1


def unpacked(
    model: keras.Model, x: Any, y: Any = None, sample_weight: Any = None
) -> tuple[Any, Any, Any]:
    """Images, labels and weights, also of (images, labels) or {"image": ..., "label": ...} as `x`."""
    if y is not None or sample_weight is not None:
        return x, y, sample_weight
    names = input_names(model)
    if isinstance(x, dict):
        label = next((key for key in ("label", "labels") if key in x and key not in names), None)
        images = x if set(names) <= set(x) else x.get("image", x.get("images"))
        return (x, None, None) if label is None or images is None else (images, x[label], None)
    is_list = isinstance(x, (tuple, list)) and len(x) in (2, 3)
    if is_list and (len(names) == 1 or isinstance(x[0], (tuple, list, dict))):
        return (*x, None)[:3]
    return x, None, None


def unpacked_element(model: keras.Model, element: Any) -> tuple[Any, Any, Any]:
    """Likewise of a batch of a data set, in which (a, b) always are images and labels."""
    if isinstance(element, dict):
        return unpacked(model, element)
    parts: tuple[Any, Any, Any] = keras.utils.unpack_x_y_sample_weight(element)
    return parts


def paired_batches(model: keras.Model, elements: Iterable[Any]) -> Iterator[Batch]:
    """The batches that the elements of a data set are; raise where images and labels do not pair up."""
    return numbered_batches(model, enumerate(elements))


def numbered_batches(model: keras.Model, elements: Iterable[tuple[int, Any]]) -> Iterator[Batch]:
    """Likewise of elements with the number that each has in the data set, in whatever order they come."""
    first: Batch | None = None
    for number, element in elements:
        batch = _batch(model, element)
        check_lengths(batch, f"batch {number} (counted from 0)")
        first = first or batch
        for name in ("y", "sample_weight"):
            if _structure(getattr(batch, name)) != _structure(getattr(first, name)):
                raise InputError(
                    f"all batches must have the same parts: {_PARTS[name]} of batch {number} (counted "
                    f"from 0) are {_described(getattr(batch, name))}, and those of the first batch are "
                    f"{_described(getattr(first, name))}."
                )
        yield batch


_PARTS = {"y": "the labels", "sample_weight": "the sample weights"}


def _batch(model: keras.Model, element: Any) -> Batch:
    x, y, sample_weight = unpacked_element(model, element)
    y, sample_weight = (
        keras.tree.lists_to_tuples(map_arrays(array_of, part)) for part in (y, sample_weight)
    )
    return Batch(inputs_of(model, x), y, sample_weight)


def check_lengths(batch: Batch, subject: str) -> None:
    """Raise unless there is a label and a weight for each image, and an image for each."""
    n_images = len(batch)
    for name, part in (("y", batch.y), ("sample_weight", batch.sample_weight), ("x", batch.inputs)):
        for array in keras.tree.flatten(part):
            length = n_images if array is None else len(array) if array.ndim else "a single value"
            if length != n_images:
                raise InputError(
                    f"{subject} has {n_images} images, and {name} has {length}. Each image needs one."
                )


def joined(batches: Sequence[Batch], name: str) -> Any:
    """All `"y"` or all `"sample_weight"` of batches, in the structure that they have in each."""
    parts = [getattr(batch, name) for batch in batches]
    if not parts or parts[0] is None:
        return None
    return keras.tree.map_structure(
        lambda *arrays: None if arrays[0] is None else np.concatenate(arrays), *parts
    )


def _structure(part: Any) -> Any:
    return keras.tree.map_structure(lambda leaf: None if leaf is None else 0, part)


def _described(part: Any) -> str:
    if part is None:
        return "missing"
    is_dict = isinstance(part, dict)
    return f"a {type(part).__name__} of {', '.join(part) if is_dict else len(part)}"
