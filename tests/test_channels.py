"""Networks for images of other than three channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import topwork as tw
from topwork._networks.applications import APPLICATIONS
from topwork._networks.channels import colour_scaling

# The smallest network of each module of keras.applications, and of each kind of scaling.
FAMILIES = {
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_b0": 32,
    "efficientnet_v2_s": 32,
    "inception_resnet_v2": 75,
    "inception_v3": 75,
    "mobilenet": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "nasnet_mobile": 32,
    "resnet50": 32,
    "resnet50_v2": 32,
    "vgg16": 32,
    "vgg19": 32,
    "xception": 71,
}
QUICK = ("mobilenet", "vgg16", "efficientnet_v2_b0")


def test_every_family_is_tried() -> None:
    tried = {APPLICATIONS[name].module for name in FAMILIES}
    assert tried == {application.module for application in APPLICATIONS.values()}


THOROUGH = ("efficientnet_b0", "mobilenet_v3_small", "densenet121")
SLOWER = [
    pytest.param(each, marks=pytest.mark.thorough if each in THOROUGH else pytest.mark.slow)
    for each in FAMILIES
    if each not in QUICK
]


@pytest.mark.parametrize("name", [*QUICK, *SLOWER])
def test_an_image_repeated_gives_what_it_gives_once(name: str, tmp_path: Path) -> None:
    """Six channels, red, green and blue twice: the same features as from three."""
    size = FAMILIES[name]
    colours = tw.load_backbone(name, weights=None, input_shape=(size, size, 3))
    rng = np.random.default_rng(0)
    for layer in colours.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.get_weights():
            layer.set_weights([np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.1, 0.3]), np.array(0)])
            layer.finalize_state()  # which Keras does not do by itself
    file = tmp_path / "colours.weights.h5"
    colours.save_weights(file)
    wide = tw.load_backbone(name, weights=file, input_shape=(size, size, 6))
    assert [layer.name for layer in wide.layers] == [layer.name for layer in colours.layers]
    images = rng.uniform(0, 255, (2, size, size, 3)).astype("float32")
    expected = colours.predict(images, verbose=0)
    found = wide.predict(np.concatenate([images, images], axis=-1), verbose=0)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())
    wide.save(tmp_path / "wide.keras")
    again = keras.saving.load_model(tmp_path / "wide.keras")
    both = np.concatenate([images, images], axis=-1)
    np.testing.assert_allclose(
        again.predict(both, verbose=0), found, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_each_channel_is_treated_as_a_colour(channels: int, tmp_path: Path) -> None:
    """Caffe's order is blue, green, red: the kernel's rows follow it."""
    options: dict[str, Any] = {"cut_layer": "block1_conv1"}
    colours = tw.load_backbone("vgg16", weights=None, input_shape=(32, 32, 3), **options)
    file = tmp_path / "colours.weights.h5"
    colours.save_weights(file)
    wide = tw.load_backbone("vgg16", weights=file, input_shape=(32, 32, channels), **options)
    mean = np.array([123.68, 116.779, 103.939])  # red, green, blue
    images = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, channels)).astype("float32")
    which = np.arange(channels) % 3
    kernel, bias = colours.get_layer("block1_conv1").get_weights()
    rows = kernel[:, :, ::-1][:, :, which] * 3 / channels
    expected = keras.ops.relu(
        keras.ops.conv(images - mean[which].astype("float32"), rows, padding="same")
    )
    np.testing.assert_allclose(wide.predict(images, verbose=0), expected + bias, rtol=1e-3, atol=1e-2)
    raw = tw.load_backbone(
        "vgg16", weights=file, input_shape=(32, 32, channels), preprocess=False, **options
    )
    np.testing.assert_allclose(
        raw.get_layer("block1_conv1").get_weights()[0], kernel[:, :, which] * 3 / channels, rtol=1e-6
    )


def test_its_own_weights_are_loaded_as_they_are(tmp_path: Path) -> None:
    options: dict[str, Any] = {"cut_layer": "conv_pw_1_relu", "input_shape": (32, 32, 5), "alpha": 0.25}
    wide = tw.load_backbone("mobilenet", weights=None, **options)
    for name in ("wide.weights.h5", "wide.keras"):
        if name.endswith(".keras"):
            wide.save(tmp_path / name)
        else:
            wide.save_weights(tmp_path / name)
        again = tw.load_backbone("mobilenet", weights=tmp_path / name, **options)
        for a, b in zip(again.get_weights(), wide.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    options["input_shape"] = (32, 32, 4)
    with pytest.raises(ValueError, match="does not fit 'mobilenet'"):
        tw.load_backbone("mobilenet", weights=tmp_path / "wide.keras", **options)


def test_imagenets_statistics_of_efficientnet(tmp_path: Path) -> None:
    """Its published weights want one more scaling, of as many channels."""
    options: dict[str, Any] = {"cut_layer": "stem_conv", "weights": tmp_path / "e.weights.h5"}
    whole = tw.load_backbone("efficientnet_b0", "stem_conv", weights=None, input_shape=(32, 32, 3))
    normalization = next(x for x in whole.layers if isinstance(x, keras.layers.Normalization))
    mean, deviations = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalization.set_weights([mean, deviations, np.array(0)])
    whole.save_weights(options["weights"])
    colours = tw.load_backbone("efficientnet_b0", input_shape=(32, 32, 3), **options)
    wide = tw.load_backbone("efficientnet_b0", input_shape=(32, 32, 6), **options)
    assert "rescaling_1" in [layer.name for layer in wide.layers]
    images = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(
        wide.predict(np.concatenate([images, images], axis=-1), verbose=0),
        colours.predict(images, verbose=0),
        rtol=1e-3,
        atol=1e-4,
    )


def test_from_the_file_to_the_answer(tmp_path: Path) -> None:
    """Satellite images of four channels as .npy files: read, trained on, saved, named."""
    rng = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / "tiles" / ("field", "water")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        tile = rng.integers(0, 100, (40, 40, 4)) + 150 * (number % 2) * np.array([0, 0, 0, 1])
        np.save(folder / f"{number}.npy", tile.astype("uint8"))
    backbone = tw.load_backbone(
        "mobilenet", "conv_pw_1_relu", weights=None, input_shape=(32, 32, 4), alpha=0.25
    )
    model = tw.add_head(2, hidden_units=None)(tw.freeze(backbone))
    tiles = tw.data.read_folder(tmp_path / "tiles", model)
    tw.fit_head(model, tiles, verbose=0)
    model.save(tmp_path / "tiles.keras")
    again = keras.saving.load_model(tmp_path / "tiles.keras")
    file = tmp_path / "tiles" / "water" / "1.npy"
    (found,) = tw.predict(again, file)
    assert set(dict(found)) == {"field", "water"}
    report = tw.interpret.report(again, tiles)
    assert report.n_images == 8
    report.plot_mistakes()
    cuts = tw.compare_cuts(
        "mobilenet",
        tiles,
        tiles.map(lambda x, y: (255.0 - x, y)),
        cut_layers=["conv_pw_1_relu"],
        weights=None,
        input_shape=(32, 32, 4),
        verbose=0,
    )
    assert cuts[0].n_features == 64


def test_the_scaling_of_colours_is_what_preprocess_input_does() -> None:
    image = np.random.default_rng(0).uniform(0, 255, (1, 2, 2, 3))
    for module in {application.module for application in APPLICATIONS.values()}:
        preprocess = getattr(keras.applications, module).preprocess_input
        places, scale, offset = colour_scaling(preprocess)
        expected = preprocess(image.copy())
        np.testing.assert_allclose((image * scale + offset)[..., np.argsort(places)], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 224, 224), r"channels come last.*Received: \(3, 224, 224\). Write \(224, 224, 3\)"),
        ((32, 32), r"\(height, width, channels\), whole numbers .*Received: \(32, 32\)"),
        ((32, 32, 0), r"whole numbers of at least 1"),
        ((None, None, 4), r"whole numbers of at least 1"),
    ],
)
def test_shapes_that_cannot_be(shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tw.load_backbone("mobilenet", weights=None, input_shape=shape)
