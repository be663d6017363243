"""Boundaries inside of models that are used as layers, by `"base/layer"`, and recommended ones."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import topwork as tw
from topwork._networks.applications import APPLICATIONS
from topwork._networks.blocks import last_stage
from topwork._networks.boundary import can_learn

layers = keras.layers
SHAPE = (32, 32, 3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (12, *SHAPE)).astype("float32")
CLASSES = np.arange(12) % 2
needs_multi_optimizer = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="MultiOptimizer came with Keras 3.15"
)


def base():
    """Two stages of two blocks each."""
    x = image = keras.Input(SHAPE, name="inner_image")
    for stage in (1, 2):
        x = layers.Conv2D(4 * stage, 3, 2, padding="same", name=f"down_{stage}")(x)
        x = layers.BatchNormalization(name=f"down_{stage}_bn")(x)
        for block in (1, 2):
            y = layers.Conv2D(4 * stage, 3, padding="same", name=f"conv_{stage}{block}")(x)
            x = layers.Add(name=f"add_{stage}{block}")([x, y])
    return keras.Model(image, x, name="base")


def wrapped(inner, name="guide"):
    """As Keras' own guide has it."""
    image = keras.Input(SHAPE, name=f"{name}_image")
    x = inner(layers.Rescaling(1 / 127.5, -1, name=f"{name}_scaled")(image), training=False)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    model = keras.Model(image, layers.Dense(2, "softmax", name="scores")(x), name=name)
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    return model


def guide(n_levels=1):
    keras.utils.set_random_seed(0)
    inner = base()
    if n_levels == 2:
        image = keras.Input(SHAPE, name="middle_image")
        inner = keras.Model(image, inner(image), name="middle")
    return wrapped(inner)


def learning(model):
    flat = tw.flatten(model)
    return [layer.name for layer in flat.layers if layer.trainable_weights]


@pytest.mark.parametrize(("n_levels", "address"), [(1, "base/conv_21"), (2, "middle/base/conv_21")])
def test_a_boundary_inside_of_a_model_in_a_model(n_levels, address):
    def made():
        return tw.fine_tune(guide(n_levels), address, learning_rate=0.01)

    ours, theirs = made(), made()
    assert learning(ours) == ["conv_21", "conv_22", "scores"]
    arguments = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    expected = theirs.fit(IMAGES, CLASSES, **arguments).history["loss"]
    np.testing.assert_allclose(
        tw.fit(ours, IMAGES, CLASSES, **arguments).history["loss"], expected, rtol=1e-4
    )
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_freeze_and_thaw_again_inside():
    model = tw.freeze(guide(), "base/conv_12")
    assert learning(model) == ["conv_12", "down_2", "down_2_bn", "conv_21", "conv_22", "scores"]
    assert learning(tw.freeze(model)) == []
    assert learning(tw.fine_tune(model, "base/down_2")) == ["down_2", "conv_21", "conv_22", "scores"]
    # Each layer inside was frozen by itself, and the model around them never was.
    tw.freeze(model.get_layer("base"))
    assert learning(tw.fine_tune(model, "base"))[0] == "down_1"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("conv_21", "lies inside 'base', a model used as a layer.*Write unfreeze_from='base/conv_21'"),
        ("base/conv_12x", "'base' has no layer named 'conv_12x'. Closest: 'conv_12'"),
        ("bases/conv_12", "'guide' has no layer named 'bases/conv_12'"),
        ("base/add_22", "unfreeze_from='base/add_22' selects nothing"),
        ("guide_scaled/x", "'guide' has no layer named 'guide_scaled/x'"),
    ],
)
def test_messages(address, message):
    with pytest.raises(ValueError, match=message):
        tw.fine_tune(guide(), address)


def test_freeze_message_for_what_selects_nothing():
    with pytest.raises(ValueError, match="freeze: until='base/inner_image' selects nothing"):
        tw.freeze(guide(), "base/inner_image")


@pytest.mark.parametrize("n_levels", [1, 2])
def test_the_recommended_boundary_is_that_of_the_model_inside(n_levels):
    assert learning(tw.fine_tune(guide(n_levels))) == ["down_2", "conv_21", "conv_22", "scores"]


def test_the_recommended_boundary_of_an_application_inside():
    inner = keras.applications.MobileNet(
        weights=None, include_top=False, input_shape=SHAPE, alpha=0.25, name="mobilenet"
    )
    assert learning(tw.fine_tune(wrapped(inner)))[0] == APPLICATIONS["mobilenet"].boundary


@needs_multi_optimizer
def test_rates_fall_from_block_to_block_inside():
    start, moved = guide().get_weights(), {}
    for decay in (1.0, 0.5):
        model = guide()
        model.set_weights(start)
        tw.fine_tune(model, "base/down_2", layer_decay=decay, optimizer="sgd", learning_rate=0.01)
        before = {v.path: np.array(v) for v in model.trainable_variables}
        model.train_on_batch(IMAGES, CLASSES)
        moved[decay] = {v.path: np.array(v) - before[v.path] for v in model.trainable_variables}
    for name, depth in {"scores": 0, "conv_22": 1, "conv_21": 2, "down_2": 3}.items():
        path = next(path for path in moved[1.0] if f"{name}/kernel" in path)
        np.testing.assert_allclose(
            moved[0.5][path], 0.5**depth * moved[1.0][path], rtol=1e-2, atol=1e-7, err_msg=name
        )


def test_boundaries_inside_are_compared():
    data = (IMAGES, CLASSES), (255 - IMAGES, CLASSES)
    found = tw.compare_boundaries(
        guide(), *data, boundaries=["base", "base/conv_22"], epochs=1, verbose=0
    )
    assert [row.unfreeze_from for row in found] == ["not at all", "base/conv_22", "base"]
    assert found[1].trainable_parameters < found[2].trainable_parameters
    every_block = tw.compare_boundaries(guide(), *data, epochs=1, verbose=0)
    assert [row.unfreeze_from for row in every_block][1] == "base/conv_22"


def test_grad_cam_looks_inside():
    model = guide(2)
    assert tw.interpret.grad_cam(model, IMAGES[0], "middle/base/add_12").layer == "add_12"
    with pytest.raises(ValueError, match=r"Received: 'middle/base/add_99'. Closest: .*'add_22'"):
        tw.interpret.grad_cam(model, IMAGES[0], "middle/base/add_99")


# Recommended without a name ---------------------------------------------------------------------

# Of InceptionV3 published recipes tell; cells of NASNet take the two before them, without a clean cut;
# the sums of ConvNeXt are operations, so that its stages end where the next one has begun; in ResNetV2
# the last block of a stage halves its feature map.
STAGES = [
    *("densenet121", "efficientnet_b0", "efficientnet_v2_b0", "inception_resnet_v2"),
    *("mobilenet", "mobilenet_v2", "mobilenet_v3_small", "resnet50", "vgg16", "xception"),
]


@pytest.mark.thorough
@pytest.mark.parametrize("name", STAGES)
def test_the_last_stage_is_where_the_table_of_applications_has_it(name):
    network = tw.load_backbone(name, weights=None)
    names = [layer.name for layer in network.layers]
    behind = network.layers[names.index(last_stage(network)) + 1 :]
    assert next(layer.name for layer in behind if can_learn(layer)) == APPLICATIONS[name].boundary


def test_no_boundary_is_recommended_where_there_is_one_block():
    image = keras.Input(SHAPE)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="only")(image))
    model = keras.Model(image, layers.Dense(2)(x), name="small")
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="no boundary is recommended for the model 'small', in which no"):
        tw.fine_tune(model)
