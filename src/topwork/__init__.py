"""Transfer learning on Keras: cut a pretrained network, graft a new head, compute what is frozen once.

Every function takes and returns a plain ``keras.Model``. Nothing heavy is imported before it is
used: ``import topwork`` does not import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topwork import callbacks as callbacks
    from topwork import data as data
    from topwork import interpret as interpret
    from topwork._applications import list_backbones as list_backbones
    from topwork._backbones import cut_points as cut_points
    from topwork._backbones import load_backbone as load_backbone
    from topwork._boundaries import compare_boundaries as compare_boundaries
    from topwork._cuts import compare_cuts as compare_cuts
    from topwork._describe import describe as describe
    from topwork._features._store import open_store as open_store
    from topwork._freezing import fine_tune as fine_tune
    from topwork._freezing import freeze as freeze
    from topwork._heads import add_head as add_head
    from topwork._predict import predict as predict
    from topwork._training import fit as fit
    from topwork._training import precompute as precompute

__version__ = "0.1.0"

_DEFINED_IN = {
    "add_head": "_heads",
    "compare_boundaries": "_boundaries",
    "compare_cuts": "_cuts",
    "cut_points": "_backbones",
    "describe": "_describe",
    "fine_tune": "_freezing",
    "fit": "_training",
    "freeze": "_freezing",
    "list_backbones": "_applications",
    "load_backbone": "_backbones",
    "open_store": "_features._store",
    "precompute": "_training",
    "predict": "_predict",
}
_MODULES = ("callbacks", "data", "interpret")

__all__ = [
    "add_head",
    "callbacks",
    "compare_boundaries",
    "compare_cuts",
    "cut_points",
    "data",
    "describe",
    "fine_tune",
    "fit",
    "freeze",
    "interpret",
    "list_backbones",
    "load_backbone",
    "open_store",
    "precompute",
    "predict",
]


if not TYPE_CHECKING:  # to a type checker, a name that is not imported above is a mistake

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return importlib.import_module(f"topwork.{name}")
        if name in _DEFINED_IN:
            value = getattr(importlib.import_module(f"topwork.{_DEFINED_IN[name]}"), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'topwork' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
