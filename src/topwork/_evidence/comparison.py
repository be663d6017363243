"""What a comparison found: rows with a score each, as a table, a picture, and the best of them."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, TypeVar

from topwork._figures import new_figure
from topwork._names import published
from topwork._tables import Rows, choice_html, choice_text


class Row(Protocol):
    """What all comparisons know of each of the things that they compare."""

    @property
    def name(self) -> str:
        """What was compared, for the picture."""

    @property
    def group(self) -> str:
        """Rows of one group have one colour in the picture."""

    @property
    def cost(self) -> float:
        """What to have less of, where scores are the same."""

    @property
    def note(self) -> str:
        """The cost, for people."""

    @property
    def score(self) -> float:
        """How good it is on the validation images, the higher, the better."""

    @property
    def metric(self) -> str:
        """What the score is: `"accuracy"` for example."""

    @property
    def standard_error(self) -> float:
        """Of the score."""

    def cells(self) -> dict[str, str]:
        """Texts for a table, by the heading of their column."""


RowType = TypeVar("RowType", bound=Row)


@published
@dataclasses.dataclass(frozen=True)
class Comparison(Rows[RowType]):
    """A comparison; prints as a table, renders in a notebook, draws itself, iterates over its rows.

    Attributes:
        title: What was compared, on what.
        rows: In the order that they were compared in.
        cost_name: What there is to have less of, where scores are the same.
    """

    title: str
    rows: tuple[RowType, ...]
    cost_name: str

    @property
    def top(self) -> RowType:
        """The row with the highest score; of several, the cheapest."""
        return max(self.rows, key=lambda row: (row.score, -row.cost))

    @property
    def best(self) -> RowType:
        """The cheapest row that is not worse than the top one by more than its standard error.

        The one-standard-error rule: what lies within the error was not measured to be better (Breiman,
        Friedman, Olshen and Stone, Classification and Regression Trees, 1984, section 3.4.3).
        """
        enough = self.top.score - self.top.standard_error
        rows = [row for row in self.rows if row.score >= enough]
        return min(rows, key=lambda row: (row.cost, -row.score))

    def __str__(self) -> str:
        best = self.rows.index(self.best)
        return choice_text(self.title, *self._cells(), best, "best", self._reason())

    def _repr_html_(self) -> str:
        best = self.rows.index(self.best)
        return choice_html(self.title, *self._cells(), best, self._reason())

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        return list(self.rows[0].cells()), [list(row.cells().values()) for row in self.rows]

    def _reason(self) -> str:
        best, top = self.best, self.top
        if best is top:
            return f"Best: {self._label(best)}; nothing cheaper is within one standard error of it."
        return (
            f"Best: {self._label(best)}, the cheapest within one standard error "
            f"({score_text(top.metric, top.standard_error)}) of the top, {self._label(top)}."
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the scores with their standard errors.

        Args:
            ax: Matplotlib axes to draw on; None: a new figure.

        Returns:
            The figure; `.plot().savefig("cuts.pdf")`.

        Raises:
            ImportError: Matplotlib is not installed.
        """
        labels = [self._label(row) for row in self.rows]
        axes = _new_axes(labels) if ax is None else ax
        places = range(len(self))
        enough = self.top.score - self.top.standard_error
        scale = _scale(self.top)
        axes.axvspan(scale * enough, scale * self.top.score, color="0.9", lw=0, zorder=0)
        for place, row in zip(places, self.rows, strict=True):
            _draw(axes, place, row, f"C{self._groups.index(row.group)}", is_best=row is self.best)
        axes.set_yticks(places, labels)
        axes.get_yticklabels()[self.rows.index(self.best)].set_fontweight("bold")
        axes.set_ylim(len(self) - 0.5, -0.5)
        axes.set_xlabel(f"{_axis_name(self.top)}\ngrey: within one standard error of the top")
        axes.grid(axis="x", color="0.85", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        _write_notes(axes, self.cost_name, [row.note for row in self.rows])
        return axes.figure

    def _label(self, row: RowType) -> str:
        return f"{row.group}: {row.name}" if len(self._groups) > 1 else row.name

    @property
    def _groups(self) -> list[str]:
        return list(dict.fromkeys(row.group for row in self.rows))


def score_cells(row: Row) -> dict[str, str]:
    """The score and its error, for a table."""
    return {
        row.metric: score_text(row.metric, row.score),
        "± s.e.": score_text(row.metric, row.standard_error),
    }


def score_text(metric: str, value: float) -> str:
    """An accuracy in per cent, other scores as they are."""
    return f"{100 * value:.2f} %" if metric == "accuracy" else f"{value:.3f}"


def _scale(row: Row) -> int:
    return 100 if row.metric == "accuracy" else 1


def _axis_name(row: Row) -> str:
    is_accuracy = row.metric == "accuracy"
    return "validation accuracy (%)" if is_accuracy else f"{row.metric} on the validation images"


def _new_axes(labels: list[str]) -> Any:
    size = (4.9 + 0.08 * max(map(len, labels)), 1.3 + 0.28 * len(labels))
    return new_figure(figsize=size).subplots()


def _draw(axes: Any, place: int, row: Row, colour: str, *, is_best: bool) -> None:
    axes.errorbar(
        _scale(row) * row.score,
        place,
        xerr=_scale(row) * row.standard_error,
        fmt="o",
        color=colour,
        markerfacecolor=colour if is_best else "white",
        markersize=8 if is_best else 6,
        capsize=2.5,
        lw=1.2,
    )


def _write_notes(axes: Any, heading: str, notes: list[str]) -> None:
    """Write a text at the right end of each row, in a margin of its own."""
    corner = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(heading, (1, 1), (6, 2), **corner, color="0.4", fontsize="small")
    right = axes.twinx()
    right.set_ylim(axes.get_ylim())
    right.set_yticks(range(len(notes)), notes, color="0.4", fontsize="small")
    right.tick_params(length=0)
    right.spines[["top", "right", "left"]].set_visible(False)
