"""All that the library says: lines through `logging`, progress by Keras' bar.

What the user should know and need not act on is a line of the logger `topwork`. What they should act on
is a warning, `topwork._errors.warn`. Progress is neither: it is gone when what it was about is done.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from topwork._errors import InputError
from topwork._screen import Screen, is_notebook

_LOGGER = logging.getLogger("topwork")
# Cursor to the beginning of the line, and what stands there erased.
_ERASED = "\r\x1b[K"
_SECONDS_BETWEEN = 0.1


class _Printer(logging.Handler):
    """Prints lines, as long as nobody else was asked to take them."""

    def emit(self, record: logging.LogRecord) -> None:
        # A handler of the root logger listens to everybody. pytest attaches such a handler here too.
        listeners = (self, *logging.getLogger().handlers)
        is_taken = _LOGGER.propagate or any(each not in listeners for each in _LOGGER.handlers)
        if is_taken or not _is_interactive() or sys.stdout is None:
            return
        try:
            print(f"topwork: {self.format(record)}", flush=True)
        except Exception:  # as logging has it: what is said must not stop what is done
            self.handleError(record)


def set_up() -> None:
    """Show lines by default. Called once, when `topwork` is imported.

    A user who has set a level already keeps it.
    """
    if not _LOGGER.handlers:
        _LOGGER.addHandler(_Printer())
        _LOGGER.propagate = False
    if _LOGGER.level == logging.NOTSET:
        _LOGGER.setLevel(logging.INFO)


def say(text: str, verbose: Any = "auto") -> None:
    """Log one line, unless `verbose` is 0."""
    if verbose != 0:
        _LOGGER.info(text)


def check_verbose(verbose: Any) -> None:
    """Raise for a `verbose` that says nothing."""
    if verbose not in (0, 1, 2, "auto"):
        raise InputError(
            "verbose must be 0 (silent), 1 (a bar that moves), 2 (a line when it is done) or 'auto' (1 "
            f"on a screen, 2 in a file). Received: {verbose!r}."
        )


def resolved(verbose: Any) -> int:
    """0, 1 or 2; of "auto" what suits the place that is written to."""
    check_verbose(verbose)
    if verbose != "auto":
        return int(verbose)
    on_screen = isinstance(sys.stdout, Screen) or is_notebook() or _is_terminal()
    return 1 if on_screen else 2


@contextlib.contextmanager
def progress(what: str, target: int | None, unit: str, verbose: Any) -> Iterator[Callable[[], None]]:
    """Keras' bar while something is done, gone afterwards; gives the function that counts one on.

    Args:
        what: Is done, for people.
        target: How often will be counted; None: not known.
        unit: The name of what is counted.
        verbose: As the user gave it; with 2 and with 0 nothing moves.
    """
    if resolved(verbose) != 1 or not _is_interactive():
        yield lambda: None
        return
    import keras

    # Its own interval is left to `_Shown`, which has to know whether it wrote.
    bar = keras.utils.Progbar(target, interval=0, unit_name=unit)
    shown = _Shown(bar, what)
    try:
        yield shown.count
    finally:
        shown.erase()


class _Shown:
    """A bar on the screen, with what it is about at its end."""

    def __init__(self, bar: Any, what: str) -> None:
        self._bar, self._what = bar, what
        self._n, self._shown_at = 0, 0.0

    def count(self) -> None:
        self._n += 1
        if self._bar.target is not None:  # more may come than was announced
            self._bar.target = max(self._bar.target, self._n)
        if self._n in (1, self._bar.target) or time.monotonic() - self._shown_at > _SECONDS_BETWEEN:
            self._bar.update(self._n, finalize=False)
            _write(f" - {self._what}\x1b[K")
            self._shown_at = time.monotonic()

    def erase(self) -> None:
        if self._n:
            _write(_ERASED)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _is_terminal() -> bool:
    return bool(getattr(sys.stdout, "isatty", lambda: False)())


def _is_interactive() -> bool:
    """Whether Keras is to show anything: `keras.config.disable_interactive_logging()`."""
    keras = sys.modules.get("keras")
    return keras is None or bool(keras.config.is_interactive_logging_enabled())
