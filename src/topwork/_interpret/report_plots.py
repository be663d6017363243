"""The pictures of reports: a confusion matrix, labels, numbers, and mistakes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from topwork._figures import BLUE, RED, YELLOW, new_figure, picture_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More numbers than this in a row are too small to be read.
_MOST_NUMBERS, _MOST_NAMES = 25, 60
_MOST_PANELS = 9


def plot_confusion(confusion: npt.NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Draw counts as numbers, and the fraction of the row, which is the class shown, as colour."""
    n = len(class_names)
    side = min(2.2 + 0.45 * n, 9)
    figure = new_figure(figsize=(side + 1.2, side))
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if n <= _MOST_NAMES:
        size = "medium" if n <= _MOST_NUMBERS else 5
        angle = 45 if max(map(len, class_names)) > 4 or n > 10 else 0
        axes.set_xticks(
            range(n),
            class_names,
            rotation=angle,
            ha="right" if angle else "center",
            rotation_mode="anchor",
            fontsize=size,
        )
        axes.set_yticks(range(n), class_names, fontsize=size)
    if n <= _MOST_NUMBERS:
        _write_counts(axes, confusion, shares)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.tick_params(length=0)
    figure.colorbar(drawn, label="fraction of the true class", shrink=0.8)
    return figure


def _write_counts(axes: Axes, confusion: npt.NDArray[np.int64], shares: npt.NDArray[Any]) -> None:
    for (row, column), count in np.ndenumerate(confusion):
        color = "white" if shares[row, column] > 0.5 else "0.15"
        size = "medium" if len(confusion) <= 12 else "small"
        if count:
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=size)


def plot_mistakes(mistakes: Sequence[Any], titles: Sequence[str]) -> Figure:
    """Draw pictures in a grid, each with its title above and the name of its file below."""
    pictures = [mistake.image for mistake in mistakes]
    names = [os.path.basename(mistake.file or "") for mistake in mistakes]  # noqa: PTH119
    return picture_grid(pictures, titles, notes=names, nothing="no mistakes")


def plot_label_rows(rows: Sequence[Any], mean: float) -> Figure:
    """Draw precision, recall and average precision of each label, from the top down."""
    n = len(rows)
    figure = new_figure(figsize=(5.6, 1.5 + 0.3 * min(n, _MOST_NAMES)))
    axes = figure.subplots()
    places = np.arange(n)
    # One beside the other where they are the same.
    for name, color, marker, shift in (
        ("average precision", BLUE, "o", 0.0),
        ("precision", RED, ">", -0.2),
        ("recall", YELLOW, "<", 0.2),
    ):
        values = [getattr(row, name.replace(" ", "_")) for row in rows]
        axes.plot(values, places + shift, marker, color=color, label=name, markersize=6)
    axes.axvline(mean, color=BLUE, linewidth=0.8, linestyle="--")
    axes.annotate(
        f"mean {mean:.3f}",
        (mean, 1),
        (2, 2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=BLUE,
        fontsize="small",
    )
    labels = [f"{row.name} ({row.images:,})" for row in rows]
    axes.set_yticks(places, labels, fontsize="medium" if n <= _MOST_NUMBERS else 5)
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylabel("label (images that have it)")
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12), fontsize="small")
    return figure


def plot_numbers(rows: Sequence[Any], targets: npt.NDArray[Any], predictions: npt.NDArray[Any]) -> Figure:
    """Draw what is predicted against what is true, at most nine of the numbers."""
    n = min(len(rows), _MOST_PANELS)
    columns = min(n, 3)
    n_rows = math.ceil(n / columns)
    figure = new_figure(figsize=(3.7 * columns, 3.7 * n_rows))
    grid = figure.subplots(n_rows, columns, squeeze=False)
    for axes in grid.flat[n:]:
        axes.axis("off")
    for k, axes in enumerate(grid.flat[:n]):
        _draw_number(axes, rows[k], targets[:, k], predictions[:, k])
    return figure


def _draw_number(axes: Axes, row: Any, true: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> None:
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    axes.plot(ends, ends, color="0.6", linewidth=1, linestyle="--")
    # The more dots, the smaller and the paler.
    alpha = float(np.clip(40 / math.sqrt(len(true)) / 4, 0.1, 0.7))
    axes.plot(true, predicted, "o", color=BLUE, markersize=4, alpha=alpha, markeredgewidth=0)
    axes.set_aspect("equal", adjustable="datalim")
    r2 = "" if math.isnan(row.r2) else f", R² {row.r2:.3f}"
    axes.set_title(f"{row.name}: mean absolute error {row.mean_absolute_error:.3g}{r2}", fontsize="small")
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
