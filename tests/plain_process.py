"""Runs code in a process of its own, in which topwork cannot be imported."""

from __future__ import annotations

import subprocess
import sys

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


def run_without_topwork(code: str, *arguments: object) -> str:
    """What `code` printed; fails with its traceback if it fails."""
    command = [sys.executable, "-c", _BLOCK + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise AssertionError(done.stderr[-4000:])
    return done.stdout
