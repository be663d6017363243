"""What did it learn? The course of training, the mistakes, and where a model looks.

Figures are drawn with matplotlib: ``pip install "topwork[plots]"``. The numbers need nothing.
"""

from __future__ import annotations

from topwork._history_plot import plot_history

__all__ = ["plot_history"]
