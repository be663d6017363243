from __future__ import annotations

import re
import sys
from typing import Any

import keras
import numpy as np
import pytest

from topwork._figures import displayable, new_figure
from topwork.interpret import plot_history

HEAD = {
    "accuracy": [0.5, 0.7, 0.8],
    "loss": [0.9, 0.6, 0.5],
    "val_accuracy": [0.6, 0.7, 0.7],
    "val_loss": [0.8, 0.7, 0.6],
}
TUNED = {
    "accuracy": [0.85, 0.9],
    "loss": [0.4, 0.3],
    "val_accuracy": [0.75, 0.8],
    "val_loss": [0.5, 0.5],
    "learning_rate": [1e-4, 1e-5],
}


def curves(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in lines}


def borders(axes: Any) -> list[float]:
    return [line.get_xdata()[0] for line in axes.lines if line.get_label().startswith("_")]


def test_phases_are_joined_on_one_axis() -> None:
    figure = plot_history(HEAD, TUNED)
    accuracy, loss = figure.axes
    assert (accuracy.get_ylabel(), loss.get_ylabel()) == ("accuracy", "loss")
    assert curves(accuracy) == {
        "training": ([1, 2, 3, 4, 5], [0.5, 0.7, 0.8, 0.85, 0.9]),
        "validation": ([1, 2, 3, 4, 5], [0.6, 0.7, 0.7, 0.75, 0.8]),
    }
    assert curves(loss)["validation"] == ([1, 2, 3, 4, 5], [0.8, 0.7, 0.6, 0.5, 0.5])


def test_the_border_is_drawn_and_labelled() -> None:
    for axes in plot_history(HEAD, TUNED).axes:
        assert borders(axes) == [3.5]
        assert [text.get_text() for text in axes.texts] == ["phase 1", "phase 2"]
    figure = plot_history(HEAD, TUNED, TUNED, labels=["head", "top", "all"])
    assert borders(figure.axes[0]) == [3.5, 5.5]
    assert [text.get_text() for text in figure.axes[0].texts] == ["head", "top", "all"]


def test_one_phase_has_no_border() -> None:
    axes = plot_history(HEAD).axes[0]
    assert borders(axes) == []
    assert len(axes.texts) == 0


def test_what_keras_returns() -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    x = np.ones((2, 1))
    figure = plot_history(model.fit(x, x, epochs=2, verbose=0))
    assert [axes.get_ylabel() for axes in figure.axes] == ["mae", "loss"]
    assert list(curves(figure.axes[0])) == ["training"]


def test_validation_in_some_epochs_or_phases_only() -> None:
    sparse = {"loss": [4.0, 3.0, 2.0, 1.0], "val_loss": [3.0, 1.0]}
    figure = plot_history({"loss": [9.0]}, sparse)
    assert curves(figure.axes[0])["validation"] == ([3, 5], [3.0, 1.0])


def test_it_can_be_saved(tmp_path: Any) -> None:
    plot_history(HEAD, TUNED).savefig(tmp_path / "history.png", dpi=30)
    assert (tmp_path / "history.png").stat().st_size > 1000


def test_nothing_given() -> None:
    with pytest.raises(ValueError, match=r"^plot_history: there is no history. Keep what fit returns"):
        plot_history()


@pytest.mark.parametrize("history", [[0.1, 0.2], {}, {"loss": []}])
def test_not_a_history(history: Any) -> None:
    with pytest.raises(ValueError, match=r"of at least one epoch, .* Received: .* Give one for each"):
        plot_history(history)


@pytest.mark.parametrize("labels", [["head"], "ab"])
def test_wrong_labels(labels: Any) -> None:
    received = re.escape(f"Received: {labels!r}")
    with pytest.raises(ValueError, match=rf"each of the 2 histories. {received}. Give a list of 2"):
        plot_history(HEAD, TUNED, labels=labels)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'drawn with matplotlib.* pip install "topwork\[plots\]"'):
        plot_history(HEAD)


def test_a_notebook_is_prepared_and_shows_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib
    import matplotlib.pyplot as plt

    monkeypatch.setattr(matplotlib, "get_backend", lambda: "inline")
    new_figure()
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [([0, 100, 255], [0, 100, 255]), ([0, 0.5, 1], [0, 128, 255]), ([-1, 0, 1], [0, 128, 255])],
)
def test_displayable_pixels(pixels: list[float], expected: list[int]) -> None:
    image = np.array(pixels, "float32").reshape(1, 3, 1)
    assert displayable(image).tolist() == [expected]
    assert displayable(np.repeat(image, 3, -1)).shape == (1, 3, 3)
