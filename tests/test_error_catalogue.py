"""Every message that topwork raises or warns with is in docs/errors.md, and nothing else is."""

from __future__ import annotations

import ast
import builtins
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import topwork

SOURCE = Path(topwork.__file__).parent
CATALOGUE = Path(__file__).resolve().parent.parent / "docs" / "errors.md"
GAP = "…"  # stands for what a message is filled with
ENOUGH = 10  # letters of a message that are its own, to be found by


@functools.cache
def messages() -> dict[str, str]:
    """The text of each message, with a gap for each value in it, and where it is made."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name == "_errors.py":  # puts the name of a function in front of those of others
            continue
        for function in outermost_functions(ast.parse(path.read_text("utf-8"))):
            for node in ast.walk(function):
                text = message_of(node, function)
                if text is not None:
                    found[text] = f"{path.relative_to(SOURCE)}:{node.lineno}"
    return found


def outermost_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Methods among them, but no function inside another: it shares the other's variables."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node
        else:
            yield from outermost_functions(node)


def message_of(node: ast.AST, function: ast.FunctionDef) -> str | None:
    """The message, if `node` makes an error or a warning, or is a part that one is made of."""
    if isinstance(node, ast.Return) and is_part(function):
        text = text_of(node.value, function)
        return text if text is not None and is_text(text) else None
    if not isinstance(node, ast.Call):
        return None
    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
    if name != "warn" and name not in exceptions():
        return None
    texts = (text_of(argument, function) for argument in node.args)
    return next((text for text in texts if text is not None), None)


@functools.cache
def exceptions() -> frozenset[str]:
    """The names of Python's own exceptions, and of the classes of the package that derive from them."""
    names = {name for name, each in vars(builtins).items() if is_exception(each)}
    trees = [ast.parse(path.read_text("utf-8")) for path in SOURCE.rglob("*.py")]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    derived = {node.name for node in classes for base in node.bases if getattr(base, "id", "") in names}
    return frozenset(names | derived)


def is_exception(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)


def is_part(function: ast.FunctionDef) -> bool:
    """Whether a function returns what a message goes on with, "fit: … has …", or None if all is well."""
    annotation = "" if function.returns is None else ast.unparse(function.returns)
    return {"str", "None"} <= set(re.findall(r"\w+", annotation))


def is_text(text: str) -> bool:
    """Not a name, and not gaps alone."""
    return " " in text.strip() and len(re.sub(rf"[{GAP}\W]", "", text)) >= ENOUGH


def text_of(node: ast.AST | None, function: ast.AST) -> str | None:
    """A string with gaps; of a variable, what was assigned to it; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        texts = [part.value if isinstance(part, ast.Constant) else GAP for part in node.values]
        if isinstance(node.values[0], ast.FormattedValue):  # f"{text} and so on"
            texts[0] = text_of(node.values[0].value, function) or GAP
        return joined("".join(texts))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return joined("".join(text_of(side, function) or GAP for side in (node.left, node.right)))
    if isinstance(node, ast.IfExp):
        return text_of(node.body, function) or text_of(node.orelse, function)
    if isinstance(node, ast.Name):
        assigned = (
            text_of(each.value, function)
            for each in ast.walk(function)
            if isinstance(each, ast.Assign) and getattr(each.targets[0], "id", "") == node.id
        )
        return next((text for text in assigned if text is not None), None)
    return None


def joined(text: str) -> str:
    return re.sub(f"{GAP}+", GAP, " ".join(text.split()))


def entries() -> list[str]:
    """The messages in the catalogue: the terms of its definition lists, whole or their beginning."""
    if not CATALOGUE.is_file():
        pytest.skip("the documentation lies in the source tree, and this is not run from there")
    return re.findall(r"^`{1,2}(.+?)`{1,2}\n: ", CATALOGUE.read_text("utf-8"), re.MULTILINE)


def test_every_message_is_in_the_catalogue() -> None:
    catalogue = tuple(entries())
    missing = [f"{place}: {text}" for text, place in messages().items() if not text.startswith(catalogue)]
    assert missing == []


def test_every_entry_of_the_catalogue_is_a_message() -> None:
    texts = list(messages())
    stale = [entry for entry in entries() if not any(text.startswith(entry) for text in texts)]
    assert stale == []


def test_entries_are_long_enough_to_be_found_by() -> None:
    def is_enough(entry: str) -> bool:
        return len(re.sub(rf"[{GAP}\W]", "", entry)) >= ENOUGH or entry in messages()

    assert [entry for entry in entries() if not is_enough(entry)] == []


def test_no_entry_comes_twice() -> None:
    catalogue = entries()
    assert sorted(set(catalogue)) == sorted(catalogue)
