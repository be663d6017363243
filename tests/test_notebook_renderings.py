"""What a notebook shows of each result: a table or a picture, and never a screen full of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import topwork as tw
from test_tables import Cells

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (40, 32, 32, 3)).astype("float32")
CLASSES = np.arange(40) % 2


@pytest.fixture(scope="module")
def model() -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    features = keras.layers.Conv2D(4, 3, name="map", trainable=False)(inputs)
    network = keras.Model(inputs, features, name="small")
    return tw.add_head(2, hidden_units=None)(network)


def table_of(thing: Any) -> list[list[str]]:
    return Cells(thing._repr_html_()).rows


def test_a_store_and_what_it_says(model: keras.Model, tmp_path: Path) -> None:
    store = tw.open_store(tmp_path / "a&b")
    assert store._repr_html_() == f"<div><b>{tmp_path}/a&amp;b: 0 collections, 0 bytes</b></div>"
    tw.precompute(model, IMAGES, cache_dir=store.directory, verbose=0)
    header, row = table_of(store)
    assert header == ["frozen part", "rows", "bytes a row", "on disk", "last used", "address"]
    assert row[:3] == ["model=small", "40", "16"]
    assert table_of(store.info()) == [header, row]
    assert "1 collection, " in str(store.info())


def test_a_heat_map_is_a_picture_in_a_notebook_and_a_line_in_a_list(model: keras.Model) -> None:
    pytest.importorskip("matplotlib")
    found = tw.interpret.grad_cam(model, IMAGES[0], class_names=["cat", "dog"])
    assert found._repr_png_().startswith(b"\x89PNG")
    name = found.class_name
    assert repr(found) == f"HeatMap({name}: {found.probability:.1%}, layer 'map', 32 x 32 pixels)"


def test_a_heat_map_without_matplotlib(model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert tw.interpret.grad_cam(model, IMAGES[0])._repr_png_() is None


def test_a_range_test(model: keras.Model) -> None:
    found = tw.callbacks.find_learning_rate(model, IMAGES, CLASSES, steps=20, verbose=0)
    rows = table_of(found)
    assert rows[0] == ["rate", "loss"]
    assert [" ".join(row) for row in rows] == [
        " ".join(line.split()) for line in str(found).splitlines()[:-1]
    ]


def test_a_comparison_and_a_table_of_layers(model: keras.Model) -> None:
    cuts = tw.compare_cuts(model, (IMAGES, CLASSES), (IMAGES, CLASSES), cut_layers=["map"], verbose=0)
    assert table_of(cuts)[1][1] == "map"
    layers = table_of(tw.describe(model))
    assert layers[0] == ["index", "name", "type", "output shape", "parameters", "state"]
    assert " not trainable" in tw.describe(model)._repr_html_()
