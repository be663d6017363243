"""What the error messages of the package have in common."""

from __future__ import annotations

import contextvars
import difflib
import functools
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from topwork._screen import one_output

P = ParamSpec("P")
Result = TypeVar("Result")

# The public function that the user called, while it runs; that function goes in front of messages.
_verb: contextvars.ContextVar[str] = contextvars.ContextVar("verb", default="")
# What it has warned of already: the functions that it calls may find the same thing several times.
_said: contextvars.ContextVar[set[str] | None] = contextvars.ContextVar("said", default=None)
# Frames of these modules are passed over on the way from a warning up to the user's line.
_PASSED_OVER = ("topwork.", "keras.", "tensorflow.", "contextlib", "concurrent.", "functools")


class InputError(ValueError):
    """What is wrong with what the user gave, told without the verb: `public` puts that in front."""


def public(function: Callable[P, Result]) -> Callable[P, Result]:
    """Make of `function` one that users call: errors and warnings inside of it begin with its name.

    Where one such function calls another, the one that the user called is named. In a notebook, what
    it shows is one output of the cell.
    """
    return public_as(function.__name__)(function)


def public_as(name: str) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """`public` for a function that is known by another name than its own."""

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Result:
            if _verb.get():
                return function(*args, **kwargs)
            tokens = _verb.set(name), _said.set(set())
            try:
                with one_output():
                    return function(*args, **kwargs)
            except InputError as error:
                told = ValueError(f"{name}: {error}")
                raise told.with_traceback(error.__traceback__) from error.__cause__
            finally:
                _verb.reset(tokens[0])
                _said.reset(tokens[1])

        return call

    return decorate


def verb() -> str:
    """The public function that is running, for what it prints."""
    return _verb.get()


def warn(message: str) -> None:
    """Issue a UserWarning that points at the user's line, however deep inside topwork it arises.

    A message that arises in a function marked as `public` begins with the name of that function, which
    says it once.
    """
    said = _said.get()
    if said is not None and message in said:
        return
    if said is not None:
        said.add(message)
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_inside(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    name = verb()
    is_said = not name or message.startswith(f"{name}: ")
    warnings.warn(message if is_said else f"{name}: {message}", stacklevel=level)


def _is_inside(module: str) -> bool:
    return module.startswith(_PASSED_OVER) or module == "topwork"


def plain(name: str) -> str:
    """The spelling that counts: ``"Inception-V3"`` and ``"inception_v3"`` are the same name."""
    return name.lower().replace("_", "").replace("-", "")


def closest(name: object, candidates: Iterable[str], n: int = 3) -> str:
    """The `n` candidates that look most like `name`, quoted, best first; all are tried if none does."""
    by_spelling = {plain(candidate): candidate for candidate in candidates}
    matches = difflib.get_close_matches(plain(str(name)), by_spelling, n=n, cutoff=0.0)
    return ", ".join(repr(by_spelling[match]) for match in matches)


def whole_number(value: Any) -> int | None:
    """`value` as an int if it is a whole number of any integer type, NumPy's too; else None."""
    is_bool = isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"
    try:
        return None if is_bool else int(value.__index__())
    except (AttributeError, TypeError):
        return None


def described(value: Any) -> str:
    """What was received, in a few words, for the end of a message: "Received: ..."."""
    shape, kind = getattr(value, "shape", None), type(value).__name__
    if value is None:
        return kind
    if shape is not None:
        return f"{kind} of shape {tuple(shape)} and type {getattr(value, 'dtype', '?')}"
    if isinstance(value, (tuple, list, set, dict)):
        return f"{kind} of {len(value)}" if len(value) else f"an empty {kind}"
    return f"{kind}, {str(value)[:80]!r}"


def listed(values: Iterable[Any], most: int = 10) -> str:
    """Values with commas between them; of many, the first and the last."""
    texts = [str(value) for value in values]
    return ", ".join(texts if len(texts) <= most else [*texts[: most - 1], f"... {texts[-1]}"])
