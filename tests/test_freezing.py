"""freeze and fine_tune: exactly the right layers, compiled again, and their messages."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topwork as tw

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
    # Keras 3.10 to any model with one input that it has loaded.
    pytest.mark.filterwarnings("ignore:(?s).*The structure of `inputs` doesn't match:UserWarning"),
]
layers = keras.layers


def residual_network(name="mine"):
    """Not made by topwork: two blocks, one of them residual, a head of its own."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    x = layers.BatchNormalization(name="stem_bn")(x)
    y = layers.Conv2D(4, 3, padding="same", name="block_conv")(x)
    y = layers.BatchNormalization(name="block_bn")(y)
    x = layers.Add(name="block_add")([x, y])
    x = layers.ReLU(name="block_relu")(x)
    x = layers.Conv2D(6, 1, name="last_conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="classes")(x), name=name)


def sequential_network():
    parts = [
        keras.Input((8, 8, 3)),
        layers.Conv2D(4, 3, name="first"),
        layers.Conv2D(4, 3, name="second"),
    ]
    return keras.Sequential(
        [*parts, layers.Flatten(), layers.Dense(3, activation="softmax")], name="plain"
    )


def nested_network():
    trunk = residual_network("trunk")
    trunk = keras.Model(trunk.input, trunk.get_layer("last_conv").output, name="trunk")
    image = keras.Input((8, 8, 3), name="outer_image")
    x = layers.GlobalAveragePooling2D(name="pool")(trunk(image))
    return keras.Model(image, layers.Dense(3, activation="softmax", name="classes")(x), name="outer")


def compiled(model, **arguments):
    arguments = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **arguments}
    model.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=True, **arguments)
    return model


def train(model, steps=2):
    size = model.input_shape[1]
    x = np.random.default_rng(0).normal(size=(4, size, size, 3)).astype("float32")
    for _ in range(steps):
        logs = model.train_on_batch(x, np.array([0, 1, 2, 0]), return_dict=True)
    return logs


def state(model):
    return {weight.path: np.array(weight.value) for weight in model.weights}


def moved(model, before):
    """The names of the layers whose weights are not byte for byte what they were."""
    after = state(model)
    return {path.split("/")[-2] for path in before if before[path].tobytes() != after[path].tobytes()}


def trainable(model):
    return [layer.name for layer in model.layers if layer.weights and layer.trainable]


# freeze -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("until", [5, np.int64(5), -5, "block_add"])
def test_freeze_locks_the_layers_before_the_boundary(until):
    model = residual_network()
    assert tw.freeze(model, until) is model
    assert trainable(model) == ["last_conv", "classes"]


def test_freeze_locks_everything_by_default():
    assert trainable(tw.freeze(residual_network())) == []


def test_freeze_leaves_what_follows_as_it_is():
    model = residual_network()
    model.get_layer("last_conv").trainable = False
    assert trainable(tw.freeze(model, "block_conv")) == ["block_conv", "block_bn", "classes"]


def test_frozen_weights_do_not_move_in_training():
    model = tw.freeze(compiled(residual_network()), "block_add")
    before = state(model)
    train(model)
    assert moved(model, before) == {"last_conv", "classes"}


def test_freezing_a_compiled_model_takes_effect_in_the_middle_of_training():
    model = compiled(residual_network())
    train(model)
    old = model.optimizer
    tw.freeze(model, "block_add")
    before = state(model)
    assert set(train(model)) == {"loss", "accuracy"}
    assert moved(model, before) == {"last_conv", "classes"}
    assert model.optimizer is not old
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


def test_freezing_what_is_frozen_keeps_the_optimizer_and_its_state():
    model = tw.freeze(compiled(residual_network()), "block_add")
    train(model)
    optimizer = model.optimizer
    tw.freeze(model, "block_conv")
    assert model.optimizer is optimizer


def test_freeze_a_backbone_then_head_then_train_only_the_head():
    trunk = residual_network()
    backbone = keras.Model(trunk.input, trunk.get_layer("last_conv").output)
    model = tw.add_head(3, hidden_units=None)(tw.freeze(backbone))
    assert trainable(model) == ["head_output"]


