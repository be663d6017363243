"""In a notebook: one place on the page for what a function shows while it runs.

A notebook keeps every character that was written. A browser moves no cursor back, so that on the saved
page each step of a progress bar is a line. Here the characters are obeyed as a terminal obeys them, and
what they amount to is shown in one output of the cell, which changes in place.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

# Keras writes this line above the bar of each epoch; here it goes in front of the bar.
_HEADING = re.compile(r"Epoch \d+/\d+")
_CONTROLS = re.compile("(\r|\x08|\n|\x1b\\[K)")
_SECONDS_BETWEEN = 0.2  # of changes within a line
_SECONDS_BETWEEN_LINES = 0.05
# A full output is left as it is, and the next one begun: each change sends all of its lines.
_MOST_LINES = 100


class Screen(io.TextIOBase):
    """A terminal of as many lines as are written to it, shown by `display`."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None
        self._lines: list[str] = []
        self._line, self._before = "", ""
        self._is_overwritten = False
        self._shown, self._shown_at = "", 0.0

    def writable(self) -> bool:
        """As files have it."""
        return True

    def isatty(self) -> bool:
        """As a terminal, it obeys control characters."""
        return True

    def write(self, text: str) -> int:
        """Write a text, which may hold carriage returns, backspaces and the erasing of a line."""
        for part in _CONTROLS.split(text):
            self._obey(part)
        waits = _SECONDS_BETWEEN_LINES if "\n" in text else _SECONDS_BETWEEN
        if time.monotonic() - self._shown_at >= waits:
            self.show()
        return len(text)

    def _obey(self, part: str) -> None:
        if part == "\n":
            self._end_line()
        elif part == "\r":
            self._is_overwritten = True
        elif part == "\b":
            self._line = self._line[:-1]
        elif part:
            if self._is_overwritten or part == "\x1b[K":
                self._line, self._is_overwritten = "", False
            self._line += part.removeprefix("\x1b[K")

    def _end_line(self) -> None:
        line, self._line, self._is_overwritten = self._before + self._line, "", False
        self._before = ""
        if _HEADING.fullmatch(line):
            self._before = f"{line}  "
        elif line or self._lines:
            self._lines.append(line)
        if len(self._lines) >= _MOST_LINES:
            self.show()
            self._handle, self._lines = None, []

    def show(self) -> None:
        """Bring what is on the page to the present state."""
        text = "\n".join([*self._lines, (self._before + self._line).rstrip()]).rstrip("\n")
        if text == self._shown or not (text or self._handle):
            return
        data = {"text/plain": text}
        if self._handle is None:
            self._handle = self._display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)
        self._shown, self._shown_at = text, time.monotonic()


@contextlib.contextmanager
def one_output() -> Iterator[None]:
    """In a notebook, what is printed inside becomes one output that changes in place."""
    display = None if isinstance(sys.stdout, Screen) else _display()
    if display is None:
        yield
        return
    screen = Screen(display)
    try:
        with contextlib.redirect_stdout(screen):
            yield
    finally:
        screen.show()


def is_notebook() -> bool:
    """Whether a kernel runs this, for a page and not for a terminal."""
    return _display() is not None


def _display() -> Any:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    # The console of Spyder does not change what it has shown.
    if getattr(shell, "kernel", None) is None or "spyder_kernels" in sys.modules:
        return None
    from IPython.display import display

    return display
