"""What the figures of the package have in common."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from topwork._tables import Html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours of Paul Tol's bright scheme: told apart by colour-blind readers, and in grey print.
BLUE, RED, YELLOW = "#4477AA", "#EE6677", "#CCBB44"
# That fit above a picture.
_MOST_LETTERS = 30


def new_figure(**options: Any) -> Figure:
    """An empty figure that a notebook shows once.

    Args:
        **options: For the figure: ``figsize``, in inches.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'figures are drawn with matplotlib, which is not installed: pip install "topwork[plots]"'
        ) from error
    if "inline" in matplotlib.get_backend():
        _let_notebook_show_figures()
    # Not through pyplot, which would keep the figure and show it a second time in a notebook.
    return Figure(layout="constrained", dpi=150, **options)


def _let_notebook_show_figures() -> None:
    """A notebook draws no figure before pyplot has made one."""
    import matplotlib.pyplot as plt

    plt.close(plt.figure())


def displayable(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """A picture of pixels 0-255 out of what a model takes: 0-255, 0-1 or any other range.

    Args:
        image: (height, width, channels).

    Returns:
        (height, width, 3), of more channels the first three; (height, width) of one or two channels,
        the first.
    """
    pixels = np.asarray(image, "float32")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 255:
        pixels = (pixels - low) / (high - low)
        high = 1.0
    scale = 255.0 if high <= 1 else 1.0
    return np.round(pixels * scale).astype("uint8")[..., 0 if pixels.shape[-1] < 3 else slice(3)]


def picture_grid(
    pictures: Sequence[npt.NDArray[Any]],
    titles: Sequence[str],
    *,
    notes: Sequence[str] | None = None,
    columns: int = 4,
    nothing: str = "nothing",
) -> Figure:
    """Pictures in rows, each with its title above.

    Args:
        pictures: (height, width, channels) each, of whatever size.
        titles: One for each.
        notes: To write below each, small.
        columns: In a row, at most.
        nothing: What to write where there is no picture.
    """
    columns = max(min(columns, len(pictures)), 1)
    rows = max(math.ceil(len(pictures) / columns), 1)
    n_lines = max((title.count("\n") for title in titles), default=1)
    figure = new_figure(figsize=(1.9 * columns, (2.1 + 0.2 * n_lines) * rows))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, picture, title, note in zip(grid.flat, pictures, titles, notes or titles, strict=False):
        axes.imshow(displayable(picture), cmap="gray", vmin=0, vmax=255)
        axes.set_title("\n".join(map(_shortened, title.split("\n"))), fontsize="small")
        if notes:
            below = {"transform": axes.transAxes, "ha": "center", "va": "top"}
            axes.text(0.5, -0.02, _shortened(note), **below, fontsize="xx-small", color="0.4")
    if not pictures:
        grid[0, 0].text(0.5, 0.5, nothing, ha="center")
    return figure


def _shortened(text: str) -> str:
    """What is too long for its picture loses its middle: what tells names apart is at their ends."""
    return text if len(text) <= _MOST_LETTERS else f"{text[:12]}…{text[-15:]}"


def png_of(figure: Figure, dpi: int = 100) -> bytes:
    """A figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()


def thumbnail(image: npt.NDArray[Any], side: int = 64) -> Html:
    """A small picture of what a model takes, to stand in a table of HTML.

    Args:
        image: (height, width, channels); nothing is shown of another form.
        side: Pixels of the longer side.
    """
    import tensorflow as tf

    if np.ndim(image) != 3:
        return Html("")
    pixels = displayable(image)
    step = max(1, math.ceil(max(pixels.shape[:2]) / side))
    small = np.ascontiguousarray(pixels[::step, ::step])
    png = tf.io.encode_png(small if small.ndim == 3 else small[..., None]).numpy()
    data = base64.b64encode(png).decode()
    style = f"max-width: none; height: {side}px"
    return Html(f'<img alt="the image" src="data:image/png;base64,{data}" style="{style}">')
