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
    from topwork._evidence.suspect_records import Suspect as Suspect
    from topwork._evidence.suspect_records import Suspects as Suspects
    from topwork._interpret.grad_cam import HeatMap as HeatMap
    from topwork._interpret.predict import Prediction as Prediction
    from topwork._interpret.report import ClassRow as ClassRow
    from topwork._interpret.report import Mistake as Mistake
    from topwork._interpret.report import Report as Report
    from topwork._networks.describe import LayerRow as LayerRow
    from topwork._networks.describe import LayerTable as LayerTable
    from topwork._networks.heads import Head as Head
    from topwork._store.inventory import CollectionInfo as CollectionInfo
    from topwork._store.inventory import Pruned as Pruned
    from topwork._store.inventory import StoreInfo as StoreInfo
    from topwork._store.store import Store as Store
    from topwork._training.learning_rate import RangeTest as RangeTest

_DEFINED_IN = {
    "BadImage": "_data.bad_images",
    "BoundaryRow": "_evidence.boundaries",
    "ClassRow": "_interpret.report",
    "CollectionInfo": "_store.inventory",
    "Comparison": "_evidence.comparison",
    "CutRow": "_evidence.cuts",
    "Head": "_networks.heads",
    "HeatMap": "_interpret.grad_cam",
    "LayerRow": "_networks.describe",
    "LayerTable": "_networks.describe",
    "Mistake": "_interpret.report",
    "Prediction": "_interpret.predict",
    "Pruned": "_store.inventory",
    "RangeTest": "_training.learning_rate",
    "Report": "_interpret.report",
    "Store": "_store.store",
    "StoreInfo": "_store.inventory",
    "Suspect": "_evidence.suspect_records",
    "Suspects": "_evidence.suspect_records",
}

__all__ = [
    "BadImage",
    "BoundaryRow",
    "ClassRow",
    "CollectionInfo",
    "Comparison",
    "CutRow",
    "Head",
    "HeatMap",
    "LayerRow",
    "LayerTable",
    "Mistake",
    "Prediction",
    "Pruned",
    "RangeTest",
    "Report",
    "Store",
    "StoreInfo",
    "Suspect",
    "Suspects",
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
