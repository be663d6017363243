from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from topwork.interpret import grad_cam


def color_finder(units: int = 2, head: str = "dense") -> keras.Model:
    """Its feature map holds the red and the blue pixels; class 0 is red, class 1 blue."""
    inputs = keras.Input((16, 16, 3), name="image")
    kernel = keras.initializers.Constant(np.array([[1, 0], [0, 0], [0, 1]])[None, None])
    x = keras.layers.Conv2D(2, 1, kernel_initializer=kernel, use_bias=False, name="early")(inputs)
    x = keras.layers.AveragePooling2D(2, name="late")(x)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    x = keras.layers.Flatten(name="flat")(x)
    weights = np.array([[1.0, -1.0], [-1.0, 1.0]]) if units == 2 else np.array([[-1.0], [1.0]])
    constant = keras.initializers.Constant(weights)
    name = "softmax" if units == 2 else "sigmoid"
    if head == "dense":
        outputs = keras.layers.Dense(units, name, kernel_initializer=constant, name="scores")(x)
    else:
        x = keras.layers.Dense(units, kernel_initializer=constant, use_bias=False)(x)
        outputs = {
            "activation": keras.layers.Activation(name),
            "softmax": keras.layers.Softmax(),
            "function": getattr(keras.ops, name),
        }[head](x)
    return keras.Model(inputs, outputs, name="colors")


def picture(red: float = 4.0, blue: float = 1.0) -> np.ndarray:
    """Red in the upper left corner, blue in the lower right one."""
    image = np.zeros((16, 16, 3), "float32")
    image[:4, :4, 0] = red
    image[-4:, -4:, 2] = blue
    return image


def hottest(heatmap: np.ndarray) -> tuple[bool, bool]:
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    return bool(row < 8), bool(column < 8)


@pytest.mark.parametrize(
    ("units", "head"),
    [
        (2, "dense"),
        (2, "activation"),
        (2, "softmax"),
        (2, "function"),
        (1, "dense"),
        (1, "activation"),
    ],
)
def test_it_looks_where_the_class_is(units: int, head: str) -> None:
    model = color_finder(units, head)
    red = grad_cam(model, picture())
    assert (red.class_index, red.layer) == (0, "late")
    assert hottest(red.heatmap) == (True, True)
    assert red.heatmap[8:, 8:].max() == 0
    blue = grad_cam(model, picture(), class_index=1)
    assert hottest(blue.heatmap) == (False, False)
    assert blue.heatmap[:8, :8].max() == 0
    assert red.probability + blue.probability == pytest.approx(1)


def test_shape_range_and_image() -> None:
    found = grad_cam(color_finder(), picture())
    assert found.heatmap.shape == (16, 16)
    assert found.heatmap.dtype == np.float32
    assert (found.heatmap.min(), found.heatmap.max()) == (0, 1)
    np.testing.assert_array_equal(found.image, picture())


def test_saturated_probabilities_do_not_hide_it() -> None:
    for units in (1, 2):
        found = grad_cam(color_finder(units), picture(red=100_000))
        assert found.probability == 1
        assert hottest(found.heatmap) == (True, True)


def test_another_layer() -> None:
    found = grad_cam(color_finder(), picture(), "early")
    assert found.layer == "early"
    np.testing.assert_array_equal(found.heatmap, (picture()[..., 0] > 0).astype("float32"))


def test_frozen_layers_are_no_hindrance() -> None:
    model = color_finder()
    model.trainable = False
    assert hottest(grad_cam(model, picture()).heatmap) == (True, True)


def test_nothing_speaks_for_the_class() -> None:
    found = grad_cam(color_finder(), picture(red=0, blue=4), class_index=0)
    assert found.heatmap.max() == 0


