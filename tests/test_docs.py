"""Every public name is documented: a docstring with an example, and an entry in the API reference."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import topwork

API = Path(__file__).resolve().parent.parent / "docs" / "api.md"


def public_objects() -> dict[str, object]:
    """By its name after `topwork.`; those of the public modules as `data.augmentation`."""
    objects = {}
    for name in topwork.__all__:
        value = getattr(topwork, name)
        if inspect.ismodule(value):
            inner = {f"{name}.{each}": getattr(value, each) for each in value.__all__}
            # Classes of results are listed once, under `topwork.types`.
            objects |= {
                key: each
                for key, each in inner.items()
                if name == "types" or each.__module__ != "topwork.types"
            }
        else:
            objects[name] = value
    return objects


def test_the_api_reference_lists_exactly_the_public_names() -> None:
    if not API.is_file():
        pytest.skip("the documentation lies in the source tree, and this is not run from there")
    entry = r"^\.\. auto(?:function|class|data):: topwork\.([a-z]\S*)$"  # `_describe`: what it returns
    assert sorted(re.findall(entry, API.read_text(), re.MULTILINE)) == sorted(public_objects())


def test_every_public_name_has_a_docstring() -> None:
    undocumented = [name for name, value in public_objects().items() if not inspect.getdoc(value)]
    assert undocumented == []


def test_every_public_function_shows_an_example() -> None:
    functions = {name: f for name, f in public_objects().items() if inspect.isfunction(f)}
    assert functions
    without = [name for name, f in functions.items() if ">>> " not in (inspect.getdoc(f) or "")]
    assert without == []
