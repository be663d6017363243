"""The examples, run as a user runs them, on a few small photographs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.thorough

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name: str, *arguments: object) -> str:
    """What the example prints; it must not fail."""
    if not EXAMPLES.is_dir():
        pytest.skip("the examples lie in the source tree, and this is not run from there")
    result = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.parametrize(
    "head",
    [(), pytest.param(("--hidden-units", 8, "--epochs", 1), marks=pytest.mark.slow)],
    ids=["solved", "trained"],
)
def test_cats_and_dogs(head: Any, tmp_path: Path, make_photos: Callable[..., Path]) -> None:
    for part in ("train", "validation"):
        make_photos(tmp_path / "data" / part, ("cats", "dogs"), per_class=6)
    small = ("--backbone", "mobilenet", "--weights", "none", "--image-size", 32)
    short = (*head, "--tune-epochs", 1, "--views", 2, "--output", tmp_path)
    printed = run("cats_and_dogs.py", "--data", tmp_path / "data", *small, *short)
    assert "Head only: validation accuracy" in printed
    assert "Fine-tuned: validation accuracy" in printed
    assert printed.splitlines()[-1].startswith("cats_0.jpg: ")
    assert (tmp_path / "cats_and_dogs.png").stat().st_size > 10_000
    assert (tmp_path / "cats_and_dogs.keras").is_file()


def test_predict(tmp_path: Path, make_photos: Callable[..., Path]) -> None:
    photo = make_photos(tmp_path / "data", ("cats",), per_class=1) / "cats" / "cats_0.jpg"
    printed = run(
        "predict.py", photo, "--alpha", 0.25, "--weights", "none", "--output", tmp_path
    ).splitlines()
    assert sum("%" in line for line in printed) == 5
    assert "Features of conv_pw_5_relu: 28 x 28 x 64" in printed
    assert (tmp_path / "predict.png").stat().st_size > 10_000


def test_wrong_labels(tmp_path: Path, make_photos: Callable[..., Path]) -> None:
    folder = make_photos(tmp_path / "data", ("cats", "dogs"), per_class=20)
    (folder / "dogs" / "again.jpg").write_bytes((folder / "cats" / "cats_3.jpg").read_bytes())
    small = ("--weights", "none", "--image-size", 32, "--cut-layer", "conv_pw_1_relu")
    printed = run("wrong_labels.py", "--data", folder, *small, "--change", 0.1, "--output", tmp_path)
    n_found = re.search(r"(\d) of 4 changed labels are among the \d most suspicious", printed)
    assert n_found is not None
    assert int(n_found[1]) >= 3
    assert "1 identical and 0 near pairs in 41 images; 1 labelled differently" in printed
    assert len((tmp_path / "wrong_labels.csv").read_text().splitlines()) >= 4
    for name in ("wrong_labels.png", "duplicates.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_several_labels(tmp_path: Path) -> None:
    printed = run("several_labels.py", "--cut-layers", "conv_pw_1_relu", "--output", tmp_path)
    assert "160 + 160 images, labels: circle, square, triangle, line" in printed
    assert "their mean average precision on 160 others" in printed
    assert re.search(r"^mean average precision 0\.\d{3} ± ", printed, re.MULTILINE)
    assert re.search(r"^2\.png: ", printed, re.MULTILINE)
    for name in ("", "_calibration", "_mistakes"):
        assert (tmp_path / f"several_labels{name}.png").stat().st_size > 10_000
    assert (tmp_path / "several_labels.keras").is_file()


@pytest.mark.slow
def test_many_classes(tmp_path: Path, make_photos: Callable[..., Path]) -> None:
    data = make_photos(tmp_path / "data", ("a", "b", "c", "d"), per_class=6)
    small = ("--backbone", "mobilenet", "--weights", "none", "--image-size", 32)
    run("many_classes.py", "--data", data, *small, "--tune-epochs", 1, "--output", tmp_path)
    assert list(tmp_path.glob("*.png"))
    assert list(tmp_path.glob("*.keras"))


@pytest.mark.slow
def test_the_quickstart_finds_that_pretraining_helps(tmp_path: Path) -> None:
    printed = run("quickstart.py", "--output", tmp_path).splitlines()
    table = [line.split() for line in printed if line.startswith(("letters.keras", "none"))]
    assert len(table) == 4
    *transferred, none = (float(row[3].rstrip("%")) for row in table)
    assert max(transferred) > none
    assert (tmp_path / "quickstart_digits.png").is_file()
    assert (tmp_path / "quickstart_history.png").is_file()


def test_the_remarks_of_tensorflow_are_kept_away() -> None:
    code = "import _quiet, keras; keras.ops.ones(3); print('here')"
    clean = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=EXAMPLES, env=clean, check=True
    )
    assert (result.stdout, result.stderr) == ("here\n", "")


def test_what_tensorflow_says_is_shown_if_it_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("import os; os.write(2, b'why\\n'); raise ImportError('no')")
    result = subprocess.run(
        [sys.executable, "-c", "import _quiet"],
        capture_output=True,
        text=True,
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert result.returncode == 1
    assert result.stderr.startswith("why\nTraceback")
    assert "ImportError: no" in result.stderr