@pytest.mark.parametrize("make", [sequential_network, nested_network])
def test_freeze_models_of_other_shapes(make):
    model = tw.freeze(compiled(make()), 2)
    before = state(model)
    train(model)
    assert moved(model, before) == {model.layers[-1].name}


# fine_tune --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inception():
    backbone = tw.load_backbone("inception_v3", "mixed7", weights=None, input_shape=(75, 75, 3))
    model = tw.add_head(3, hidden_units=None)(tw.freeze(backbone))
    model.compile(model.optimizer, model.loss, metrics=["accuracy"], run_eagerly=True)
    return model


def test_fine_tune_inception_from_172(inception):
    model = tw.fine_tune(inception, unfreeze_from=172, learning_rate=0.1)
    norms = {layer.name for layer in model.layers if isinstance(layer, layers.BatchNormalization)}
    expected = [layer.name for layer in model.layers[172:] if layer.weights and layer.name not in norms]
    assert trainable(model) == expected
    assert expected[0] == "conv2d_56"
    before = state(model)
    train(model, steps=1)
    assert moved(model, before) == set(expected)  # and so no byte of any moving statistic


def test_the_boundary_recommended_for_inception_is_172(inception):
    tw.fine_tune(inception, 172)
    expected = trainable(inception)
    tw.fine_tune(inception, 0)
    assert trainable(inception) != expected
    assert trainable(tw.fine_tune(inception)) == expected


@pytest.mark.parametrize("unfreeze_from", [3, np.int32(3), -7, "block_conv"])
def test_fine_tune_thaws_from_the_boundary_on(unfreeze_from):
    model = compiled(tw.freeze(residual_network()))
    assert tw.fine_tune(model, unfreeze_from, learning_rate=0.1) is model
    before = state(model)
    train(model)
    assert moved(model, before) == {"block_conv", "last_conv", "classes"}


def test_fine_tune_works_again_and_again():
    model = compiled(residual_network())
    for boundary, first in [("last_conv", "last_conv"), ("stem", "stem"), ("block_conv", "block_conv")]:
        tw.fine_tune(model, boundary)
        train(model)
        assert trainable(model)[0] == first


def test_fine_tune_a_model_that_was_frozen_as_one():
    model = compiled(residual_network())
    model.trainable = False
    assert trainable(tw.fine_tune(model, "last_conv")) == ["last_conv", "classes"]


def test_fine_tune_a_model_that_was_saved_and_loaded(tmp_path):
    model = compiled(tw.freeze(residual_network()))
    model.save(tmp_path / "model.keras")
    loaded = tw.fine_tune(keras.models.load_model(tmp_path / "model.keras"), "block_conv")
    assert trainable(loaded) == trainable(tw.fine_tune(model, "block_conv"))
    assert set(train(loaded)) == {"loss", "accuracy"}


def test_fine_tune_a_loaded_model_from_the_recommended_boundary(tmp_path):
    backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(32, 32, 3), alpha=0.25)
    tw.add_head(3)(tw.freeze(backbone)).save(tmp_path / "model.keras")
    loaded = tw.fine_tune(keras.models.load_model(tmp_path / "model.keras"))
    assert trainable(loaded)[0] == "conv_dw_12"


def test_fine_tune_a_sequential_model():
    model = tw.fine_tune(compiled(sequential_network()), "second", learning_rate=0.1)
    before = state(model)
    train(model)
    assert "first" not in moved(model, before)
    assert {"second", model.layers[-1].name} == moved(model, before)


def test_fine_tune_a_nested_model_keeps_its_batch_normalization_frozen():
    model = tw.fine_tune(compiled(tw.freeze(nested_network())), "trunk", learning_rate=0.1)
    before = state(model)
    train(model)
    assert moved(model, before) == {"stem", "block_conv", "last_conv", "classes"}


