"""The report on a model for numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from topwork._data.classes import numbers_of
from topwork._evidence.scores import mean_score, r2, r2_error
from topwork._interpret.answers import Answers, worst
from topwork._interpret.listings import Mistakes, report_html, report_text
from topwork._interpret.mistakes import NumberMistake
from topwork._interpret.report_plots import plot_mistakes, plot_numbers
from topwork._interpret.texts import share_texts
from topwork._names import published

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = ("number", "mean absolute error", "± s.e.", "root mean squared error", "R²", "deviation")


@published
@dataclass(frozen=True)
class NumberRow:
    """How well one number is predicted.

    Attributes:
        name: Of the number.
        mean_absolute_error: The mean distance between what is true and what is predicted.
        standard_error: Of the mean absolute error.
        root_mean_squared_error: In it, large mistakes count more.
        r2: The share of the variance that is predicted: 1 is all of it, 0 no better than the mean of
            the true numbers for each image; NaN where these are all the same.
        deviation: The standard deviation of the true numbers: what to compare the errors with.
    """

    name: str
    mean_absolute_error: float
    standard_error: float
    root_mean_squared_error: float
    r2: float
    deviation: float

    def cells(self) -> tuple[str, ...]:
        """The row as the texts of a table."""
        errors = (self.mean_absolute_error, self.standard_error, self.root_mean_squared_error)
        texts = [f"{value:.4g}" for value in errors]
        return (self.name, *texts, *share_texts(self.r2), f"{self.deviation:.4g}")


@published
@dataclass(frozen=True, eq=False)
class NumbersReport:
    """How far a model for numbers is off; prints as text.

    Attributes:
        class_names: The names of the numbers, in the order of the outputs.
        targets: (images, numbers), what is true.
        predictions: (images, numbers), what the model says.
        mistakes: The images whose numbers are the farthest off, the worst first.
    """

    class_names: tuple[str, ...]
    targets: npt.NDArray[np.float64]
    predictions: npt.NDArray[np.float64]
    mistakes: tuple[NumberMistake, ...]

    @property
    def n_images(self) -> int:
        """How many images were looked at."""
        return len(self.targets)

    @property
    def mean_absolute_error(self) -> float:
        """The mean distance between what is true and predicted, over all numbers, as Keras has it."""
        return float(np.abs(self.targets - self.predictions).mean())

    @property
    def r2(self) -> float:
        """The share of the variance that is predicted, the mean over the numbers."""
        return mean_score(r2(self.targets, self.predictions))

    @property
    def standard_error(self) -> float:
        """Of R², by the bootstrap over the images."""
        return r2_error(self.targets, self.predictions)

    @property
    def rows(self) -> tuple[NumberRow, ...]:
        """The errors of each number."""
        distances = np.abs(self.targets - self.predictions)
        columns = (
            distances.mean(axis=0),
            distances.std(axis=0) / np.sqrt(self.n_images),
            np.sqrt(np.square(distances).mean(axis=0)),
            r2(self.targets, self.predictions),
            self.targets.std(axis=0),
        )
        values = np.stack(columns, axis=1).tolist()
        return tuple(NumberRow(name, *row) for name, row in zip(self.class_names, values, strict=True))

    def plot(self) -> Figure:
        """Draw what is predicted against what is true: a dot for each image, a panel for each number.

        Raises:
            ImportError: matplotlib is not installed.
        """
        return plot_numbers(self.rows, self.targets, self.predictions)

    def plot_mistakes(self) -> Figure:
        """Draw the images whose numbers are the farthest off.

        Raises:
            ImportError: matplotlib is not installed.
        """
        titles = [f"{m.name} {m.true:.4g}\n→ {m.predicted:.4g}" for m in self.mistakes]
        return plot_mistakes(self.mistakes, titles)

    def __str__(self) -> str:
        return report_text(*self._parts())

    def _repr_html_(self) -> str:
        return report_html(*self._parts())

    def _parts(self) -> tuple[Any, ...]:
        summary = (
            f"R² {self.r2:.3f} ± {self.standard_error:.3f} (standard error), mean absolute error "
            f"{self.mean_absolute_error:.4g}, {self.n_images:,} images"
        )
        return (summary,), _COLUMNS, self.rows, "farthest off:", self.mistakes


def numbers_report(
    names: tuple[str, ...], answers: Iterable[Answers], _: Any, n_mistakes: int
) -> NumbersReport:
    """Collect what is true and what is predicted."""
    targets, predictions = [], []
    mistakes: list[tuple[Any, NumberMistake]] = []
    for batch in answers:
        true = numbers_of(batch.y, "the data", len(names))
        targets.append(true)
        predictions.append(batch.values)
        # Each number has a unit of its own: distances are compared in standard deviations.
        unit = np.concatenate(targets).std(axis=0)
        unit = np.where(unit > 0, unit, 1)
        distances = np.abs(true - batch.values)
        found = [
            (distances[i], _mistake(batch, int(i), true, distances / unit, names))
            for i in np.flatnonzero(distances.any(axis=1))
        ]
        mistakes = worst(mistakes + found, n_mistakes, lambda pair: float((pair[0] / unit).max()))  # noqa: B023
    collected = np.concatenate(targets), np.concatenate(predictions)
    return NumbersReport(names, *collected, Mistakes(mistake for _, mistake in mistakes))


def _mistake(batch: Answers, i: int, true: Any, distances: Any, names: tuple[str, ...]) -> NumberMistake:
    k = int(distances[i].argmax())
    return NumberMistake(
        batch.first + i,
        batch.images[i],
        names[k],
        float(true[i, k]),
        float(batch.values[i, k]),
        batch.file(i),
    )
