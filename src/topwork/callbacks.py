"""Callbacks for `topwork.fit` and Keras' own ``fit``."""

from __future__ import annotations

from topwork._training.learning_rate import RangeTest, find_learning_rate
from topwork._training.one_cycle import OneCycle
from topwork._training.stopping import KeepBest, StopAt

__all__ = ["KeepBest", "OneCycle", "RangeTest", "StopAt", "find_learning_rate"]


def __dir__() -> list[str]:
    return list(__all__)
