"""`plot_history`: the course of training, all phases on one axis."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from topwork._errors import InputError, public
from topwork._figures import BLUE, RED, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Phase = Mapping[str, Sequence[float]]


@public
def plot_history(*histories: Any, labels: Sequence[str] | None = None) -> Figure:
    """Draw accuracy and loss over the epochs of one training, or of several phases of one.

    All phases are on one axis of epochs, counted from 1, with a line between two phases. So you see at
    once what fine-tuning changed.

    Args:
        *histories: What ``fit`` returned, one for each phase in their order; or the ``history``
            dict of it.
        labels: A name for each phase, ``["head", "fine-tuning"]``. None: ``phase 1``, ``phase 2``.

    Returns:
        A matplotlib figure. A notebook shows it; elsewhere use ``.savefig("history.png")``.

    Raises:
        ValueError: There is no history, one without an epoch, or not a label for each.
        ImportError: matplotlib is not installed.

    Example:
        >>> import topwork as tw
        >>> head = {"accuracy": [0.6, 0.8], "loss": [0.7, 0.4]}
        >>> tuned = {"accuracy": [0.9, 0.9], "loss": [0.3, 0.2]}
        >>> figure = tw.interpret.plot_history(head, tuned, labels=["head", "fine-tuning"])
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['accuracy', 'loss']
    """
    phases = [_phase(history) for history in histories]
    if not phases:
        raise InputError(
            "there is no history. Keep what fit returns, history = tw.fit(...), and give it: "
            "plot_history(history)."
        )
    names = _labels(labels, len(phases))
    quantities = _quantities(phases)
    figure = new_figure(figsize=(4.8 * len(quantities), 3.4))
    for axes, quantity in zip(
        figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True
    ):
        _draw_curves(axes, quantity, phases)
        _draw_borders(axes, phases, names)
    return figure


def _phase(history: Any) -> Phase:
    phase = getattr(history, "history", history)
    if not isinstance(phase, Mapping) or not any(phase.values()):
        raise InputError(
            "a history is what fit returned, of at least one epoch, or the dict in its "
            f".history. Received: {history!r}. Give one for each phase: plot_history(head, tuned)."
        )
    return phase


def _labels(labels: Sequence[str] | None, n_phases: int) -> Sequence[str]:
    if labels is None:
        return [f"phase {number}" for number in range(1, n_phases + 1)]
    if isinstance(labels, str) or len(labels) != n_phases:
        raise InputError(
            f"labels has a name for each of the {n_phases} histories. Received: {labels!r}. Give a list "
            f"of {n_phases}, or none."
        )
    return labels


def _quantities(phases: Sequence[Phase]) -> list[str]:
    """What was measured, the loss last: accuracy is what people look for."""
    names = dict.fromkeys(name.removeprefix("val_") for phase in phases for name in phase)
    return sorted((name for name in names if name != "learning_rate"), key="loss".__eq__)


def _draw_curves(axes: Axes, quantity: str, phases: Sequence[Phase]) -> None:
    for label, name, color in (
        ("training", quantity, BLUE),
        ("validation", f"val_{quantity}", RED),
    ):
        epochs, values = _joined(name, phases)
        if values:
            axes.plot(epochs, values, "o-", label=label, color=color, markersize=3, linewidth=1.5)
    axes.set_xlabel("epoch")
    axes.set_ylabel(quantity.replace("_", " "))
    axes.locator_params(axis="x", integer=True)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _joined(name: str, phases: Sequence[Phase]) -> tuple[list[int], list[float]]:
    epochs: list[int] = []
    values: list[float] = []
    for before, phase in zip(_starts(phases), phases, strict=False):
        measured = phase.get(name, [])
        # validation_freq=2 measures in each second epoch only.
        step = _length(phase) // max(len(measured), 1)
        epochs += [before + step * number for number in range(1, len(measured) + 1)]
        values += measured
    return epochs, values


def _draw_borders(axes: Axes, phases: Sequence[Phase], labels: Sequence[str]) -> None:
    """Lines between the phases, and above the curves, where nothing is crossed, their names."""
    if len(phases) == 1:
        return
    edges = [start + 0.5 for start in _starts(phases)]
    axes.set_xlim(edges[0], edges[-1])
    for border in edges[1:-1]:
        axes.axvline(border, color="0.45", linestyle="--", linewidth=1)
    for (left, right), label in zip(itertools.pairwise(edges), labels, strict=True):
        axes.text(
            (left + right) / 2,
            1.02,
            label,
            transform=axes.get_xaxis_transform(),
            ha="center",
            fontsize="small",
            color="0.3",
        )


def _starts(phases: Sequence[Phase]) -> list[int]:
    """How many epochs there were before each phase, and after the last."""
    return list(itertools.accumulate(map(_length, phases), initial=0))


def _length(phase: Phase) -> int:
    return max(map(len, phase.values()))
