"""What a notebook shows of each result: a table or a picture, and never a screen full of numbers."""

from __future__ import annotations

import re
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
    cuts = tw.compare_cuts(
        model, (IMAGES[:20], CLASSES[:20]), (IMAGES[20:], CLASSES[20:]), cut_layers=["map"], verbose=0
    )
    assert table_of(cuts)[1][1] == "map"
    layers = table_of(tw.describe(model))
    assert layers[0] == ["index", "name", "type", "output shape", "parameters", "state"]
    assert " not trainable" in tw.describe(model)._repr_html_()


def test_at_a_prompt_results_are_what_they_print(model: keras.Model) -> None:
    train, others = (IMAGES[:20], CLASSES[:20]), (IMAGES[20:], CLASSES[20:])
    report = tw.interpret.report(model, others)
    results: list[Any] = [
        tw.describe(model),
        tw.compare_cuts(model, train, others, cut_layers=["map"], verbose=0),
        tw.callbacks.find_learning_rate(model, *train, steps=20, verbose=0),
        tw.data.find_duplicates(IMAGES[:4], IMAGES[2:6], verbose=0),
        tw.predict(model, IMAGES[:3]),
        report,
        report.mistakes,
    ]
    for found in results:
        assert repr(found) == str(found)
        assert "array(" not in repr(found)
    assert "array(" not in repr(results[3].rows)
    assert re.fullmatch(r"Calibration\(error=0\.\d{3}, 20 answers in 15 bins\)", repr(report.calibration))


class TestReport:
    def report(self, n_classes: int = 2) -> Any:
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Dense(n_classes, "softmax")(keras.layers.Flatten()(inputs))
        names = [f"<class {number}>" for number in range(n_classes)]
        images = IMAGES[:, :8, :8]
        return tw.interpret.report(keras.Model(inputs, x), (images, np.arange(40) % n_classes), names)

    def test_the_confusion_matrix_is_a_table(self) -> None:
        found = self.report()
        rows = table_of(found)
        start = rows.index(["shown \\ taken for", *found.class_names])
        counts = [[int(cell) for cell in row[1:]] for row in rows[start + 1 : start + 3]]
        assert counts == found.confusion.tolist()
        assert "<pre>" not in found._repr_html_()

    def test_of_many_classes_the_confusions_are_listed(self) -> None:
        assert " times &lt;class " in self.report(20)._repr_html_()

    def test_mistakes_have_pictures(self) -> None:
        mistakes = self.report().mistakes
        rows = table_of(mistakes)
        assert rows[0] == ["", "image", "shows", "taken for", "probability"]
        assert len(rows) == 1 + len(mistakes)
        assert mistakes._repr_html_().count('<img alt="the image" src="data:image') == len(mistakes)
        assert len(table_of(mistakes[:2])) == 3
        assert mistakes[:0]._repr_html_() == "<div>no mistakes</div>"
        assert "array" not in repr(mistakes)
        assert str(mistakes).count("taken for") == len(mistakes)

    def test_mistakes_without_a_picture(self) -> None:
        ones = keras.layers.Dense(1, "sigmoid", kernel_initializer="ones")
        model = keras.Sequential([keras.Input((1,)), ones])
        found = tw.interpret.report(model, (np.array([[-2.0], [3.0]]), np.array([1, 0])), ["no", "yes"])
        assert "<img" not in found.mistakes._repr_html_()


class TestPredictions:
    def test_of_classes(self, model: keras.Model) -> None:
        found = tw.predict(model, IMAGES, class_names=["cat", "dog"])
        rows = table_of(found)
        assert rows[0] == ["image", "class", "probability", "then"]
        assert rows[1][:2] == ["image 0", found[0].name]
        assert len(rows) == 41
        assert table_of(found[0]) == rows[:2]
        assert len(table_of(found[3:5])) == 3
        assert str(found).startswith("image 0\n")
        assert isinstance(found, list)

    def test_many_are_cut_off(self, model: keras.Model) -> None:
        found = tw.predict(model, np.concatenate([IMAGES, IMAGES]))
        assert len(table_of(found)) == 51
        assert found._repr_html_().endswith("<div>... and 30 more</div>")

    def test_of_labels_and_of_numbers(self) -> None:
        inputs = keras.Input((32, 32, 3))
        network = keras.Model(inputs, keras.layers.Identity()(inputs))
        labels = tw.add_head(3, task="labels", hidden_units=None)(network)
        numbers = tw.add_head(2, task="numbers", hidden_units=None)(network)
        assert table_of(tw.predict(labels, IMAGES[:2]))[0] == ["image", "holds", "probabilities"]
        found = tw.predict(numbers, IMAGES[:2], class_names=["age", "size"])
        assert table_of(found)[0] == ["image", "age", "size"]
