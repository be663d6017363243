"""Weights given from memory: `Normalization` computes with what it was given, as after loading a file."""

from pathlib import Path

import keras
import numpy as np
import pytest

import topwork as tw
from topwork._features.engine import Engine
from topwork._features.functions import _in_precision
from topwork._networks.variables import give_weights
from topwork._transfer.transfer import own_copy

layers = keras.layers
MEAN, VARIANCE = (0.5, 0.4, 0.3), (0.2, 0.1, 0.3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")


def adapted(*, nested: bool = False) -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(IMAGES)
    inner = keras.Sequential([keras.Input((32, 32, 3)), normalization]) if nested else normalization
    return keras.Model(inputs, layers.Conv2D(2, 3, name="conv")(inner(inputs)), name="own")


@pytest.mark.parametrize("nested", [False, True])
def test_a_copy_computes_what_its_original_computes(nested: bool) -> None:
    model = adapted(nested=nested)
    copy = keras.models.clone_model(model)
    give_weights(copy, model.get_weights())
    np.testing.assert_array_equal(copy(IMAGES), model(IMAGES))


def test_copies_that_the_library_makes() -> None:
    model = adapted()
    np.testing.assert_array_equal(own_copy(model)(IMAGES), model(IMAGES))
    low = _in_precision(model, Engine("tensorflow", "bfloat16").precision)
    np.testing.assert_allclose(np.asarray(low(IMAGES), "float32"), model(IMAGES), atol=0.1)


@pytest.mark.thorough
def test_a_file_of_the_whole_network_normalises_the_cut_one(tmp_path: Path) -> None:
    """EfficientNet keeps mean and variance of the pixels among its weights."""
    whole = keras.applications.EfficientNetB0(weights=None)
    given = next(layer for layer in whole.layers if isinstance(layer, layers.Normalization))
    given.set_weights([np.array(each) for each in (MEAN, VARIANCE, 0)])
    given.finalize_state()
    file = tmp_path / "whole.weights.h5"
    whole.save_weights(file)
    cut = tw.load_backbone("efficientnet_b0", "block2b_add", weights=file, input_shape=(64, 64, 3))
    layer = cut.get_layer("normalization")
    expected = (IMAGES / 255 - MEAN) / np.sqrt(VARIANCE)
    np.testing.assert_allclose(layer(IMAGES / 255), expected, rtol=1e-4, atol=1e-4)
