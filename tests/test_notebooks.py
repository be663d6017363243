"""The notebooks in examples/, run at toy size; what a saved page would show of them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

pytestmark = pytest.mark.thorough
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name: str, folder: Path, **parameters: Any) -> Any:
    """The notebook with its outputs, its parameters replaced."""
    if not EXAMPLES.is_dir():
        pytest.skip("the examples lie in the source tree, and this is not run from there")
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    (cell,) = (each for each in notebook.cells if "parameters" in each.metadata.get("tags", []))
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


def outputs(notebook: Any) -> list[Any]:
    """All but what TensorFlow says when it is imported."""
    found = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return [output for output in found if output.get("name") != "stderr"]


def check_page(notebook: Any) -> None:
    """Nothing moved is left on the page, no output is long, and tables are tables."""
    for output in outputs(notebook):
        assert output.output_type != "error"
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        assert not re.search(r"[\r\x08]", text)
        has_more = {"text/html", "image/png"} & set(output.get("data", {}))
        assert has_more or len(text.splitlines()) <= 40


def html(notebook: Any) -> str:
    return "\n".join(output.get("data", {}).get("text/html", "") for output in outputs(notebook))


@pytest.fixture
def small_weights(tmp_path: Path) -> Path:
    network = keras.applications.MobileNet(
        include_top=False, weights=None, alpha=1.0, input_shape=(64, 64, 3)
    )
    network.save(tmp_path / "mobilenet.h5")
    return tmp_path / "mobilenet.h5"


@pytest.fixture(autouse=True)
def _as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


def test_cats_and_dogs(tmp_path: Path, make_photos: Callable[..., Path], small_weights: Path) -> None:
    for part in ("train", "validation"):
        make_photos(tmp_path / "data" / part, ("cats", "dogs"), per_class=8)
    notebook = run(
        "cats_and_dogs.ipynb",
        tmp_path,
        DATA=str(tmp_path / "data"),
        WEIGHTS=str(small_weights),
        BACKBONE="mobilenet",
        CUT_LAYER="conv_pw_6_relu",
        SIZE=64,
        UNFREEZE_FROM="conv_dw_5",
        EPOCHS=2,
    )
    check_page(notebook)
    assert "shown \\ taken for" in html(notebook)
    assert (tmp_path / "cats_and_dogs.keras").is_file()


def test_your_own_folder(tmp_path: Path, make_photos: Callable[..., Path], small_weights: Path) -> None:
    make_photos(tmp_path / "photos", ("ash", "birch", "cedar"), per_class=15, size=64)
    notebook = run(
        "your_own_folder.ipynb",
        tmp_path,
        NAMES=["mobilenet"],
        WEIGHTS=str(small_weights),
        SIZE=64,
    )
    check_page(notebook)
    assert "shown \\ taken for" in html(notebook)
    assert (tmp_path / "my_photos.keras").is_file()


def test_notebooks_are_kept_without_outputs() -> None:
    if not EXAMPLES.is_dir():
        pytest.skip("the examples lie in the source tree, and this is not run from there")
    paths = sorted(EXAMPLES.glob("*.ipynb"))
    assert [path.name for path in paths] == ["cats_and_dogs.ipynb", "your_own_folder.ipynb"]
    for path in paths:
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None
