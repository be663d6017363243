"""How reports put numbers and images into words."""

from __future__ import annotations

import math
from typing import Any


def share(part: Any, whole: Any) -> float:
    """A fraction; NaN of nothing."""
    return float(part / whole) if whole else math.nan


def share_texts(*shares: float) -> list[str]:
    """Fractions for a table; "-" where there is none."""
    return ["-" if math.isnan(x) else f"{x:.3f}" for x in shares]


def image_text(index: int, file: str | None) -> str:
    """What an image is called in a list."""
    return f"image {index}" if file is None else f"image {index}, {file}"
