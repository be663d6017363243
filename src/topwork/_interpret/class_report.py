"""The report on a classifier: what it gets right and wrong, class by class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from topwork._data.classes import class_numbers
from topwork._evidence.scores import standard_error
from topwork._interpret.answers import Answers, worst
from topwork._interpret.calibration import Calibration, calibration_of, drawn
from topwork._interpret.listings import LISTED, Mistakes, report_html, report_text
from topwork._interpret.mistakes import Mistake
from topwork._interpret.report_plots import plot_confusion, plot_mistakes
from topwork._interpret.texts import share, share_texts
from topwork._names import published
from topwork._tables import Html, html_lines, html_table, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = ("class", "precision", "recall", "F1", "images")
# A confusion matrix of more classes does not fit on a screen; the largest confusions are listed.
_MOST_CLASSES_IN_A_MATRIX = 12


@published
@dataclass(frozen=True)
class ClassRow:
    """How well one class is recognised.

    Attributes:
        name: Of the class.
        precision: Of the images taken for it, the fraction that shows it; NaN if there are none.
        recall: Of its images, the fraction recognised; NaN if there are none.
        f1: The harmonic mean of the two.
        images: How many images of it there are.
    """

    name: str
    precision: float
    recall: float
    f1: float
    images: int

    def cells(self) -> tuple[str, ...]:
        """The row as the texts of a table."""
        shares = share_texts(self.precision, self.recall, self.f1)
        return (self.name, *shares, f"{self.images:,}")


@published
@dataclass(frozen=True, eq=False)
class Report:
    """What a classifier gets right and wrong; prints as text, renders in a notebook.

    Attributes:
        class_names: The names, in the order of the labels.
        confusion: How many images of each class (rows) were taken for each (columns).
        mistakes: The most confident ones, the worst first.
        calibration: How far its probabilities can be taken at their word.
    """

    class_names: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    mistakes: tuple[Mistake, ...]
    calibration: Calibration | None = None

    @property
    def n_images(self) -> int:
        """How many images were looked at."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The fraction of images recognised."""
        return float(self.confusion.trace() / self.n_images)

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the classes' recalls, each class counted alike; those without an image left out."""
        shown = self.confusion.sum(axis=1)
        return float((self.confusion.diagonal()[shown > 0] / shown[shown > 0]).mean())

    @property
    def standard_error(self) -> float:
        """How much the accuracy differs on other images of the same kind, `sqrt(p (1 - p) / n)`."""
        return standard_error(self.accuracy, self.n_images)

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, `Calibration.error`: 0.05 is 5 points off in the mean."""
        return math.nan if self.calibration is None else self.calibration.error

    @property
    def rows(self) -> tuple[ClassRow, ...]:
        """Precision, recall and F1 of each class."""
        right, shown, taken = self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0)
        return tuple(
            ClassRow(name, share(hit, t), share(hit, s), share(2 * hit, s + t), int(s))
            for name, hit, s, t in zip(self.class_names, right, shown, taken, strict=True)
        )

    def plot(self) -> Figure:
        """Draw the confusion matrix: counts as numbers, the fraction of the row as colour.

        Raises:
            ImportError: matplotlib is not installed.
        """
        return plot_confusion(self.confusion, self.class_names)

    def plot_mistakes(self) -> Figure:
        """Draw the most confident mistakes, with what they show and what they were taken for.

        Raises:
            ImportError: matplotlib is not installed.
        """
        titles = [f"{m.true}\n→ {m.predicted} {m.probability:.0%}" for m in self.mistakes]
        return plot_mistakes(self.mistakes, titles)

    def plot_calibration(self) -> Figure:
        """Draw the reliability diagram: how often answers are right, against how sure the model is.

        Raises:
            ValueError: The report was made without probabilities.
            ImportError: matplotlib is not installed.
        """
        return drawn(self.calibration)

    def __str__(self) -> str:
        return report_text(*self._parts(), between=["", *self._confusion_lines()])

    def _parts(self) -> tuple[Any, ...]:
        return self._summary(), _COLUMNS, self.rows, "most confident mistakes:", self.mistakes

    def _summary(self) -> tuple[str, str]:
        known = self.calibration is not None
        calibration = f", expected calibration error {self.calibration_error:.3f}" if known else ""
        return (
            f"accuracy {self.accuracy:.2%} ± {self.standard_error:.2%} (standard error), "
            f"{self.n_images:,} images",
            f"balanced accuracy {self.balanced_accuracy:.2%}{calibration}",
        )

    def _confusion_lines(self) -> list[str]:
        if len(self.class_names) > _MOST_CLASSES_IN_A_MATRIX:
            return ["most frequent confusions:", *self._frequent_confusions()]
        header = ("", *self.class_names)
        body = [
            (name, *map(str, row)) for name, row in zip(self.class_names, self.confusion, strict=True)
        ]
        return ["confusion (rows: shown, columns: taken for)", *text_table(header, body)]

    def _frequent_confusions(self) -> Iterator[str]:
        wrong = self.confusion - np.diag(self.confusion.diagonal())
        for place in np.argsort(-wrong, axis=None, kind="stable")[:LISTED]:
            true, predicted = np.unravel_index(place, wrong.shape)
            if count := wrong[true, predicted]:
                names = f"{self.class_names[true]}, taken for {self.class_names[predicted]}"
                yield f"  {count:,} times {names}"

    def _repr_html_(self) -> str:
        return report_html(*self._parts(), between=self._confusion_html())

    def _confusion_html(self) -> str:
        if len(self.class_names) > _MOST_CLASSES_IN_A_MATRIX:
            return html_lines("most frequent confusions:", *self._frequent_confusions())
        rows = [
            (name, *(Html(f"<b>{n}</b>") if i == j else str(n) for j, n in enumerate(counts)))
            for i, (name, counts) in enumerate(zip(self.class_names, self.confusion, strict=True))
        ]
        table = html_table(("shown \\ taken for", *self.class_names), rows)
        return html_lines("confusion (rows: shown, columns: taken for)") + table


def class_report(
    names: tuple[str, ...], answers: Iterable[Answers], threshold: Any, n_mistakes: int
) -> Report:
    """Count what is recognised.

    Args:
        names: Of the classes.
        answers: Probabilities (images, classes), with labels.
        threshold: The probability from which the second of two classes is named; None: the likeliest.
        n_mistakes: How many to keep.
    """
    confusion = np.zeros((len(names), len(names)), "int64")
    mistakes: list[Mistake] = []
    sure, right = [], []
    for batch in answers:
        true = class_numbers(batch.y, "the data", len(names))
        predicted = _named(batch.values, threshold)
        shares = np.take_along_axis(batch.values, predicted[:, None], axis=1)[:, 0]
        np.add.at(confusion, (true, predicted), 1)
        sure.append(shares)
        right.append(predicted == true)
        found = [
            Mistake(
                batch.first + int(i),
                batch.images[i],
                names[true[i]],
                names[predicted[i]],
                float(shares[i]),
                batch.file(i),
            )
            for i in np.flatnonzero(true != predicted)
        ]
        mistakes = worst(mistakes + found, n_mistakes, lambda mistake: mistake.probability)
    calibration = calibration_of(np.concatenate(sure), np.concatenate(right))
    return Report(names, confusion, Mistakes(mistakes), calibration)


def _named(probabilities: npt.NDArray[Any], threshold: Any) -> npt.NDArray[np.int64]:
    if threshold is None:
        return probabilities.argmax(axis=1)
    return (probabilities[:, 1] >= threshold).astype("int64")
