"""What the error messages of the package have in common."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable


def plain(name: str) -> str:
    """The spelling that counts: ``"Inception-V3"`` and ``"inception_v3"`` are the same name."""
    return name.lower().replace("_", "").replace("-", "")


def closest(name: object, candidates: Iterable[str], n: int = 3) -> str:
    """The `n` candidates that look most like `name`, quoted, best first; all are tried if none does."""
    by_spelling = {plain(candidate): candidate for candidate in candidates}
    matches = difflib.get_close_matches(plain(str(name)), by_spelling, n=n, cutoff=0.0)
    return ", ".join(repr(by_spelling[match]) for match in matches)


def warn(message: str) -> None:
    """Issue a UserWarning that points at the caller's line, however deep inside topwork it arises."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("topwork."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
