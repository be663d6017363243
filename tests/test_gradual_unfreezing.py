"""Gradual unfreezing, as the documentation shows it: a loop of `fine_tune` and `fit`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import topwork as tw

# Trained and validated on one small set of images; test_shared_images.py looks at what is said of that.
pytestmark = pytest.mark.filterwarnings("ignore:.*training data (too|itself)")

BOUNDARIES = ["block_3", "block_2", "block_1"]
SIZE = 8


@pytest.fixture
def data() -> tuple[Any, Any]:
    """Images that are brighter in their left or in their right half: the class."""
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 2
    images = rng.uniform(0, 155, (24, SIZE, SIZE, 3)).astype("float32")
    for image, label in zip(images, labels, strict=True):
        half = slice(label * SIZE // 2, (label + 1) * SIZE // 2)
        image[:, half] += 100
    return images, labels


@pytest.fixture
def backbone() -> keras.Model:
    x = image = keras.Input((SIZE, SIZE, 3))
    for number in (1, 2, 3):
        convolution = keras.layers.Conv2D(4, 3, padding="same", name=f"block_{number}")
        x = keras.layers.LeakyReLU(name=f"block_{number}_relu")(convolution(x))
    return tw.freeze(keras.Model(image, x, name="trunk"))


def kernels(model: keras.Model) -> dict[str, Any]:
    return {layer.name: np.array(layer.weights[0]) for layer in model.layers if layer.weights}


def test_each_phase_trains_one_block_more(backbone: keras.Model, data: Any) -> None:
    model = tw.add_head(n_classes=2, hidden_units=None)(backbone)
    options = {"validation_data": data, "batch_size": 8, "verbose": 0}
    histories = [tw.fit(model, *data, epochs=2, **options)]
    names = [layer.name for layer in model.layers]
    for boundary in BOUNDARIES:
        before = kernels(model)
        tw.fine_tune(model, unfreeze_from=boundary)
        histories.append(tw.fit(model, *data, epochs=2, **options))
        moved = {name for name, kernel in kernels(model).items() if (kernel != before[name]).any()}
        assert moved == {name for name in before if names.index(name) >= names.index(boundary)}

    figure = tw.interpret.plot_history(*histories, labels=["head", *BOUNDARIES])
    accuracy = figure.axes[0]
    training = accuracy.get_lines()[0]
    joined = [value for history in histories for value in history.history["accuracy"]]
    np.testing.assert_allclose(training.get_ydata(), joined)
    assert list(training.get_xdata()) == list(range(1, 9))
    assert {"head", *BOUNDARIES} <= {text.get_text() for text in accuracy.texts}
