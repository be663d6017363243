"""The rooms of the package, and that imports between them point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import topwork

PACKAGE = Path(topwork.__file__).parent

# Each may import what stands before it, and nothing that stands after it.
ROOMS = ["_networks", "_data", "_store", "_features", "_training", "_evidence", "_transfer", "_interpret"]
# What everybody may use.
COMMON = {"_backend", "_errors", "_figures", "_names", "_private_keras", "_screen", "_tables", "_voice"}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("topwork"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]


def test_imports_point_one_way() -> None:
    for i, room in enumerate(ROOMS):
        for path in (PACKAGE / room).glob("*.py"):
            wrong = set(_imports(path)) - set(ROOMS[: i + 1]) - COMMON
            assert not wrong, f"{path.relative_to(PACKAGE)} imports {wrong}"


def test_the_store_knows_nothing_of_the_others() -> None:
    for path in (PACKAGE / "_store").glob("*.py"):
        assert set(_imports(path)) <= {"_store", "_errors", "_names", "_tables"}, path.name


def test_all_rooms_are_known() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(ROOMS)
    assert all((PACKAGE / f"{name}.py").exists() for name in COMMON)


def test_no_circle_among_the_modules() -> None:
    modules = {
        path: f"topwork.{path.relative_to(PACKAGE).with_suffix('')}".replace("/", ".")
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    graph = {}
    for path, name in modules.items():
        tree = ast.parse(path.read_text("utf-8"))
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("topwork"):
                found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        graph[name] = found & set(modules.values())
    while graph:
        free = [name for name, wanted in graph.items() if not wanted & set(graph)]
        assert free, f"a circle among {sorted(graph)}"
        for name in free:
            del graph[name]
