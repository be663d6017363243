"""Mistakes in a report: images with what they show and what they were taken for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from topwork._figures import thumbnail
from topwork._interpret.texts import image_text
from topwork._names import published


@published
@dataclass(frozen=True, eq=False)
class Mistake:
    """An image taken for what it does not show.

    Attributes:
        index: Its place in the data, counted from 0; of data that is shuffled anew each time that it is
            read, in the reading that it was found in.
        image: Its pixels, as the model received them.
        true: The class it shows.
        predicted: The class it was taken for.
        probability: How sure the model was of that; of an image with several labels, of `label`.
        file: The path of its file, where the data knows it.
        label: Of an image with several labels, the one on which the model is the surest and wrong.
    """

    index: int
    image: npt.NDArray[Any] = field(repr=False)
    true: str
    predicted: str
    probability: float
    file: str | None = None
    label: str | None = None

    def __str__(self) -> str:
        sure = f"{self.label} {self.probability:.1%}" if self.label else f"{self.probability:.1%}"
        name = image_text(self.index, self.file)
        return f"{name}: {self.true}, taken for {self.predicted} ({sure})"

    def cells(self) -> dict[str, str]:
        """The mistake as cells of a table, by the heading of their column."""
        about = {} if self.label is None else {"surest": self.label}
        return {
            **_image_cells(self),
            "shows": self.true,
            "taken for": self.predicted,
            **about,
            "probability": f"{self.probability:.1%}",
        }


@published
@dataclass(frozen=True, eq=False)
class NumberMistake:
    """An image of which a number is far off.

    Attributes:
        index: Its place in the data, counted from 0; of data that is shuffled anew each time that it is
            read, in the reading that it was found in.
        image: Its pixels, as the model received them.
        name: The number in question.
        true: What it is.
        predicted: What the model says.
        file: The path of its file, where the data knows it.
    """

    index: int
    image: npt.NDArray[Any] = field(repr=False)
    name: str
    true: float
    predicted: float
    file: str | None = None

    def __str__(self) -> str:
        name = image_text(self.index, self.file)
        return f"{name}: {self.name} {self.true:.5g}, taken for {self.predicted:.5g}"

    def cells(self) -> dict[str, str]:
        """The mistake as cells of a table, by the heading of their column."""
        return {
            **_image_cells(self),
            "number": self.name,
            "is": f"{self.true:.5g}",
            "taken for": f"{self.predicted:.5g}",
        }


def _image_cells(mistake: Mistake | NumberMistake) -> dict[str, str]:
    file = None if mistake.file is None else Path(mistake.file).name
    return {"": thumbnail(mistake.image), "image": image_text(mistake.index, file)}
