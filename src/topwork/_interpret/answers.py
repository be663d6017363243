"""What a model answers to labelled images, batch by batch, and from which files they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
import numpy.typing as npt

from topwork._data.checks import Guard
from topwork._data.origin import in_order
from topwork._data.ragged import in_even_parts
from topwork._data.reading import open_source
from topwork._errors import InputError
from topwork._networks.classifier import Task, values_of

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Answers:
    """The answers to one batch.

    Attributes:
        first: The place of its first image in the data.
        images: As the model received them.
        y: Labels as they came.
        values: Probabilities (images, classes or labels), or numbers (images, numbers).
        paths: The files of all images of the data; None where they are not known.
    """

    first: int
    images: Any
    y: Any
    values: npt.NDArray[np.float64]
    paths: Sequence[str] | None

    def file(self, i: Any) -> str | None:
        """The file of the i-th image of the batch."""
        place = self.first + int(i)
        return None if self.paths is None or place >= len(self.paths) else self.paths[place]


def answers_to(model: Any, data: Any, task: Task) -> Iterator[Answers]:
    """Run a model over a data set once."""
    ordered, paths = in_order(data)
    guard = Guard(model, "the data", labelled=False)
    flat = keras.Model(model.inputs, model.outputs[0])  # takes a list, however `model` is called
    n_seen = 0
    for batch in open_source(model, ordered).batches():
        guard.check(batch.inputs, batch.y)
        outputs = in_even_parts(flat.predict_on_batch, batch.inputs)
        _check_finite(outputs, n_seen)
        values = values_of(outputs, task)
        yield Answers(n_seen, batch.inputs[0], batch.y, values, paths)
        n_seen += len(values)
    guard.check_not_empty()


def _check_finite(outputs: Any, n_before: int) -> None:
    values = np.asarray(outputs, "float64")
    if not np.isfinite(values).all():
        first = n_before + int((~np.isfinite(values)).any(axis=1).argmax())
        raise InputError(
            f"the model gives NaN or infinite numbers, first for image {first}. Its weights have "
            "diverged in training, as a rule: build it anew, and train it with a lower learning rate."
        )


def worst(found: list[T], n: int, badness: Callable[[T], float]) -> list[T]:
    """The worst mistakes: only they keep their pixels, for the data may be larger than memory."""
    return sorted(found, key=badness, reverse=True)[: max(n, 0)]
