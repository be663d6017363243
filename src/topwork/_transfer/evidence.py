"""What was measured on the way, and what was decided by it: as a table, and as a picture."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Iterator
from typing import Any

from topwork._figures import BLUE, RED, new_figure
from topwork._names import published
from topwork._tables import choice_html, choice_text, html_lines

_MOST_DRAWN = 14


@published
@dataclasses.dataclass(frozen=True)
class Option:
    """One of several things that could have been chosen.

    Attributes:
        name: What it is.
        loss: Of images that it was fitted or trained without: what is chosen by, the lower the better.
        loss_error: Standard error of the difference to the loss of what it is compared with.
        figure: The accuracy on these images; of numbers the mean absolute error.
        figure_error: Its standard error.
        seconds: That it took.
        note: What else there is to say.
    """

    name: str
    loss: float
    loss_error: float
    figure: float
    figure_error: float
    seconds: float
    note: str = ""


@published
@dataclasses.dataclass(frozen=True)
class Decision:
    """A question, what there was to choose from, and what was chosen.

    Attributes:
        question: What was decided.
        judged_on: The images that it was judged on.
        options: In the order that they were tried in.
        chosen: The number of the one that was taken.
        reason: Why, in a sentence.
        figure_name: What `Option.figure` is: `"accuracy"` or `"error"`.
    """

    question: str
    judged_on: str
    options: tuple[Option, ...]
    chosen: int
    reason: str
    figure_name: str = "accuracy"

    @property
    def best(self) -> Option:
        return self.options[self.chosen]

    def __str__(self) -> str:
        return choice_text(self._title, self._header, self._rows, self.chosen, "taken", self.reason)

    def _repr_html_(self) -> str:
        return choice_html(self._title, self._header, self._rows, self.chosen, self.reason)

    @property
    def _title(self) -> str:
        return f"{self.question} (on {self.judged_on})"

    @property
    def _header(self) -> list[str]:
        return ["", "loss", self.figure_name, "± s.e.", "seconds", "cost"]

    @property
    def _rows(self) -> list[list[str]]:
        return [self._cells(option) for option in self.options]

    def _cells(self, option: Option) -> list[str]:
        as_text = _percent if self.figure_name == "accuracy" else "{:.3g}".format
        figures = (as_text(option.figure), as_text(option.figure_error))
        return [option.name, f"{option.loss:.4f}", *figures, f"{option.seconds:.1f}", option.note]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


@published
@dataclasses.dataclass(frozen=True)
class Evidence:
    """All decisions of a call of `transfer`; prints as tables, renders in a notebook, draws itself.

    Attributes:
        decisions: In the order that they were made in.
        result: What the model reaches, in a sentence.
        recipe: The same model by hand: lines of Python.
        left_out: What was not tried, and why.
        seconds: That all of it took.
    """

    decisions: tuple[Decision, ...]
    result: str
    recipe: str
    left_out: tuple[str, ...] = ()
    seconds: float = math.nan

    def __iter__(self) -> Iterator[Decision]:
        return iter(self.decisions)

    def __len__(self) -> int:
        return len(self.decisions)

    def __getitem__(self, index: int) -> Decision:
        return self.decisions[index]

    def __str__(self) -> str:
        parts = [f"{number}. {each}" for number, each in enumerate(self.decisions, start=1)]
        parts += [f"Left out: {each}" for each in self.left_out]
        return "\n\n".join([*parts, self.result, f"The same by hand:\n\n{self.recipe}"])

    def _repr_html_(self) -> str:
        parts = [each._repr_html_() for each in self.decisions]
        parts.append(html_lines(*(f"Left out: {each}" for each in self.left_out)))
        parts += [html_lines(self.result, bold=1), html_lines("The same by hand:")]
        return "".join([*parts, f"<pre>{html.escape(self.recipe)}</pre>"])

    def plot(self) -> Any:
        """Draw for each decision what was measured, and mark what was taken.

        Returns:
            The figure; `.plot().savefig("transfer.pdf")`.

        Raises:
            ImportError: Matplotlib is not installed.
        """
        shown = [_drawn(each) for each in self.decisions]
        heights = [1.1 + 0.26 * len(options) for options in shown]
        longest = max(len(option.name) for options in shown for option in options)
        figure = new_figure(figsize=(4.6 + 0.085 * longest, sum(heights)))
        panels = figure.subplots(len(shown), squeeze=False, height_ratios=heights)[:, 0]
        for axes, decision, options in zip(panels, self.decisions, shown, strict=True):
            _draw(axes, decision, options)
        return figure


def _drawn(decision: Decision) -> list[Option]:
    """The options that a panel has room for: those with the lowest loss, in their order."""
    best = sorted(decision.options, key=lambda option: option.loss)[:_MOST_DRAWN]
    return [o for o in decision.options if o in best or o is decision.best]


def _draw(axes: Any, decision: Decision, options: list[Option]) -> None:
    scale = 100 if decision.figure_name == "accuracy" else 1
    for place, option in enumerate(options):
        taken = option is decision.best
        axes.errorbar(
            scale * option.figure,
            place,
            xerr=scale * option.figure_error,
            fmt="o",
            color=RED if taken else BLUE,
            markerfacecolor=RED if taken else "white",
            markersize=8 if taken else 6,
            capsize=2.5,
            lw=1.2,
        )
    axes.set_yticks(range(len(options)), [option.name for option in options])
    axes.get_yticklabels()[options.index(decision.best)].set_fontweight("bold")
    axes.set_ylim(len(options) - 0.5, -0.5)
    axes.set_title(decision.question, loc="left", fontsize="medium")
    unit = " (%)" if scale == 100 else ""
    what = f"{decision.figure_name}{unit}; the loss decides what is taken"
    axes.set_xlabel(f"{what}\non {decision.judged_on}", fontsize="small")
    axes.grid(axis="x", color="0.85", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
