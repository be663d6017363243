"""`report`: what a classifier gets right and wrong, class by class."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt

from topwork._data.checks import Guard
from topwork._data.classes import class_numbers
from topwork._data.reading import open_source
from topwork._errors import public
from topwork._interpret.report_plots import plot_confusion, plot_mistakes
from topwork._names import published
from topwork._networks.classifier import names_of_classes, probabilities, task_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = ("class", "precision", "recall", "F1", "images")
# A confusion matrix of more classes does not fit on a screen; the largest confusions are listed.
_MOST_CLASSES_IN_A_MATRIX = 12
_LISTED = 5


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
        shares = (self.precision, self.recall, self.f1)
        return (self.name, *("-" if math.isnan(x) else f"{x:.3f}" for x in shares), f"{self.images:,}")


@published
@dataclass(frozen=True, eq=False)
class Mistake:
    """An image taken for what it does not show.

    Attributes:
        index: Its place in the data, counted from 0.
        image: Its pixels, as the model received them.
        true: The class it shows.
        predicted: The class it was taken for.
        probability: How sure the model was of that.
    """

    index: int
    image: npt.NDArray[Any]
    true: str
    predicted: str
    probability: float

    def __str__(self) -> str:
        return f"image {self.index}: {self.true}, taken for {self.predicted} ({self.probability:.1%})"


@published
@dataclass(frozen=True, eq=False)
class Report:
    """What a classifier gets right and wrong; prints as text, renders in a notebook.

    Attributes:
        class_names: The names, in the order of the labels.
        confusion: How many images of each class (rows) were taken for each (columns).
        mistakes: The most confident ones, the worst first.
    """

    class_names: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    mistakes: tuple[Mistake, ...]

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
        """sqrt(p (1 - p) / n) of the accuracy: other images of the same kind give such a difference."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.n_images)

    @property
    def rows(self) -> tuple[ClassRow, ...]:
        """Precision, recall and F1 of each class."""
        right, shown, taken = self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0)
        return tuple(
            ClassRow(name, _share(hit, t), _share(hit, s), _share(2 * hit, s + t), int(s))
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
        return plot_mistakes([mistake.image for mistake in self.mistakes], titles)

    def __str__(self) -> str:
        lines = [self._summary(), "", *_table([_COLUMNS, *(row.cells() for row in self.rows)])]
        lines += ["", *self._confusion_lines()]
        if self.mistakes:
            lines += ["", "most confident mistakes:"]
            lines += [f"  {mistake}" for mistake in self.mistakes[:_LISTED]]
        return "\n".join(lines)

    def _summary(self) -> str:
        return (
            f"accuracy {self.accuracy:.2%} ± {self.standard_error:.2%} (standard error), "
            f"{self.n_images:,} images"
        )

    def _confusion_lines(self) -> list[str]:
        if len(self.class_names) > _MOST_CLASSES_IN_A_MATRIX:
            return ["most frequent confusions:", *self._frequent_confusions()]
        header = ("", *self.class_names)
        body = [
            (name, *map(str, row)) for name, row in zip(self.class_names, self.confusion, strict=True)
        ]
        return ["confusion (rows: shown, columns: taken for)", *_table([header, *body])]

    def _frequent_confusions(self) -> Iterator[str]:
        wrong = self.confusion - np.diag(self.confusion.diagonal())
        for place in np.argsort(-wrong, axis=None, kind="stable")[:_LISTED]:
            true, predicted = np.unravel_index(place, wrong.shape)
            if count := wrong[true, predicted]:
                names = f"{self.class_names[true]}, taken for {self.class_names[predicted]}"
                yield f"  {count:,} times {names}"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row.cells())}</tr>"
            for row in self.rows
        )
        rest = "\n".join(str(self).split("\n\n")[2:])
        return (
            f"<div><b>{self._summary()}</b></div>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<pre>{html.escape(rest)}</pre>"
        )


@public
def report(
    model: Any, data: Any, class_names: Sequence[str] | None = None, *, n_mistakes: int = 16
) -> Report:
    """Find out what a classifier gets right and wrong.

    One pass over the data. The most confident mistakes are worth looking at: among them are wrong
    labels, images of two classes, and what the model looks at instead of the object.

    Args:
        model: A classifier that ends in softmax or in one sigmoid unit.
        data: (images, labels) as arrays, a `tf.data.Dataset` of such batches, or a
            `keras.utils.PyDataset`. Labels are class numbers or one-hot.
        class_names: The names, in the order of the labels; None: ImageNet's for 1000 classes, else
            numbers.
        n_mistakes: How many mistakes to keep, with their images.

    Returns:
        A `Report`: prints as text; ``.accuracy``, ``.rows`` and ``.confusion`` are the numbers;
        ``.plot()`` draws the confusion matrix and ``.plot_mistakes()`` the mistakes.

    Raises:
        ValueError: The model is no classifier of single classes, the names are not as many as the
            classes, the data has no images or no labels, or labels are not of its classes.

    Example:
        >>> import keras, numpy as np, topwork as tw
        >>> ones = keras.layers.Dense(1, "sigmoid", kernel_initializer="ones")
        >>> model = keras.Sequential([keras.Input((1,)), ones])
        >>> x, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 1, 1, 1])
        >>> found = tw.interpret.report(model, (x, y), ["no", "yes"])
        >>> found.accuracy, found.confusion.tolist()
        (0.75, [[1, 0], [1, 2]])
    """
    task = task_of(model)
    names = names_of_classes(class_names, model, task)
    confusion = np.zeros((len(names), len(names)), "int64")
    mistakes: list[Mistake] = []
    n_seen = 0
    guard = Guard(model, "the data", labelled=False)
    flat = keras.Model(model.inputs, model.outputs[0])  # takes a list, however `model` is called
    for batch in open_source(model, data).batches():
        guard.check(batch.inputs, batch.y)
        true = class_numbers(batch.y, "the data", len(names))
        shares = probabilities(flat.predict_on_batch(batch.inputs), task)
        images, predicted = batch.inputs[0], shares.argmax(axis=1)
        np.add.at(confusion, (true, predicted), 1)
        found = [
            Mistake(
                n_seen + int(i), images[i], names[true[i]], names[predicted[i]], shares[i, predicted[i]]
            )
            for i in np.flatnonzero(true != predicted)
        ]
        # Only the worst keep their pixels: the data may be larger than memory.
        mistakes = sorted(mistakes + found, key=lambda m: -m.probability)[: max(n_mistakes, 0)]
        n_seen += len(true)
    guard.check_not_empty()
    return Report(names, confusion, tuple(mistakes))


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else math.nan


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned lines: the first column to the left, the others, numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
