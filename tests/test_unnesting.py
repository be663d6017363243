"""Models inside of models: the pattern of Keras' own guide."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import topwork as tw
from topwork._features.split import split
from topwork._networks.graph import steps
from topwork._networks.unnesting import unnested

SHAPE = (16, 16, 3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (12, *SHAPE)).astype("float32")
CLASSES = np.arange(12) % 2


def base(dropout=0.0):
    image = keras.Input(SHAPE, name="input")
    x = keras.layers.Conv2D(4, 3, name="conv_1")(image)
    x = keras.layers.BatchNormalization(name="bn_1")(x)
    x = keras.layers.Dropout(dropout, name="drop")(x) if dropout else x
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv_2")(x)
    return keras.Model(image, x, name="base")


def guide(inner, training=False, *, as_sequential=False):
    """Rescaling in front, the base as one layer, a head behind."""
    keras.utils.set_random_seed(1)
    before = keras.layers.Rescaling(1 / 127.5, -1, name="scaled")
    behind = [
        keras.layers.GlobalAveragePooling2D(name="pooled"),
        keras.layers.Dense(2, "softmax", name="scores"),
    ]
    if as_sequential:
        model = keras.Sequential([keras.Input(SHAPE), before, inner, *behind], name="guide")
    else:
        image = keras.Input(SHAPE, name="image")
        x = inner(before(image), training=training)
        for layer in behind:
            x = layer(x)
        model = keras.Model(image, x, name="guide")
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


def compare(ours, theirs, n_epochs=2):
    arguments = {"batch_size": 4, "epochs": n_epochs, "shuffle": False, "verbose": 0}
    expected = theirs.fit(IMAGES, CLASSES, **arguments).history["loss"]
    received = tw.fit(ours, IMAGES, CLASSES, **arguments).history["loss"]
    np.testing.assert_allclose(received, expected, rtol=1e-4)
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5, err_msg=a.path)


def freeze_all(inner):
    inner.trainable = False


def freeze_first(inner):
    inner.trainable = True
    for name in ("conv_1", "bn_1"):
        inner.get_layer(name).trainable = False


def names(model):
    return {step.operation.name for step in steps(model) if not step.is_input}


@pytest.mark.parametrize("as_sequential", [False, True])
@pytest.mark.parametrize("frozen", [freeze_all, freeze_first])
def test_a_model_is_split_inside_of_a_model_in_it(frozen, as_sequential):
    def made():
        keras.utils.set_random_seed(0)
        inner = base()
        frozen(inner)
        return guide(inner, as_sequential=as_sequential)

    ours, theirs = made(), made()
    parts = split(ours, [IMAGES])
    assert ("conv_2" in names(parts.prefix)) == (frozen is freeze_all)
    assert "conv_1" in names(parts.prefix)
    compare(ours, theirs)


def test_what_lies_before_an_active_dropout_is_computed_once():
    inner = base(dropout=0.5)
    freeze_all(inner)
    assert names(split(guide(inner, training=None)).prefix) == {"scaled", "conv_1", "bn_1"}
    with_guide = split(guide(inner, training=False))  # Keras' own way to switch it off
    assert {"drop", "conv_2"} <= names(with_guide.prefix)


def test_models_in_models_in_models_and_one_called_twice():
    inner = base()
    image, other = keras.Input(SHAPE, name="image"), keras.Input(SHAPE, name="other")
    middle = keras.Model(image, inner(image), name="middle")
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")
    joined = keras.layers.Concatenate(name="joined")([pooled(middle(image)), pooled(middle(other))])
    model = keras.Model([image, other], keras.layers.Dense(2, name="scores")(joined))
    calls = [step.operation.name for step in unnested(steps(model)) if not step.is_input]
    assert sorted(calls) == sorted(["conv_1", "bn_1", "conv_2", "pooled"] * 2 + ["joined", "scores"])


def test_what_cannot_be_taken_apart_stays_one_layer():
    words = keras.Input((5,), dtype="int32")
    masked = keras.layers.Embedding(10, 3, mask_zero=True)(words)
    masking = keras.Model(words, masked, name="masking")
    pooled = keras.layers.GlobalAveragePooling1D()(masking(words))
    assert "masking" in [s.operation.name for s in unnested(steps(keras.Model(words, pooled)))]
    image = keras.Input((8, 8, 3))
    smaller = keras.Model(image, keras.layers.ReLU()(image), name="any_size")
    wide = keras.Input((8, 8, 3), dtype="float16")
    assert "any_size" in [s.operation.name for s in unnested(steps(keras.Model(wide, smaller(wide))))]


def test_flatten_shares_the_variables(tmp_path):
    inner = base()
    model = guide(inner)
    flat = tw.flatten(model)
    assert [layer.name for layer in flat.layers] == [
        *("image", "scaled", "conv_1", "bn_1", "conv_2", "pooled", "scores"),
    ]
    assert {id(v) for v in flat.weights} == {id(v) for v in model.weights}
    np.testing.assert_allclose(flat(IMAGES), model(IMAGES), rtol=1e-6)
    assert flat.compiled
    assert tw.flatten(flat) is flat
    tw.fine_tune(flat, "conv_2")
    tw.fit(flat, IMAGES, CLASSES, epochs=1, verbose=0)
    np.testing.assert_allclose(flat(IMAGES), model(IMAGES), rtol=1e-6)
    flat.save(tmp_path / "flat.keras")
    loaded = keras.saving.load_model(tmp_path / "flat.keras")
    np.testing.assert_allclose(loaded(IMAGES), model(IMAGES), rtol=1e-5)


def test_flatten_gives_two_layers_two_names():
    inner, other = base(), base()
    other.name = "other"
    image = keras.Input(SHAPE, name="conv_2")  # as one inside is named
    both = keras.layers.Concatenate(name="both")([inner(image), other(image)])
    flat = tw.flatten(keras.Model(image, both))
    assert [layer.name for layer in flat.layers if layer.weights] == [
        *("conv_1", "other_conv_1", "bn_1", "other_bn_1", "base_conv_2", "other_conv_2"),
    ]


def test_flatten_says_what_it_cannot_name():
    inner = base()
    image = keras.Input(SHAPE)
    inner.get_layer("conv_1").name = "base_conv_2"
    outer = keras.layers.Conv2D(3, 1, name="conv_2")(image)
    with pytest.raises(ValueError, match="flatten: two layers are named 'base_conv_2', and in a flat"):
        tw.flatten(keras.Model(image, inner(outer)))
    with pytest.raises(ValueError, match="has none: a subclassed model"):
        tw.flatten(keras.Sequential([keras.layers.Dense(2)]))