def test_fine_tune_compiles_with_gentle_sgd_by_default():
    optimizer = tw.fine_tune(compiled(residual_network()), "stem").optimizer
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert optimizer.momentum == 0.9
    assert float(optimizer.learning_rate) == pytest.approx(1e-4)


def test_fine_tune_with_a_named_optimizer():
    optimizer = tw.fine_tune(
        compiled(residual_network()), 1, optimizer="adam", learning_rate=3e-4
    ).optimizer
    assert isinstance(optimizer, keras.optimizers.Adam)
    assert float(optimizer.learning_rate) == pytest.approx(3e-4)


def test_fine_tune_with_an_instance_that_was_used_before():
    model = compiled(residual_network())
    train(model)
    used = model.optimizer
    tw.fine_tune(model, "last_conv", optimizer=used)
    train(model)
    assert model.optimizer is not used
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert int(model.optimizer.iterations) == 2


def test_fine_tune_keeps_a_loss_and_metrics_that_are_plain_functions():
    def my_loss(labels, predictions):
        return keras.losses.sparse_categorical_crossentropy(labels, predictions) + 7.0

    def my_metric(labels, predictions):
        return keras.ops.full_like(predictions[:, 0], 5.0)

    model = compiled(residual_network(), loss=my_loss, metrics=[my_metric])
    logs = train(tw.fine_tune(model, "stem"))
    assert logs["loss"] > 7
    assert logs["my_metric"] == pytest.approx(5.0)


@settings(max_examples=30, deadline=None)
@given(boundary=st.integers(-12, 12))
def test_any_boundary_selects_exactly_what_it_says_or_is_refused(boundary):
    model = compiled(residual_network())
    names = [layer.name for layer in model.layers]
    valid = range(-len(names), len(names))
    start = boundary % len(names) if boundary in valid else None
    if start is None or start > names.index("last_conv"):
        with pytest.raises(ValueError, match="fine_tune: unfreeze_from="):
            tw.fine_tune(model, boundary)
        return
    tw.fine_tune(model, boundary)
    for i, layer in enumerate(model.layers):
        learns = i >= start and not isinstance(layer, layers.BatchNormalization)
        assert bool(layer.trainable_weights) == (learns and bool(layer.weights))
    assert set(map(id, model.optimizer._trainable_variables)) == set(map(id, model.trainable_variables))


# Messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"unfreeze_from": 10}, ["=10 is out of range: 'mine' has 10 layers", "an index from 0 to 7"]),
        ({"unfreeze_from": -11}, ["=-11 is out of range"]),
        (
            {"unfreeze_from": "pool"},
            ["unfreeze_from='pool' lies in the head, which starts at index 8 ('pool')", "0 to 7"],
        ),
        (
            {"unfreeze_from": 9},
            ["unfreeze_from=9 lies in the head", "boundaries: 3 ('block_conv'), 7 ('last_"],
        ),
        ({"unfreeze_from": "blok_conv"}, ["'mine' has no layer named 'blok_conv'", "'block_conv'"]),
        ({"unfreeze_from": 2.5}, ["must be an index, a layer name or None. Received: 2.5"]),
        ({"unfreeze_from": True}, ["must be an index, a layer name or None. Received: True"]),
        ({"learning_rate": 0}, ["learning_rate must be greater than 0. Received: 0."]),
        ({"optimizer": "sdg"}, ["name of a Keras optimizer, such as 'sgd'", "Received: 'sdg'"]),
        ({"optimizer": 3}, ["name of a Keras optimizer", "Received: 3"]),
        (
            {"optimizer": keras.optimizers.Adam(), "learning_rate": 0.1},
            ["an optimizer instance has its own learning rate", "learning_rate=0.1", "in the optimizer"],
        ),
        ({"layer_decay": 0}, ["layer_decay must be over 0 and at most 1. Received: 0."]),
        ({"layer_decay": 1.1}, ["layer_decay must be over 0 and at most 1. Received: 1.1."]),
    ],
)
def test_fine_tune_messages(arguments, parts):
    model = compiled(tw.freeze(residual_network()))
    optimizer = model.optimizer
    with pytest.raises(ValueError, match="fine_tune: ") as caught:
        tw.fine_tune(model, **{"unfreeze_from": 1, **arguments})
    for part in parts:
        assert part in str(caught.value)
    assert trainable(model) == []  # an error changes nothing
    assert model.optimizer is optimizer


