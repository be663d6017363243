"""add_head: what it builds, how it is compiled, and its messages."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import topwork as tw

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture
def trunk():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.layers.Conv2D(5, 3, name="conv")(image), name="trunk")


def head(model):
    return [layer.name for layer in model.layers if layer.name.startswith("head_")]


def test_the_default_head(trunk):
    model = tw.add_head(4)(trunk)
    assert head(model) == ["head_pooling", "head_hidden", "head_dropout", "head_output"]
    assert model.get_layer("head_hidden").units == 1024
    assert model.get_layer("head_hidden").activation is keras.activations.relu
    assert model.get_layer("head_dropout").rate == 0.2
    assert (model.name, model.output_shape) == ("trunk", (None, 4))


def test_the_layers_of_the_backbone_are_shared_and_keep_their_indices(trunk):
    model = tw.add_head(4)(trunk)
    assert all(mine is theirs for mine, theirs in zip(model.layers, trunk.layers, strict=False))


@pytest.mark.parametrize(
    ("n_classes", "activation", "loss"),
    [(1, "sigmoid", "binary_crossentropy"), (3, "softmax", "sparse_categorical_crossentropy")],
)
def test_one_class_is_binary_and_more_are_sparse(trunk, n_classes, activation, loss):
    model = tw.add_head(n_classes, learning_rate=0.01)(trunk)
    assert model.layers[-1].activation is keras.activations.get(activation)
    assert model.loss == loss
    assert isinstance(model.optimizer, keras.optimizers.RMSprop)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


@pytest.mark.parametrize("n_classes", [1, 3])
def test_it_is_ready_to_train_and_measures_accuracy(trunk, n_classes):
    model = tw.add_head(n_classes, hidden_units=None)(trunk)
    logs = model.train_on_batch(np.ones((4, 8, 8, 3)), np.array([0, 1, 0, 1]), return_dict=True)
    assert set(logs) == {"loss", "accuracy"}
    assert np.isfinite(logs["loss"])


@pytest.mark.parametrize(("pooling", "width"), [("avg", 5), ("max", 5), ("flatten", 6 * 6 * 5)])
def test_pooling(trunk, pooling, width):
    model = tw.add_head(2, pooling=pooling)(trunk)
    assert model.get_layer("head_pooling").output.shape == (None, width)


def test_the_poolings_are_what_their_names_say(trunk):
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("float32")
    features = np.asarray(trunk(x))
    for pooling, expected in [("avg", features.mean((1, 2))), ("max", features.max((1, 2)))]:
        model = tw.add_head(2, pooling=pooling)(trunk)
        pooled = keras.Model(model.input, model.get_layer("head_pooling").output)(x)
        np.testing.assert_allclose(pooled, expected, rtol=1e-5)


def test_no_hidden_layer_and_no_dropout(trunk):
    assert head(tw.add_head(2, 0.0, hidden_units=None)(trunk)) == ["head_pooling", "head_output"]


def test_a_backbone_that_gives_vectors_is_not_pooled():
    backbone = tw.load_backbone("mobilenet", "predictions", weights=None, input_shape=(32, 32, 3))
    assert "head_pooling" not in head(tw.add_head(2, pooling="flatten")(backbone))


def test_one_head_can_be_put_on_several_backbones(trunk):
    graft = tw.add_head(2)
    first, second = graft(trunk), graft(trunk)
    assert first.layers[-1] is not second.layers[-1]


def test_probabilities_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        image = keras.Input((8, 8, 3))
        model = tw.add_head(3)(keras.Model(image, keras.layers.Conv2D(5, 3)(image)))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("head_hidden").compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"


# Messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n_classes": 0}, "n_classes must be a whole number of at least 1. Received: 0."),
        ({"n_classes": 2.0}, "n_classes must be a whole number of at least 1. Received: 2.0."),
        ({"n_classes": True}, "n_classes must be a whole number of at least 1. Received: True."),
        (
            {"n_classes": 2, "hidden_units": 0},
            "hidden_units must be a whole number of at least 1, or None.",
        ),
        ({"n_classes": 2, "dropout": 1.0}, "0 <= dropout < 1. Received: 1.0."),
        ({"n_classes": 2, "dropout": -0.1}, "0 <= dropout < 1. Received: -0.1."),
        (
            {"n_classes": 2, "pooling": "mean"},
            "pooling must be one of 'avg', 'max', 'cls', 'flatten', 'pyramid'. Received: 'mean'.",
        ),
        ({"n_classes": 2, "learning_rate": 0}, "learning_rate must be greater than 0. Received: 0."),
        ({"n_classes": 2, "learning_rate": float("nan")}, "greater than 0. Received: nan."),
    ],
)
def test_message_for_an_argument(arguments, text):
    with pytest.raises(ValueError, match="add_head:") as caught:
        tw.add_head(**arguments)
    assert text in str(caught.value)


def test_message_for_a_second_head(trunk):
    model = tw.add_head(2)(trunk)
    with pytest.raises(ValueError, match="'trunk' has a head already") as caught:
        tw.add_head(3)(model)
    assert "(head_pooling, head_hidden, head_dropout, head_output)" in str(caught.value)
    assert "as load_backbone returned it" in str(caught.value)


@pytest.mark.parametrize("several", [False, True])
def test_message_where_there_is_nothing_to_put_a_head_on(several):
    sequence = keras.Input((7, 3, 3, 3))
    hidden = keras.layers.ReLU()(sequence)
    outputs = [hidden, hidden] if several else hidden
    with pytest.raises(ValueError, match="one feature map") as caught:
        tw.add_head(2)(keras.Model(sequence, outputs, name="text"))
    assert "The model 'text' gives" in str(caught.value)
    assert "(None, 7, 3, 3, 3)" in str(caught.value)


def test_message_for_a_subclassed_model():
    class Mine(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match=r"add_head: the graph of the model is read"):
        tw.add_head(2)(Mine())


def test_integers_of_any_type_and_a_model_in_their_place() -> None:
    inputs = keras.Input((4, 4, 3))
    backbone = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
    assert tw.add_head(np.arange(3).max() + 1, hidden_units=np.int32(4))(backbone).output_shape == (
        None,
        3,
    )
    for value in (np.bool_(True), 2.0, np.float32(2)):
        with pytest.raises(ValueError, match=r"n_classes must be a whole number of at least 1"):
            tw.add_head(value)
    with pytest.raises(
        ValueError, match=r"applied to the backbone then: add_head\(n_classes=2\)\(backbone\)"
    ):
        tw.add_head(backbone, 2)


class TestSideBySide:
    """Features of several layers, each averaged and of unit length."""

    def network(self, rows: int = 9) -> keras.Model:
        inputs = keras.Input((rows, 8, 3))
        first = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
        return keras.Model(inputs, keras.layers.Conv2D(5, 3, padding="same", name="second")(first))

    def features(self, model: keras.Model, images: np.ndarray) -> np.ndarray:
        return keras.Model(model.input, model.get_layer("head_features").output).predict(
            images, verbose=0
        )

    def test_the_parts_are_averages_of_unit_length(self) -> None:
        backbone, images = self.network(), np.random.default_rng(0).uniform(0, 255, (6, 9, 8, 3))
        model = tw.add_head(2, 0.0, hidden_units=None, with_layers=["first"])(backbone)
        given = self.features(model, images)
        maps = keras.Model(backbone.input, [backbone.get_layer("first").output, backbone.output])
        for map_, part in zip(maps.predict(images, verbose=0), np.split(given, [4], axis=1), strict=True):
            average = map_.mean(axis=(1, 2))
            expected = average / np.linalg.norm(average, axis=1, keepdims=True)
            np.testing.assert_allclose(part, expected, atol=1e-5)

    def test_a_pyramid_has_the_four_quarters(self) -> None:
        backbone, images = self.network(), np.random.default_rng(0).uniform(0, 255, (6, 9, 8, 3))
        model = tw.add_head(2, 0.0, pooling="pyramid", hidden_units=None)(backbone)
        quarters = self.features(model, images)[:, 5:]
        map_ = backbone.predict(images, verbose=0)
        parts = [map_[:, rows, columns].mean(axis=(1, 2)) for rows in (slice(5), slice(4, 9))
                 for columns in (slice(4), slice(4, 8))]  # fmt: skip
        expected = np.concatenate(parts, axis=1)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(quarters, expected, atol=1e-5)

    def test_the_head_begins_after_the_trunk(self, tmp_path: Path) -> None:
        model = tw.add_head(2, with_layers=["first"], pooling="pyramid")(tw.freeze(self.network()))
        names = [layer.name for layer in model.layers]
        start = next(i for i, name in enumerate(names) if name.startswith("head_"))
        assert all(name.startswith("head_") for name in names[start:])
        assert names[start - 1] == "second"
        model.save(tmp_path / "model.keras")
        assert keras.saving.load_model(tmp_path / "model.keras").output_shape == (None, 2)

    def test_it_is_trained_on_features_and_fine_tuned(self) -> None:
        rng = np.random.default_rng(0)
        images, labels = rng.uniform(0, 255, (12, 9, 8, 3)).astype("float32"), np.arange(12) % 2
        images[labels == 1] *= [1, 0.2, 0.2]
        model = tw.add_head(2, hidden_units=None, with_layers=["first"])(tw.freeze(self.network()))
        history = tw.fit_head(model, images, labels, verbose=0)
        assert history.history["accuracy"] == [1.0]
        tw.fine_tune(model, "first", learning_rate=1e-5)
        tw.fit(model, images, labels, epochs=1, verbose=0)
        assert model.evaluate(images, labels, verbose=0)[1] == 1.0

    @pytest.mark.parametrize(
        ("options", "rows", "message"),
        [
            (
                {"with_layers": "first"},
                9,
                "with_layers must be a list of layer names. Received: 'first'.",
            ),
            ({"with_layers": ["first"], "pooling": "max"}, 9, "takes pooling 'avg' or 'pyramid'"),
            ({"with_layers": ["frist"]}, 9, "has no such layer. Closest: 'first'"),
            ({"pooling": "pyramid"}, 1, "of a known size of at least 2 x 2. Received: (None, 1, 8, 5)"),
        ],
    )
    def test_mistakes_are_said(self, options: dict, rows: int, message: str) -> None:
        with pytest.raises(ValueError, match=r"^add_head: ") as caught:
            tw.add_head(2, **options)(self.network(rows))
        assert message in str(caught.value)

    def test_what_has_no_average_is_said(self) -> None:
        inputs = keras.Input((4, 4, 4, 2))
        volume = keras.layers.Conv3D(2, 2, name="volume")(inputs)
        backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling3D()(volume))
        with pytest.raises(ValueError, match=r"'volume' of .* gives \(None, 3, 3, 3, 2\). Leave it out"):
            tw.add_head(2, with_layers=["volume"])(backbone)
