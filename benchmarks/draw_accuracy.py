"""Draws what `accuracy.py` printed: for each network a panel, for each set a row, for each way a mark.

python benchmarks/accuracy.py --material DIR > accuracy.txt
python benchmarks/draw_accuracy.py accuracy.txt what-you-get.png
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

NAMES = {
    "trash": "waste",
    "grocery": "groceries",
    "handsigns": "hand signs",
    "cats_vs_dogs": "cats and dogs",
    "cards": "playing cards",
}
# The ways in the order of the legend: a text that the row has, the label, the mark, the colour.
WAYS = (
    ("the same with `fit`", "hidden layer, constant rate", "o", "#BBBBBB"),
    ("Adam, `OneCycle`", "hidden layer, OneCycle", "s", "#4477AA"),
    ("`fit_head`", "fit_head", "D", "#228833"),
    ("`transfer`, no fine-tuning", "transfer", "*", "#EE6677"),
)
_FIGURES = re.compile(r"([\d.]+)(?: \(([\d.]+) to ([\d.]+)\))?")


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    found = read(source.read_text("utf-8"))
    networks = list(dict.fromkeys(network for network, _, _ in found))
    sets = [name for name in NAMES if any(name == each for _, each, _ in found)]
    figure = Figure(figsize=(max(7.5, 3.4 * len(networks) + 1.2), 3.2), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(networks), sharex=True, sharey=True, squeeze=False)[0]
    for axes, network in zip(panels, networks, strict=True):
        draw(axes, network, sets, found)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(WAYS), frameon=False)
    figure.savefig(target)


def read(text: str) -> dict[tuple[str, str, str], tuple[float, ...]]:
    """By network, set and way: the accuracy, and its lowest and highest over the seeds."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        figures = _FIGURES.match(cells[3]) if len(cells) == 6 else None
        if figures and cells[1] in NAMES and cells[2] in [way for way, *_ in WAYS]:
            mean, low, high = (float(each or figures[1]) for each in figures.groups())
            found[cells[0], cells[1], cells[2]] = (mean, low, high)
    return found


def draw(axes: Any, network: str, sets: list[str], found: dict[tuple[str, str, str], Any]) -> None:
    for number, (way, label, mark, colour) in enumerate(WAYS):
        places = [(place, found.get((network, name, way))) for place, name in enumerate(sets)]
        known = [(place + 0.13 * (number - 1.5), figures) for place, figures in places if figures]
        means = [100 * figures[0] for _, figures in known]
        below = [100 * (figures[0] - figures[1]) for _, figures in known]
        above = [100 * (figures[2] - figures[0]) for _, figures in known]
        axes.errorbar(
            means,
            [place for place, _ in known],
            xerr=[below, above],
            fmt=mark,
            color=colour,
            label=label,
            markersize=9 if mark == "*" else 5,
            lw=1.2,
        )
    axes.set_yticks(range(len(sets)), [NAMES[name] for name in sets])
    axes.set_ylim(len(sets) - 0.5, -0.5)
    axes.set_title(network)
    axes.set_xlabel("test accuracy (%)")
    axes.grid(axis="x", color="0.85", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
