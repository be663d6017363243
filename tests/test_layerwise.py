"""fine_tune(layer_decay=...): really smaller steps towards the input, in plain Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import topwork as tw
from plain_process import run_without_topwork

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
layers = keras.layers
needs_multi_optimizer = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="MultiOptimizer came with Keras 3.15"
)
X = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
Y = np.array([0, 1, 2, 0])


@pytest.fixture
def model():
    """Three blocks of the trunk, of two layers, one and one, which a clean cut ends each; a head."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    x = layers.BatchNormalization(name="stem_bn")(x)
    y = layers.Conv2D(4, 1, name="left")(x)
    z = layers.Conv2D(4, 1, name="right")(x)
    x = layers.Add(name="sum")([y, z])
    x = layers.Conv2D(4, 1, name="last.conv")(x)
    model = tw.add_head(3, 0.0, hidden_units=4)(keras.Model(image, x, name="trunk"))
    model.compile(model.optimizer, model.loss, run_eagerly=True)
    return model


def state(model):
    return {weight.path: np.array(weight.value) for weight in model.weights}


def steps(model, **arguments):
    """How far each kernel goes in one step of fine-tuning, from the same start."""
    start = model.get_weights()
    tw.fine_tune(model, learning_rate=0.01, **{"unfreeze_from": 1, **arguments})
    before = state(model)
    model.train_on_batch(X, Y)
    after = state(model)
    model.set_weights(start)
    return {path.split("/")[0]: after[path] - before[path] for path in before if "kernel" in path}


DEPTHS = {"head_output": 0, "head_hidden": 0, "last.conv": 1, "left": 2, "right": 2, "stem": 3}


@needs_multi_optimizer
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_each_block_takes_smaller_steps_than_the_one_above(model, optimizer):
    plain = steps(model, optimizer=optimizer)
    decayed = steps(model, optimizer=optimizer, layer_decay=0.5)
    assert set(decayed) == set(DEPTHS)
    for name, depth in DEPTHS.items():
        assert np.abs(plain[name]).max() > 1e-6
        np.testing.assert_allclose(decayed[name], 0.5**depth * plain[name], rtol=1e-3, atol=1e-7)


@needs_multi_optimizer
def test_blocks_below_the_boundary_do_not_move(model):
    moved = steps(model, unfreeze_from="last.conv", layer_decay=0.5)
    assert {name for name, step in moved.items() if step.any()} == {
        "last.conv",
        "head_hidden",
        "head_output",
    }


@needs_multi_optimizer
def test_batch_normalization_stays_frozen(model):
    tw.fine_tune(model, 1, layer_decay=0.5)
    before = model.get_layer("stem_bn").get_weights()
    model.train_on_batch(X, Y)
    for old, new in zip(before, model.get_layer("stem_bn").get_weights(), strict=True):
        assert old.tobytes() == new.tobytes()


GO_ON = """
import sys, keras, numpy as np
model = keras.models.load_model(sys.argv[1])
x, y = np.load(sys.argv[2]), np.array([0, 1, 2, 0])
model.train_on_batch(x, y)
np.savez(sys.argv[3], *model.get_weights())
"""


@pytest.mark.thorough
@needs_multi_optimizer
def test_a_saved_model_goes_on_training_without_topwork(model, tmp_path):
    tw.fine_tune(model, 1, learning_rate=0.01, optimizer="adam", layer_decay=0.5)
    model.train_on_batch(X, Y)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", X)
    run_without_topwork(GO_ON, tmp_path / "model.keras", tmp_path / "x.npy", tmp_path / "after.npz")
    model.train_on_batch(X, Y)
    after = np.load(tmp_path / "after.npz")
    for here, there in zip(model.get_weights(), after.values(), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-6)


def test_message_on_a_keras_without_multi_optimizer(model, monkeypatch):
    monkeypatch.delattr(keras.optimizers, "MultiOptimizer", raising=False)
    tw.freeze(model, "head_pooling")
    with pytest.raises(ValueError, match=r"needs keras\.optimizers\.MultiOptimizer") as caught:
        tw.fine_tune(model, 1, layer_decay=0.5)
    assert "Keras 3.15 and later" in str(caught.value)
    assert f"Installed: {keras.__version__}" in str(caught.value)
    assert "leave layer_decay at 1" in str(caught.value)
    assert not model.get_layer("stem").trainable  # an error changes nothing