def test_fine_tune_message_where_nothing_can_be_trained():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 1, name="conv")(image)
    x = layers.BatchNormalization(name="bn")(x)
    outputs = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    with pytest.raises(ValueError, match="unfreeze_from='bn' selects nothing") as caught:
        tw.fine_tune(compiled(keras.Model(image, outputs)), "bn")
    assert "BatchNormalization stays frozen" in str(caught.value)
    assert "from index 2 to the end of the trunk (2)" in str(caught.value)


def test_fine_tune_message_for_a_model_that_was_not_compiled():
    with pytest.raises(ValueError, match="'mine' was never compiled") as caught:
        tw.fine_tune(residual_network(), 1)
    assert "model.compile(loss=..., metrics=...)" in str(caught.value)


def test_fine_tune_message_for_a_cut_before_the_recommended_boundary():
    backbone = tw.load_backbone(
        "mobilenet", "conv_pw_6_relu", weights=None, input_shape=(32, 32, 3), alpha=0.25
    )
    with pytest.raises(ValueError, match="recommended for 'mobilenet', 'conv_dw_12', lies beh") as caught:
        tw.fine_tune(tw.add_head(2)(backbone))
    assert "Pass unfreeze_from. Valid: an index from 0 to " in str(caught.value)


@pytest.mark.parametrize("call", [tw.freeze, lambda m, b: tw.fine_tune(compiled(m), b)])
def test_message_for_a_layer_inside_a_nested_model(call):
    with pytest.raises(ValueError, match="'block_conv' lies inside 'trunk'") as caught:
        call(nested_network(), "block_conv")
    assert "topwork.flatten(model) gives a model of the same variables" in str(caught.value)


def test_message_for_an_index_meant_for_the_inside_of_a_nested_model():
    with pytest.raises(ValueError, match="'trunk' is one layer here"):
        tw.fine_tune(compiled(nested_network()), 172)


@pytest.mark.parametrize(
    ("until", "parts"),
    [
        (11, ["freeze: until=11 is out of range", "'mine' has 10 layers"]),
        (
            9,
            [
                "freeze: until=9 lies in the head, which starts at index 8 ('pool')",
                "until=None freezes all",
            ],
        ),
        (0, ["freeze: until=0 selects nothing: no layer before index 0 has weights"]),
        (1, ["freeze: until=1 selects nothing"]),
        ("steem", ["freeze: 'mine' has no layer named 'steem'", "'stem'", "describe(model)"]),
        ([3], ["freeze: until must be an index, a layer name or None. Received: [3]."]),
    ],
)
def test_freeze_messages(until, parts):
    model = residual_network()
    with pytest.raises(ValueError, match="freeze: ") as caught:
        tw.freeze(model, until)
    for part in parts:
        assert part in str(caught.value)
    assert len(trainable(model)) == 6


def test_freeze_message_for_a_model_that_has_no_graph():
    with pytest.raises(ValueError, match="freeze: the graph of the model is read, and 'unbuilt'"):
        tw.freeze(keras.Sequential([layers.Dense(3)], name="unbuilt"))


def test_nearest_block_boundaries_are_near(inception):
    with pytest.raises(ValueError, match="out of range") as caught:
        tw.fine_tune(inception, 400)
    assert "Nearest block boundaries: " in str(caught.value)
    assert "197 ('conv2d_64')" in str(caught.value)  # the first after mixed6


def test_a_boundary_that_selects_nothing_before_a_block_that_is_the_last():
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Conv2D(2, 3)(keras.layers.Rescaling(1 / 255)(inputs))
    with pytest.raises(ValueError, match="freeze: until=1 selects nothing"):
        tw.freeze(keras.Model(inputs, outputs), until=1)
