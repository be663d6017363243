"""What the figures of the package have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Two colours of Paul Tol's bright scheme: told apart by colour-blind readers, and in grey print.
BLUE, RED = "#4477AA", "#EE6677"


def new_figure(caller: str, **options: Any) -> Figure:
    """An empty figure that a notebook shows once.

    Args:
        caller: The public function that draws, for the message.
        **options: For the figure: ``figsize``, in inches.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"{caller} draws with matplotlib, which is not installed. Install it: "
            'pip install "topwork[plots]"'
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
        (height, width, 3), or (height, width) if there is but one channel.
    """
    pixels = np.asarray(image, "float32")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 255:
        pixels = (pixels - low) / (high - low)
        high = 1.0
    scale = 255.0 if high <= 1 else 1.0
    return np.round(pixels * scale).astype("uint8")[..., 0 if pixels.shape[-1] == 1 else slice(3)]
