from __future__ import annotations

import keras
import pytest

from topwork._networks.describe import describe


def small_model() -> keras.Model:
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="conv_1")(inputs)
    x = keras.layers.BatchNormalization(name="norm_1")(x)
    x = keras.layers.ReLU(name="relu_1")(x)
    x = keras.layers.Conv2D(4, 3, name="conv_2")(x)
    x = keras.layers.BatchNormalization(name="norm_2")(x)
    x = keras.layers.ReLU(name="relu_2")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="scores")(x), name="small")


def half_frozen() -> keras.Model:
    model = small_model()
    for name in ("conv_1", "norm_1", "norm_2"):
        model.get_layer(name).trainable = False
    return model


def test_rows_say_what_keras_says() -> None:
    model = half_frozen()
    table = describe(model)
    assert len(table) == len(model.layers)
    assert [row.name for row in table] == [layer.name for layer in model.layers]
    assert [row.index for row in table] == list(range(len(model.layers)))
    assert [row.parameters for row in table] == [layer.count_params() for layer in model.layers]
    assert table[1].output_shape == (None, 6, 6, 4)
    assert table[1].type == "Conv2D"
    assert table.parameters == model.count_params()


def test_states() -> None:
    states = {row.name: row.state for row in describe(half_frozen())}
    assert states == {
        "image": "no weights",
        "conv_1": "frozen",
        "norm_1": "frozen",
        "relu_1": "no weights",
        "conv_2": "trainable",
        "norm_2": "frozen",
        "relu_2": "no weights",
        "pool": "no weights",
        "scores": "trainable",
    }


def test_frozen_batch_normalization_makes_no_border() -> None:
    zones = [row.zone for row in describe(half_frozen())]
    assert zones == ["frozen"] * 3 + ["trainable"] * 6


def test_the_border_stands_where_the_boundary_was_set() -> None:
    model = small_model()
    for boundary in (3, 4):
        for index, layer in enumerate(model.layers):
            layer.trainable = index >= boundary
        zones = [row.zone for row in describe(model)]
        assert zones == ["frozen"] * boundary + ["trainable"] * (9 - boundary)


def test_text_draws_the_border_once_and_aligns() -> None:
    text = str(describe(half_frozen()))
    lines = text.splitlines()
    rules = [line for line in lines if line.startswith("── ")]
    assert [rule.strip("─ ") for rule in rules] == [
        "layers 0 to 2: frozen",
        "layers 3 to 8: trainable, except 1 BatchNormalization",
    ]
    assert lines.index(rules[1]) == lines.index(rules[0]) + 4
    assert "small: 9 layers" in lines[0]
    table = [line for line in lines if line.lstrip()[:1].isdigit()]
    header = lines[2]
    for line in table:
        assert line.index("  (None") + 2 == header.index("output shape")


def test_totals_separate_trainable_from_not() -> None:
    model = half_frozen()
    table = describe(model)
    trainable = (3 * 3 * 4 * 4 + 4) + (4 * 2 + 2)
    assert table.trainable_parameters == trainable
    assert str(table).splitlines()[-1] == (
        f"parameters: {model.count_params():,} in all, {trainable:,} trainable, "
        f"{model.count_params() - trainable:,} not trainable"
    )


def test_trainable_batch_normalization_is_trainable() -> None:
    assert all(row.zone == "trainable" for row in describe(small_model()))


def test_nested_models_are_partial_when_their_layers_differ() -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), half_frozen(), keras.layers.Dense(2)])
    assert [row.state for row in describe(model)] == ["partial", "trainable"]
    model.layers[0].trainable = False
    assert [row.state for row in describe(model)] == ["frozen", "trainable"]


def test_a_model_without_weights() -> None:
    table = describe(keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()]))
    assert [row.zone for row in table] == ["no weights"]
    assert "layer 0: no weights" in str(table)


def test_only_batch_normalization_frozen() -> None:
    norm = keras.layers.BatchNormalization(trainable=False)
    assert [row.zone for row in describe(keras.Sequential([keras.Input((4,)), norm]))] == ["frozen"]


def test_layers_of_a_subclassed_model_have_no_shape() -> None:
    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x: object) -> object:
            return self.dense(x)

    model = Subclassed()
    with pytest.raises(ValueError, match="needs a model that was built"):
        describe(model)
    model(keras.ops.zeros((1, 3)))
    table = describe(model)
    assert table[0].parameters == 8
    assert "?" in str(table)


def test_several_outputs_are_all_shown() -> None:
    inputs = keras.Input((6, 2))
    _, state = keras.layers.GRU(3, return_state=True, name="gru")(inputs)
    assert describe(keras.Model(inputs, state))[1].output_shape == [(None, 3), (None, 3)]


def test_html_has_every_row_and_escapes() -> None:
    model = half_frozen()
    model.name = "a<b"
    page = describe(model)._repr_html_()
    assert "a&lt;b" in page
    assert page.count("colspan") == 2
    assert page.count("<tr") == 1 + 2 + len(model.layers)
    assert "layers 3 to 8: trainable" in page


def test_inception_has_one_border() -> None:
    model = keras.applications.InceptionV3(weights=None, input_shape=(75, 75, 3), classes=2)
    for index, layer in enumerate(model.layers):
        norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = index >= 172 and not norm
    rules = [line for line in str(describe(model)).splitlines() if line.startswith("── ")]
    assert len(rules) == 2
    assert "layers 172 to 312: trainable" in rules[1]


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ("model.keras", r"takes a keras.Model. Received: 'model.keras' \(str\). Load the file first"),
        (keras.layers.Dense(2, name="d"), r"takes a keras.Model. Received: <Dense name=d.*\(Dense\)"),
    ],
)
def test_not_a_model(thing: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        describe(thing)


def test_not_built() -> None:
    with pytest.raises(ValueError, match=r"'later' does not know the shape.*keras.Input\(shape\)"):
        describe(keras.Sequential([keras.layers.Dense(2)], name="later"))
