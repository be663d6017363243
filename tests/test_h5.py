"""The older format, .h5: what Keras cannot load of it again, and the way back from it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import topwork as tw
from versions import KERAS

SHAPE = (32, 32, 3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (4, *SHAPE)).astype("float32")
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def made(name, seed):
    keras.utils.set_random_seed(seed)
    options = {"alpha": 0.25} if name == "mobilenet" else {}
    backbone = tw.load_backbone(name, weights=None, input_shape=SHAPE, **options)
    return tw.add_head(2, hidden_units=None)(tw.freeze(backbone)), options


# Scaled to -1..1, turned to BGR, and attention that is an operation, no layer.
UNKNOWN = {"mobilenet": "TrueDivide", "vgg16": "GetItem"}


@pytest.mark.parametrize("name", UNKNOWN)
def test_the_way_back(name, tmp_path):
    model, options = made(name, 1)
    if KERAS < (3, 13) and name == "vgg16":
        pytest.skip("an older Keras does not even write it")
    model.save(tmp_path / "model.h5")
    # If Keras learns it, docs/export.md has to be changed.
    with pytest.raises(ValueError, match=f"Unknown layer: '{UNKNOWN[name]}'"):
        keras.saving.load_model(tmp_path / "model.h5")
    again, _ = made(name, 2)
    again.load_weights(tmp_path / "model.h5")
    np.testing.assert_allclose(again(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-6)
    backbone = tw.load_backbone(name, weights=tmp_path / "model.h5", input_shape=SHAPE, **options)
    features = keras.Model(model.input, model.get_layer("head_pooling").input)(IMAGES)
    np.testing.assert_allclose(backbone(IMAGES), features, rtol=1e-4, atol=1e-5)


def test_a_network_that_scales_in_a_layer_is_loaded(tmp_path):
    model, _ = made("efficientnet_v2_b0", 1)
    model.save(tmp_path / "model.h5")
    loaded = keras.saving.load_model(tmp_path / "model.h5")
    np.testing.assert_allclose(loaded(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)


def checkpointed(model, path, **options):
    callback = keras.callbacks.ModelCheckpoint(str(path), **options)
    tw.fit(model, IMAGES, np.arange(4) % 2, callbacks=[callback], verbose=0)


def test_a_checkpoint_that_cannot_be_loaded_is_said(tmp_path):
    model, _ = made("mobilenet", 1)
    with pytest.warns(UserWarning, match=r"fit: ModelCheckpoint writes .*, and of 'mobilenet' Keras"):
        checkpointed(model, tmp_path / "x.h5")
    checkpointed(model, tmp_path / "x.keras")  # a warning would be an error
    checkpointed(model, tmp_path / "x.weights.h5", save_weights_only=True)
