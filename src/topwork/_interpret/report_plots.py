"""The pictures of a report: its confusion matrix, and its mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from topwork._figures import new_figure, picture_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More numbers than this in a row are too small to be read.
_MOST_NUMBERS, _MOST_NAMES = 25, 60


def plot_confusion(confusion: npt.NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Draw counts as numbers, and the fraction of the row, which is the class shown, as colour."""
    n = len(class_names)
    side = min(2.2 + 0.45 * n, 9)
    figure = new_figure("plot()", figsize=(side + 1.2, side))
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


def plot_mistakes(images: Sequence[npt.NDArray[Any]], titles: Sequence[str]) -> Figure:
    """Draw pictures in a grid, each with its title above."""
    return picture_grid("plot_mistakes()", images, titles, nothing="no mistakes")
