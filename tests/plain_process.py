"""Runs code in a process of its own, in which topwork cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

_BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "topwork":
            raise ModuleNotFoundError("topwork is blocked")

sys.meta_path.insert(0, Blocked())
try:
    import topwork
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("topwork can be imported: this process proves nothing")
"""

_SERVE = """
import json
for line in sys.stdin:
    print(json.dumps(answer(**json.loads(line))), flush=True)
"""


def run_without_topwork(code: str, *arguments: object) -> str:
    """What `code` printed; fails with its traceback if it fails."""
    command = [sys.executable, "-c", _BLOCK + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise AssertionError(done.stderr[-4000:])
    return done.stdout


class PlainProcess:
    """A process that works on questions while this one does something else.

    Its code defines `answer`; question and answer are what JSON can hold.
    """

    def __init__(self, code: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BLOCK + code + _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **question: object) -> None:
        print(json.dumps(question), file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError("the process ended; its traceback is on stderr")
        return json.loads(line)

    def close(self) -> None:
        self._process.communicate()
