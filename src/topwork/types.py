"""The classes of what the functions return: for annotations, `isinstance`, and pickles.

They stay here, wherever they are defined. Nothing heavy is imported before one is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topwork._data.bad_images import BadImage as BadImage
    from topwork._evidence.boundaries import BoundaryRow as BoundaryRow
    from topwork._evidence.comparison import Comparison as Comparison
    from topwork._evidence.cuts import CutRow as CutRow
    from topwork._evidence.duplicate_records import Copy as Copy
    from topwork._evidence.duplicate_records import Duplicate as Duplicate
    from topwork._evidence.duplicate_records import Duplicates as Duplicates
    from topwork._evidence.suspect_records import Suspect as Suspect
    from topwork._evidence.suspect_records import Suspects as Suspects
    from topwork._interpret.calibration import Calibration as Calibration
    from topwork._interpret.class_report import ClassRow as ClassRow
    from topwork._interpret.class_report import Report as Report
    from topwork._interpret.grad_cam import HeatMap as HeatMap
    from topwork._interpret.label_report import LabelRow as LabelRow
    from topwork._interpret.label_report import LabelsReport as LabelsReport
    from topwork._interpret.listings import Mistakes as Mistakes
    from topwork._interpret.listings import Predictions as Predictions
    from topwork._interpret.mistakes import Mistake as Mistake
    from topwork._interpret.mistakes import NumberMistake as NumberMistake
    from topwork._interpret.number_report import NumberRow as NumberRow
    from topwork._interpret.number_report import NumbersReport as NumbersReport
    from topwork._interpret.predict import Prediction as Prediction
    from topwork._networks.describe import LayerRow as LayerRow
    from topwork._networks.describe import LayerTable as LayerTable
    from topwork._networks.heads import Head as Head
    from topwork._store.inventory import CollectionInfo as CollectionInfo
    from topwork._store.inventory import Pruned as Pruned
    from topwork._store.inventory import StoreInfo as StoreInfo
    from topwork._store.store import Store as Store
    from topwork._training.learning_rate import RangeTest as RangeTest
    from topwork._transfer.evidence import Decision as Decision
    from topwork._transfer.evidence import Evidence as Evidence
    from topwork._transfer.evidence import Option as Option
    from topwork._transfer.transfer import Transferred as Transferred

_DEFINED_IN = {
    "BadImage": "_data.bad_images",
    "BoundaryRow": "_evidence.boundaries",
    "Calibration": "_interpret.calibration",
    "ClassRow": "_interpret.class_report",
    "CollectionInfo": "_store.inventory",
    "Comparison": "_evidence.comparison",
    "Copy": "_evidence.duplicate_records",
    "CutRow": "_evidence.cuts",
    "Decision": "_transfer.evidence",
    "Duplicate": "_evidence.duplicate_records",
    "Duplicates": "_evidence.duplicate_records",
    "Evidence": "_transfer.evidence",
    "Head": "_networks.heads",
    "HeatMap": "_interpret.grad_cam",
    "LabelRow": "_interpret.label_report",
    "LabelsReport": "_interpret.label_report",
    "LayerRow": "_networks.describe",
    "LayerTable": "_networks.describe",
    "Mistake": "_interpret.mistakes",
    "Mistakes": "_interpret.listings",
    "NumberMistake": "_interpret.mistakes",
    "NumberRow": "_interpret.number_report",
    "NumbersReport": "_interpret.number_report",
    "Option": "_transfer.evidence",
    "Prediction": "_interpret.predict",
    "Predictions": "_interpret.listings",
    "Pruned": "_store.inventory",
    "RangeTest": "_training.learning_rate",
    "Report": "_interpret.class_report",
    "Store": "_store.store",
    "StoreInfo": "_store.inventory",
    "Suspect": "_evidence.suspect_records",
    "Suspects": "_evidence.suspect_records",
    "Transferred": "_transfer.transfer",
}

__all__ = [
    "BadImage",
    "BoundaryRow",
    "Calibration",
    "ClassRow",
    "CollectionInfo",
    "Comparison",
    "Copy",
    "CutRow",
    "Decision",
    "Duplicate",
    "Duplicates",
    "Evidence",
    "Head",
    "HeatMap",
    "LabelRow",
    "LabelsReport",
    "LayerRow",
    "LayerTable",
    "Mistake",
    "Mistakes",
    "NumberMistake",
    "NumberRow",
    "NumbersReport",
    "Option",
    "Prediction",
    "Predictions",
    "Pruned",
    "RangeTest",
    "Report",
    "Store",
    "StoreInfo",
    "Suspect",
    "Suspects",
    "Transferred",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _DEFINED_IN:
            raise AttributeError(f"module 'topwork.types' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"topwork.{_DEFINED_IN[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return list(__all__)
