"""What Keras thaws when it loads a file is said, and frozen again."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import topwork as tw
from topwork._networks.variables import set_trainable

SHAPE = (16, 16, 3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (6, *SHAPE)).astype("float32")
CLASSES = np.arange(6) % 2
THAWED = (
    "the layer 'attention' .MultiHeadAttention. of 'attends' is marked as frozen, and the layers inside "
    "of it are not .1 such layers.: so Keras"
)


def backbone():
    image = keras.Input(SHAPE, name="image")
    x = keras.layers.Conv2D(4, 4, 4, name="patches")(image)
    x = keras.layers.Reshape((-1, 4), name="tokens")(x)
    attended = keras.layers.MultiHeadAttention(2, 2, name="attention")(x, x)
    return keras.Model(image, keras.layers.Add(name="sum")([x, attended]), name="attends")


@pytest.fixture
def saved(tmp_path):
    model = tw.add_head(2, hidden_units=None)(tw.freeze(backbone()))
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def loaded(path):
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):  # Keras, of it
        model = keras.saving.load_model(path)
    assert len(model.trainable_variables) == 2 + 8  # so does Keras; else all of this can go
    return model


CALLS = {
    "fit": lambda model, folder: tw.fit(model, IMAGES, CLASSES, verbose=0),
    "fit_head": lambda model, folder: tw.fit_head(model, IMAGES, CLASSES, verbose=0),
    "precompute": lambda model, folder: tw.precompute(model, IMAGES, cache_dir=folder, verbose=0),
    "find_learning_rate": lambda model, folder: tw.callbacks.find_learning_rate(
        model, IMAGES, CLASSES, verbose=0
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_it_is_frozen_again_and_said(name, saved, tmp_path):
    model = loaded(saved)
    before = model.get_layer("attention").get_weights()
    with pytest.warns(UserWarning, match=f"{name}: {THAWED}"):
        CALLS[name](model, tmp_path / "store")
    assert [v.path for v in model.trainable_variables] == ["head_output/kernel", "head_output/bias"]
    for old, new in zip(before, model.get_layer("attention").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    CALLS[name](model, tmp_path / "store")  # and not said again


def test_describe_shows_it(saved):
    row = next(row for row in tw.describe(loaded(saved)) if row.name == "attention")
    assert row.state == "trainable"


@pytest.mark.parametrize(
    ("change", "n_trained"),
    [(lambda model: tw.freeze(model, "sum"), 2), (lambda model: tw.fine_tune(model, "attention"), 10)],
)
def test_what_is_chosen_after_loading_is_not_said(saved, change, n_trained):
    model = change(loaded(saved))
    assert len(model.trainable_variables) == n_trained
    tw.fit(model, IMAGES, CLASSES, verbose=0)
    assert len(model.trainable_variables) == n_trained


def test_what_was_thawed_by_hand_stays_so():
    network = tw.freeze(backbone())
    inner = network.get_layer("attention").query_dense
    set_trainable(inner, True)
    model = tw.add_head(2, hidden_units=None)(network)
    tw.fit(model, IMAGES, CLASSES, verbose=0)
    assert inner.kernel.trainable
    assert next(row for row in tw.describe(model) if row.name == "attention").state == "partial"
