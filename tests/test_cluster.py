"""The example that computes features on several workers, run with two."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import topwork as tw

EXAMPLE = Path(__file__).parent.parent / "examples" / "precompute_cluster.py"


@pytest.mark.slow
def test_two_workers_compute_each_photograph_once_and_fit_computes_none(
    tmp_path: Path, make_photos: Callable[..., Path]
) -> None:
    pytest.importorskip("distributed", reason="the example's engine is not installed")
    for part, per_class, size in (("train", 20, 40), ("validation", 6, 36)):
        make_photos(tmp_path / "data" / part, ("red", "green"), per_class, size)
    weights = tmp_path / "mobilenet.keras"
    tw.load_backbone("mobilenet", weights=None, input_shape=(32, 32, 3)).save(weights)
    arguments = {
        "--data": tmp_path / "data",
        "--cache-dir": tmp_path / "store",
        "--weights": weights,
        "--backbone": "mobilenet",
        "--cut-layer": "conv_pw_3_relu",
        "--image-size": 32,
        "--epochs": 1,
        "--workers": 2,
    }
    command = [sys.executable, EXAMPLE, *(part for pair in arguments.items() for part in pair)]
    result = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "2 workers computed 52 photographs" in result.stdout
    assert "0 computed and 52 found" in result.stdout