def test_weights_and_image_stay_as_they_were() -> None:
    model, image = color_finder(), picture()
    before = [weight.copy() for weight in model.get_weights()]
    grad_cam(model, image)
    np.testing.assert_array_equal(image, picture())
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_files_and_other_sizes_are_resized(tmp_path: Path) -> None:
    big = np.repeat(np.repeat(picture(255, 20), 4, 0), 4, 1)
    keras.utils.save_img(tmp_path / "a.png", big, scale=False)
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), big):
        found = grad_cam(color_finder(), image)
        assert found.heatmap.shape == (16, 16)
        assert hottest(found.heatmap) == (True, True)


def test_plot() -> None:
    found = grad_cam(color_finder(), picture())
    left, right = found.plot().axes
    assert (len(left.images), len(right.images)) == (1, 2)
    np.testing.assert_array_equal(right.images[1].get_array(), found.heatmap)
    assert right.get_title() == f"class 0: {found.probability:.1%}"
    assert found.plot("a red thing").axes[1].get_title() == "a red thing"


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = grad_cam(color_finder(), picture())
    with pytest.raises(ImportError, match=r'pip install "topwork\[plots\]"'):
        found.plot()


def test_a_whole_network_has_a_map_of_one_place_after_its_last() -> None:
    model = keras.applications.MobileNet((64, 64, 3), alpha=0.25, weights=None, classes=3, dropout=0.0)
    assert grad_cam(model, np.full((64, 64, 3), 100.0)).layer == "conv_pw_13_relu"


class TestErrors:
    def fails(self, message: str, model: keras.Model, *args: Any, **options: Any) -> None:
        with pytest.raises(ValueError, match=message):
            grad_cam(model, picture(), *args, **options)

    def test_unknown_layer(self) -> None:
        self.fails(r"Received: 'erly'. Closest: 'early', .*describe\(model\)", color_finder(), "erly")

    @pytest.mark.parametrize("layer", ["flat", "pool", "image"])
    def test_no_feature_map(self, layer: str) -> None:
        message = rf"'{layer}' with output (None|\(None, .*\)). The last one is 'late'."
        self.fails(message, color_finder(), layer)

    def test_class(self) -> None:
        message = r"model's 2 classes, 0 to 1. Received: 2. Leave it out"
        self.fails(message, color_finder(), class_index=2)
        self.fails(r"Received: -1", color_finder(1), class_index=-1)

    def test_no_feature_map_at_all(self) -> None:
        layers = [keras.layers.Flatten(name="flat"), keras.layers.Dense(2, "softmax")]
        model = keras.Sequential([keras.Input((16, 16, 3)), *layers])
        self.fails(r"must have a layer .* of the layers 'flat', .* Only convolutional networks", model)

    def test_a_nested_backbone(self) -> None:
        inputs = keras.Input((16, 16, 3))
        outputs = keras.layers.Conv2D(2, 3, name="inside")(inputs)
        backbone = keras.Model(inputs, outputs, name="backbone")
        head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Softmax()]
        model = keras.Sequential([keras.Input((16, 16, 3)), backbone, *head])
        flat = keras.Sequential([keras.Input((16, 16, 3)), backbone.get_layer("inside"), *head])
        expected = grad_cam(flat, picture())
        for layer in (None, "backbone", "inside"):
            found = grad_cam(model, picture(), layer)
            assert found.layer == "inside"
            np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-6)

    def test_a_branch_that_ends(self) -> None:
        whole = color_finder()
        side = keras.layers.Conv2D(1, 1, name="side")(whole.input)
        ended = keras.layers.Lambda(lambda x: keras.ops.stop_gradient(x), name="ended")(side)
        total = keras.layers.GlobalAveragePooling2D()(ended)
        outputs = keras.layers.Softmax()(keras.layers.Add()([whole.get_layer("flat").output, total]))
        model = keras.Model(whole.input, outputs)
        self.fails(r"no way from layer 'side' to the model's output. Give a layer that", model, "side")

    def test_a_backbone(self) -> None:
        model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(2, 3)])
        self.fails(r"grad_cam: the model must be a classifier", model)

    def test_logits(self) -> None:
        inputs = keras.Input((16, 16, 3))
        model = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(keras.layers.ReLU()(inputs)))
        self.fails(r"grad_cam: the model must end in softmax", model)
