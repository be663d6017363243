"""The tutorial's story holds for whatever its cells compute: other letters, digits and first weights."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "tutorial.md"


def code() -> str:
    """All cells, the hidden ones that check what the page says among them."""
    if not PAGE.is_file():
        pytest.skip("the pages lie in the source tree, and this is not run from there")
    cells = re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    options = r"\A---\n.*?^---$|^:tags:[^\n]*$"
    return "\n".join(re.sub(options, "", cell, flags=re.M | re.S) for cell in cells)


def run(seed: int) -> None:
    environment = {
        **os.environ,
        "TOPWORK_TUTORIAL_SEED": str(seed),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "MPLBACKEND": "Agg",
    }
    ran = subprocess.run(
        [sys.executable, "-c", code()], capture_output=True, text=True, env=environment, cwd=PAGE.parent
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-3000:]


def test_what_the_page_says_is_checked() -> None:
    assert code().count("\nassert ") >= 6


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_with_other_seeds(seed: int) -> None:
    run(seed)
