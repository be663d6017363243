"""`import topwork` is light, and its names are the ones that the contract lists."""

from __future__ import annotations

import subprocess
import sys

import pytest

import topwork

PUBLIC_NAMES = [
    "add_head",
    "callbacks",
    "compare_boundaries",
    "compare_cuts",
    "cut_points",
    "data",
    "describe",
    "features",
    "fine_tune",
    "fit",
    "fit_head",
    "flatten",
    "freeze",
    "interpret",
    "list_backbones",
    "load_backbone",
    "open_store",
    "precompute",
    "predict",
    "transfer",
    "types",
]


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_public_names_are_pinned() -> None:
    assert topwork.__all__ == PUBLIC_NAMES


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(topwork, name) is not None


def test_dir_lists_the_public_names() -> None:
    assert set(PUBLIC_NAMES) <= set(dir(topwork))


@pytest.mark.parametrize(
    "statement",
    [
        "import topwork",
        "import topwork; dir(topwork); topwork.__version__",
        "import topwork; topwork.list_backbones()",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(statement: str) -> None:
    heavy = {"tensorflow", "keras", "numpy", "matplotlib", "h5py"}
    # An empty interpreter may hold some already (a `.pth` file of the environment).
    assert not heavy & (modules_after(statement) - modules_after("pass"))


def test_an_unknown_name_is_an_attribute_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match=r"module 'topwork' has no attribute 'load_bakbone'"):
        _ = topwork.load_bakbone


def test_the_version_is_a_string() -> None:
    assert topwork.__version__.count(".") >= 2


def test_every_package_that_is_imported_is_declared() -> None:
    import ast
    from pathlib import Path

    pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
    if not pyproject.is_file():
        pytest.skip("pyproject.toml lies in the source tree, and this is not run from there")
    text = pyproject.read_text()
    declared = text[text.index("dependencies = [") : text.index("[dependency-groups]")]
    modules = set()
    for path in Path(topwork.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:  # what runs whenever a module is imported
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(str(node.module).split(".")[0])
    others = modules - set(sys.stdlib_module_names) - {"topwork"}
    assert {"h5py", "keras"} <= others
    assert [name for name in others if f'"{name}' not in declared] == []
