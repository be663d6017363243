"""The report on a model for several labels an image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from topwork._data.classes import multi_hot
from topwork._evidence.scores import (
    average_precision,
    mean_average_precision,
    mean_average_precision_error,
)
from topwork._interpret.answers import Answers, worst
from topwork._interpret.calibration import Calibration, calibration_of
from topwork._interpret.listings import Mistakes, report_html, report_text
from topwork._interpret.mistakes import Mistake
from topwork._interpret.report_plots import plot_label_rows, plot_mistakes
from topwork._interpret.texts import share, share_texts
from topwork._names import published

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = ("label", "precision", "recall", "F1", "average precision", "images")


@published
@dataclass(frozen=True)
class LabelRow:
    """How well one label is recognised.

    Attributes:
        name: Of the label.
        precision: Of the images that the model gives it to, the fraction that has it; NaN if none.
        recall: Of the images that have it, the fraction that the model gives it to; NaN if none.
        f1: The harmonic mean of the two.
        average_precision: The area under precision and recall over all thresholds; NaN if none has it.
        images: How many images have it.
    """

    name: str
    precision: float
    recall: float
    f1: float
    average_precision: float
    images: int

    def cells(self) -> tuple[str, ...]:
        """The row as the texts of a table."""
        shares = share_texts(self.precision, self.recall, self.f1, self.average_precision)
        return (self.name, *shares, f"{self.images:,}")


@published
@dataclass(frozen=True, eq=False)
class LabelsReport:
    """What a model for several labels an image gets right and wrong; prints as text.

    Attributes:
        class_names: The names of the labels, in the order of the outputs.
        shown: (images, labels), whether an image has a label.
        probabilities: (images, labels), what the model gives it.
        thresholds: (labels,), the probability from which a label holds.
        mistakes: The images with the most confident wrong decisions, the worst first.
    """

    class_names: tuple[str, ...]
    shown: npt.NDArray[np.bool_]
    probabilities: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]
    mistakes: tuple[Mistake, ...]

    @property
    def n_images(self) -> int:
        """How many images were looked at."""
        return len(self.shown)

    @property
    def predicted(self) -> npt.NDArray[np.bool_]:
        """Whether each label of each image holds, which means a probability of at least the threshold."""
        return self.probabilities >= self.thresholds

    @property
    def accuracy(self) -> float:
        """The fraction of right decisions, one for each label of each image.

        Where few images have a label, saying no each time is right nearly always: look at
        `mean_average_precision`.
        """
        return float((self.predicted == self.shown).mean())

    @property
    def exact_match(self) -> float:
        """The fraction of images all of whose labels are right."""
        return float((self.predicted == self.shown).all(axis=1).mean())

    @property
    def mean_average_precision(self) -> float:
        """The mean over the labels of the area under precision and recall; it needs no threshold."""
        return mean_average_precision(self.shown, self.probabilities)

    @property
    def standard_error(self) -> float:
        """Of the mean average precision, by the bootstrap over the images."""
        return mean_average_precision_error(self.shown, self.probabilities)

    @property
    def calibration(self) -> Calibration:
        """How far the probabilities can be taken at their word, those of all labels together."""
        return calibration_of(self.probabilities, self.shown)

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, `Calibration.error`."""
        return self.calibration.error

    @property
    def rows(self) -> tuple[LabelRow, ...]:
        """Precision, recall, F1 and average precision of each label."""
        predicted = self.predicted
        hits, taken, shown = (x.sum(axis=0) for x in (predicted & self.shown, predicted, self.shown))
        areas = average_precision(self.shown, self.probabilities)
        return tuple(
            LabelRow(name, share(hit, t), share(hit, s), share(2 * hit, s + t), float(area), int(s))
            for name, hit, t, s, area in zip(self.class_names, hits, taken, shown, areas, strict=True)
        )

    def plot(self) -> Figure:
        """Draw precision, recall and average precision of each label.

        Raises:
            ImportError: matplotlib is not installed.
        """
        return plot_label_rows(self.rows, self.mean_average_precision)

    def plot_mistakes(self) -> Figure:
        """Draw the images with the most confident wrong decisions.

        Raises:
            ImportError: matplotlib is not installed.
        """
        titles = [f"{m.true}\n→ {m.predicted}\n({m.label} {m.probability:.0%})" for m in self.mistakes]
        return plot_mistakes(self.mistakes, titles)

    def plot_calibration(self) -> Figure:
        """Draw the reliability diagram: how often labels are there, against their probability.

        Raises:
            ImportError: matplotlib is not installed.
        """
        return self.calibration.plot()

    def __str__(self) -> str:
        return report_text(*self._parts())

    def _repr_html_(self) -> str:
        return report_html(*self._parts())

    def _parts(self) -> tuple[Any, ...]:
        return self._summary(), _COLUMNS, self.rows, "most confident mistakes:", self.mistakes

    def _summary(self) -> tuple[str, str]:
        low, high = self.thresholds.min(), self.thresholds.max()
        limit = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        return (
            f"mean average precision {self.mean_average_precision:.3f} ± {self.standard_error:.3f} "
            f"(standard error), {self.n_images:,} images",
            f"right decisions {self.accuracy:.2%}, images with all labels right {self.exact_match:.2%} "
            f"(threshold {limit}), expected calibration error {self.calibration_error:.3f}",
        )


def labels_report(
    names: tuple[str, ...], answers: Iterable[Answers], thresholds: Any, n_mistakes: int
) -> LabelsReport:
    """Collect what each label of each image is given."""
    shown, probabilities = [], []
    mistakes: list[Mistake] = []
    for batch in answers:
        has = multi_hot(batch.y, "the data", len(names))
        shown.append(has)
        probabilities.append(batch.values)
        found = [_mistake(batch, i, has[i], names, thresholds) for i in range(len(has))]
        known = [mistake for mistake in found if mistake is not None]
        mistakes = worst(mistakes + known, n_mistakes, lambda mistake: mistake.probability)
    collected = np.concatenate(shown), np.concatenate(probabilities)
    return LabelsReport(names, *collected, thresholds, Mistakes(mistakes))


def _mistake(batch: Answers, i: int, has: Any, names: tuple[str, ...], thresholds: Any) -> Mistake | None:
    """The i-th image, if one of its labels is wrong."""
    given = batch.values[i]
    predicted = given >= thresholds
    wrong = predicted != has
    if not wrong.any():
        return None
    sure = np.where(predicted, given, 1 - given)
    label = int(np.where(wrong, sure, -1).argmax())
    denied = "" if predicted[label] else "no "
    return Mistake(
        batch.first + i,
        batch.images[i],
        _listed(names, has),
        _listed(names, predicted),
        float(sure[label]),
        batch.file(i),
        f"{denied}{names[label]}",
    )


def _listed(names: tuple[str, ...], chosen: Any) -> str:
    return " + ".join(name for name, is_one in zip(names, chosen, strict=True) if is_one) or "nothing"
