"""Calibration: whether what a model is 80 % sure of is right in 80 of 100 cases."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from topwork._figures import BLUE, RED, new_figure
from topwork._names import published

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_N_BINS = 15


@published
@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """How far probabilities can be taken at their word, in bins of equal width from 0 to 1.

    Of classes it is about the one that was named, its probability and how often it was right. Of
    labels it is about each label of each image, its probability and how often the image has it.

    Attributes:
        counts: How many answers are in each bin.
        probabilities: The mean probability of those in each bin; NaN if there are none.
        frequencies: The fraction of them that is right; NaN if there are none.
    """

    counts: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    frequencies: npt.NDArray[np.float64]

    def __repr__(self) -> str:
        n_answers, n_bins = self.counts.sum(), len(self.counts)
        return f"Calibration(error={self.error:.3f}, {n_answers:,} answers in {n_bins} bins)"

    @property
    def error(self) -> float:
        """The expected calibration error, the mean of `abs(probability - frequency)` over all answers.

        Source:
            Guo et al., On Calibration of Modern Neural Networks, ICML 2017,
            https://arxiv.org/abs/1706.04599, equation 3, with 15 bins.
        """
        filled = self.counts > 0
        gaps = np.abs(self.probabilities - self.frequencies)[filled]
        return float((gaps * self.counts[filled]).sum() / self.counts.sum())

    def plot(self) -> Figure:
        """Draw the reliability diagram: how often answers are right, against how sure the model is.

        Below, how many answers there are of each probability. A dot under the diagonal: too sure.

        Raises:
            ImportError: matplotlib is not installed.
        """
        figure = new_figure(figsize=(4.2, 4.6))
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        filled = self.counts > 0
        places, heights = self.probabilities[filled], self.frequencies[filled]
        errors = np.sqrt(heights * (1 - heights) / self.counts[filled])
        upper.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="as sure as right")
        upper.vlines(places, places, heights, color=RED, linewidth=3, alpha=0.35)
        upper.errorbar(places, heights, errors, fmt="o-", color=BLUE, markersize=4, linewidth=1.2)
        upper.set_ylabel("fraction that is right")
        upper.set_title(f"expected calibration error {self.error:.3f}", fontsize="medium")
        upper.legend(frameon=False, loc="upper left")
        edges = np.linspace(0, 1, len(self.counts) + 1)
        lower.bar(edges[:-1], self.counts, np.diff(edges), align="edge", color="0.8", edgecolor="white")
        lower.set_xlabel("probability that the model gives")
        lower.set_ylabel("answers")
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
        upper.set_xlim(-0.02, 1.02)
        upper.set_ylim(-0.02, 1.02)
        return figure


def calibration_of(probabilities: Any, is_right: Any) -> Calibration:
    """Sort answers into bins by their probability.

    Args:
        probabilities: Of any shape, from 0 to 1.
        is_right: Likewise, true or false.
    """
    p, right = np.ravel(probabilities), np.ravel(is_right)
    place = np.clip((p * _N_BINS).astype(int), 0, _N_BINS - 1)
    counts = np.bincount(place, minlength=_N_BINS)
    with np.errstate(invalid="ignore"):
        means = np.bincount(place, p, _N_BINS) / counts
        frequencies = np.bincount(place, right, _N_BINS) / counts
    return Calibration(counts.astype("int64"), means, frequencies)


def drawn(calibration: Calibration | None) -> Figure:
    """The diagram of a report's calibration."""
    if calibration is None:
        raise ValueError(
            "plot_calibration() draws probabilities, and this report was made by hand, without any. "
            "Make it with interpret.report(model, data)."
        )
    return calibration.plot()
