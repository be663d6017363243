"""Transfer learning on Keras: cut a pretrained network, graft a new head, compute what is frozen once.

Every function takes and returns a plain ``keras.Model``. Nothing heavy is imported before it is
used: ``import topwork`` does not import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from topwork import _voice

if TYPE_CHECKING:
    from topwork import callbacks as callbacks
    from topwork import data as data
    from topwork import interpret as interpret
    from topwork import types as types
    from topwork._evidence.boundaries import compare_boundaries as compare_boundaries
    from topwork._evidence.cuts import compare_cuts as compare_cuts
    from topwork._interpret.predict import predict as predict
    from topwork._networks.applications import list_backbones as list_backbones
    from topwork._networks.backbones import cut_points as cut_points
    from topwork._networks.backbones import load_backbone as load_backbone
    from topwork._networks.describe import describe as describe
    from topwork._networks.freezing import fine_tune as fine_tune
    from topwork._networks.freezing import freeze as freeze
    from topwork._networks.heads import add_head as add_head
    from topwork._networks.unnesting import flatten as flatten
    from topwork._store.store import open_store as open_store
    from topwork._training.features import features as features
    from topwork._training.fit import fit as fit
    from topwork._training.fit_head import fit_head as fit_head
    from topwork._training.precompute import precompute as precompute
    from topwork._transfer.transfer import transfer as transfer

__version__ = "0.1.0"

_voice.set_up()

_DEFINED_IN = {
    "add_head": "_networks.heads",
    "compare_boundaries": "_evidence.boundaries",
    "compare_cuts": "_evidence.cuts",
    "cut_points": "_networks.backbones",
    "describe": "_networks.describe",
    "features": "_training.features",
    "fine_tune": "_networks.freezing",
    "fit": "_training.fit",
    "flatten": "_networks.unnesting",
    "fit_head": "_training.fit_head",
    "freeze": "_networks.freezing",
    "list_backbones": "_networks.applications",
    "load_backbone": "_networks.backbones",
    "open_store": "_store.store",
    "precompute": "_training.precompute",
    "predict": "_interpret.predict",
    "transfer": "_transfer.transfer",
}
_MODULES = ("callbacks", "data", "interpret", "types")

__all__ = [
    "add_head",
    "callbacks",
    "compare_boundaries",
    "compare_cuts",
    "cut_points",
    "data",
    "describe",
    "features",
    "fine_tune",
    "fit",
    "fit_head",
    "flatten",
    "freeze",
    "interpret",
    "list_backbones",
    "load_backbone",
    "open_store",
    "precompute",
    "predict",
    "transfer",
    "types",
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
