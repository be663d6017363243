"""What is run for every change and each night: no test and no session is left to be run by hand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def text_of(name: str) -> str:
    if not (ROOT / name).is_file():
        pytest.skip("the checks lie in the source tree, and this is not run from there")
    return (ROOT / name).read_text("utf-8")


def sessions() -> set[str]:
    functions = (
        node for node in ast.parse(text_of("noxfile.py")).body if isinstance(node, ast.FunctionDef)
    )
    return {function.name for function in functions if function.decorator_list}


def nightly() -> set[str]:
    return set(re.findall(r"(?:- session: |nox -s )([a-z_]+)", text_of(".github/workflows/nightly.yml")))


def for_each_change() -> set[str]:
    lines = re.findall(r"nox -s ([a-z_ ]+)", text_of(".ci/run"))
    return {name for line in lines for name in line.split()}


def test_every_session_is_run_somewhere() -> None:
    assert (nightly() | for_each_change()) - sessions() == set()
    # `cluster` runs one of the tests that `tests_full` runs.
    assert sessions() - nightly() - for_each_change() == {"cluster"}


def test_what_a_change_must_pass() -> None:
    assert for_each_change() == {"lint", "typing", "docs", "tests"}
    assert ".ci/run" in text_of(".github/workflows/ci.yml")


def test_where_it_runs_each_night() -> None:
    assert {"tests_full", "tests_oldest", "tests_newest", "wheel", "export", "docs"} <= nightly()
    assert {"ubuntu-latest", "macos-latest", "windows-latest"} <= set(
        re.findall(r"[a-z]+-latest", text_of(".github/workflows/nightly.yml"))
    )


def test_equivalence_is_not_left_to_be_run_by_hand() -> None:
    for name in ("test_fit_equivalence.py", "test_fit_head.py", "test_features.py"):
        assert "mark.slow" not in (ROOT / "tests" / name).read_text("utf-8")
