"""Heads on the tokens of transformers, made of Keras' own layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import topwork as tw
from topwork._networks.tokens import tokens_of

SHAPE = (32, 48, 3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (6, *SHAPE)).astype("float32")
CLASSES = np.arange(6) % 2


def transformer(n_prefix, shape=SHAPE, n_blocks=2, patch=8, width=8):
    """A vision transformer: patches, tokens in front of them, blocks."""
    image = keras.Input(shape, name="image")
    scaled = keras.layers.Rescaling(1 / 127.5, -1, name="scaled")(image)
    x = keras.layers.Conv2D(width, patch, patch, name="patches")(scaled)
    x = keras.layers.Reshape((-1, width), name="tokens")(x)
    if n_prefix:
        x = keras.layers.ZeroPadding1D((n_prefix, 0), name="prefix")(x)
    for i in range(1, n_blocks + 1):
        normed = keras.layers.LayerNormalization(name=f"block_{i}_norm")(x)
        attended = keras.layers.MultiHeadAttention(2, 4, name=f"block_{i}_attention")(normed, normed)
        x = keras.layers.Add(name=f"block_{i}_add")([x, attended])
        x = keras.layers.Dense(width, activation="gelu", name=f"block_{i}")(x)
    return keras.Model(image, x, name="transformer")


@pytest.mark.parametrize("n_prefix", [0, 1, 2, 5])
def test_tokens_are_told_from_patches_by_their_number(n_prefix):
    model = transformer(n_prefix)
    tokens = tokens_of(model, model.output)
    assert (tokens.n_prefix, tokens.rows, tokens.columns) == (n_prefix, 4, 6)


def test_tokens_of_anything_else_are_no_grid():
    text = keras.Input((100, 3))
    assert tokens_of(keras.Model(text, keras.layers.ReLU()(text)), text) is None
    image = keras.Input((32, 32, 3))
    rows = keras.layers.Reshape((45, -1))(keras.layers.Flatten()(keras.layers.Resizing(30, 45)(image)))
    assert tokens_of(keras.Model(image, rows), rows) is None  # 29 more than 16 places


@pytest.mark.parametrize("n_prefix", [0, 1, 5])
@pytest.mark.parametrize("pooling", ["avg", "max", "cls", "flatten"])
def test_a_head_takes_the_tokens_that_it_says(n_prefix, pooling):
    backbone = transformer(n_prefix)
    if pooling == "cls" and not n_prefix:
        with pytest.raises(ValueError, match=r"(?s)'transformer' gives .*which has none.*Take 'avg'"):
            tw.add_head(2, pooling=pooling)(backbone)
        return
    model = tw.add_head(2, pooling=pooling)(backbone)
    tokens = np.asarray(backbone(IMAGES))
    expected = {
        "avg": tokens[:, n_prefix:].mean(axis=1),
        "max": tokens[:, n_prefix:].max(axis=1),
        "cls": tokens[:, 0],
        "flatten": tokens.reshape(len(tokens), -1),
    }
    received = keras.Model(model.input, model.get_layer("head_pooling").output)(IMAGES)
    np.testing.assert_allclose(received, expected[pooling], rtol=1e-4, atol=1e-5)


def test_a_feature_map_has_no_class_token():
    backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match="pooling='cls' takes the class token of a transformer"):
        tw.add_head(2, pooling="cls")(backbone)


@pytest.mark.parametrize("pooling", ["avg", "cls"])
def test_a_head_on_tokens_is_trained_as_keras_trains_it(pooling, tmp_path):
    def made():
        keras.utils.set_random_seed(0)
        backbone = tw.freeze(transformer(2))
        return tw.add_head(2, dropout=0.0, pooling=pooling, learning_rate=0.01)(backbone)

    ours, theirs = made(), made()
    arguments = {"batch_size": 2, "epochs": 2, "shuffle": False, "verbose": 0}
    received = tw.fit(ours, IMAGES, CLASSES, **arguments).history
    expected = theirs.fit(IMAGES, CLASSES, **arguments).history
    np.testing.assert_allclose(received["loss"], expected["loss"], rtol=1e-4)
    ours.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(loaded(IMAGES), ours(IMAGES), rtol=1e-5)


def test_boundaries_between_blocks():
    model = tw.add_head(2)(tw.freeze(transformer(1, n_blocks=3)))
    assert tw.cut_points(model)[:4] == ["scaled", "patches", "tokens", "prefix"]
    tw.fine_tune(model, "block_3_norm")
    assert not model.get_layer("block_2_attention").trainable
    assert model.get_layer("block_3_attention").trainable
    with pytest.raises(ValueError, match="lies in the head"):
        tw.fine_tune(model, "head_hidden")


def test_a_head_without_a_boundary_is_tuned_from_the_last_quarter_of_the_blocks():
    model = tw.fine_tune(tw.add_head(2, hidden_units=None)(tw.freeze(transformer(1, n_blocks=8))))
    learning = [layer.name for layer in model.layers if layer.trainable_weights]
    assert learning[0] == "block_7_norm"
    assert learning[-2:] == ["block_8", "head_output"]


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="it came with Keras 3.15")
def test_rates_fall_from_block_to_block_of_the_encoder():
    def moved(decay):
        keras.utils.set_random_seed(0)
        model = tw.add_head(2, 0.0, hidden_units=None)(transformer(1))
        tw.fine_tune(model, "patches", layer_decay=decay, learning_rate=1e-3)
        before = {v.path: np.array(v) for v in model.trainable_variables}
        model.train_on_batch(IMAGES, CLASSES)
        return {v.path: np.array(v) - before[v.path] for v in model.trainable_variables}

    plain, decayed = moved(1.0), moved(0.5)
    depths = {"head_output": 0, "block_2": 1, "block_2_attention/value": 1, "block_1": 2, "patches": 3}
    for name, depth in depths.items():
        path = f"{name}/kernel"
        assert plain[path].any()
        np.testing.assert_allclose(decayed[path], 0.5**depth * plain[path], rtol=1e-2, atol=1e-6)


def test_features_of_tokens_are_what_the_head_takes():
    backbone = transformer(2)
    tokens = np.asarray(backbone(IMAGES))
    patches = tokens[:, 2:].mean(axis=1)
    np.testing.assert_allclose(tw.features(backbone, IMAGES, verbose=0), patches, rtol=1e-4, atol=1e-5)
    for pooling, expected in {"avg": patches, "cls": tokens[:, 0]}.items():
        model = tw.add_head(2, pooling=pooling)(backbone)
        received = tw.features(model, IMAGES, verbose=0)
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)
    flat = tw.add_head(2, pooling="flatten")(backbone)
    assert tw.features(flat, IMAGES, verbose=0).shape == (len(IMAGES), tokens[0].size)


def test_compare_cuts_takes_the_average_and_the_class_token():
    network = transformer(2, n_blocks=3)
    data = (IMAGES, CLASSES), (255 - IMAGES, CLASSES)
    found = tw.compare_cuts(network, *data, cut_layers=["block_1", "block_3"], verbose=0)
    assert [(row.cut_layer, row.pooling) for row in found] == [
        ("block_1", "avg"),
        ("block_1", "cls"),
        ("block_3", "avg"),
        ("block_3", "cls"),
    ]
    assert "block_3 (cls)" in str(found)
    one_block = 4 * 8 * 8 + 8 * 8  # the kernels of an attention of 2 heads of 4, and of a Dense
    assert found[2].multiply_adds - found[0].multiply_adds == 2 * 26 * one_block
    every_block = tw.compare_cuts(network, *data, verbose=0)
    assert [row.cut_layer for row in every_block][-2:] == ["block_3", "block_3"]


@pytest.mark.parametrize("pooling", ["avg", "cls"])
def test_grad_cam_shows_patches(pooling):
    model = tw.add_head(2, pooling=pooling, hidden_units=None)(transformer(2, n_blocks=3))
    found = tw.interpret.grad_cam(model, IMAGES[0])
    # Behind the last attention the class token is all that counts.
    assert found.layer == {"avg": "block_3", "cls": "block_2"}[pooling]
    assert found.heatmap.shape == SHAPE[:2]
    assert tw.interpret.grad_cam(model, IMAGES[0], "block_1_norm").layer == "block_1_norm"
    with pytest.raises(ValueError, match=r"or the tokens of patches. Received: 'head_pooling'"):
        tw.interpret.grad_cam(model, IMAGES[0], "head_pooling")


def test_the_head_of_a_transformer_is_found_without_names():
    backbone = transformer(1)
    pooled = keras.layers.GlobalAveragePooling1D(name="pooled")(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(2, name="scores")(pooled))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="lies in the head, which starts at index 13"):
        tw.fine_tune(model, "pooled")
