"""The examples in the docstrings of the public names, run as they stand."""

from __future__ import annotations

import doctest
import inspect

import pytest

import topwork

pytestmark = pytest.mark.thorough


def public_examples() -> list[doctest.DocTest]:
    """Those of the functions and classes in `topwork` and its public modules."""
    finder = doctest.DocTestFinder(recurse=False)
    found = []
    for name in topwork.__all__:
        value = getattr(topwork, name)
        inner = [getattr(value, each) for each in value.__all__] if inspect.ismodule(value) else [value]
        for each in inner:
            found += finder.find(each, name=each.__qualname__, globs={})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("example", public_examples(), ids=lambda example: example.name)
def test_the_example_of_a_docstring_runs(example: doctest.DocTest) -> None:
    failures: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=failures.append)
    assert not failures, "".join(failures)
