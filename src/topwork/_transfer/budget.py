"""How long it may take: what does not fit any more is left out, and said."""

from __future__ import annotations

import math
import time


class Budget:
    """Counts the time since it was made."""

    def __init__(self, minutes: float | None) -> None:
        self._start = time.perf_counter()
        self._seconds = math.inf if minutes is None else 60 * minutes
        self.left_out: list[str] = []

    @property
    def spent(self) -> float:
        """In seconds."""
        return time.perf_counter() - self._start

    def allows(self, what: str, seconds: float) -> bool:
        """Whether something that takes so long still fits; if not, it is noted as left out."""
        left = self._seconds - self.spent
        if seconds <= left:
            return True
        self.left_out.append(
            f"{what}, which would take about {duration(seconds)}, and {duration(max(left, 0))} "
            f"of minutes={self._seconds / 60:g} are left."
        )
        return False


def duration(seconds: float) -> str:
    """For people."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
