"""What did it learn, and from what? The course of training, mistakes, wrong labels, where a model looks.

Figures are drawn with matplotlib: ``pip install "topwork[plots]"``. The numbers need nothing.
"""

from __future__ import annotations

from topwork._evidence.suspect_records import Suspect, Suspects
from topwork._evidence.suspects import suspects
from topwork._interpret.calibration import Calibration
from topwork._interpret.class_report import ClassRow, Report
from topwork._interpret.grad_cam import HeatMap, grad_cam
from topwork._interpret.history_plot import plot_history
from topwork._interpret.label_report import LabelRow, LabelsReport
from topwork._interpret.mistakes import Mistake, NumberMistake
from topwork._interpret.naming import name_classes
from topwork._interpret.number_report import NumberRow, NumbersReport
from topwork._interpret.report import report

__all__ = [
    "Calibration",
    "ClassRow",
    "HeatMap",
    "LabelRow",
    "LabelsReport",
    "Mistake",
    "NumberMistake",
    "NumberRow",
    "NumbersReport",
    "Report",
    "Suspect",
    "Suspects",
    "grad_cam",
    "name_classes",
    "plot_history",
    "report",
    "suspects",
]


def __dir__() -> list[str]:
    return list(__all__)
