"""Weights from local files: every format, of a part, of the whole, of a model with a head; misfits."""

from __future__ import annotations

import h5py
import keras
import numpy as np
import pytest

import topwork as tw

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

CUT = "conv_pw_6_relu"


def load(cut_layer=None, weights=None, **options):
    options = {"alpha": 0.25, "input_shape": (32, 32, 3), **options}
    return tw.load_backbone("mobilenet", cut_layer, weights=weights, **options)


def official_layout(model, path, rename=lambda name: name):
    """Writes the weights as the published files have them: a group for each layer, names as bytes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [rename(layer.name).encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(rename(layer.name))
            arrays = {
                f"{layer.name}/{i}:0".encode(): array for i, array in enumerate(layer.get_weights())
            }
            group.attrs["weight_names"] = list(arrays)
            for name, array in arrays.items():
                group[name.decode()] = array
    return path


@pytest.fixture(scope="module")
def sources():
    """The network without its top, cut, whole, with a head, and used as a layer."""
    trunk, head = load(), keras.layers.GlobalAveragePooling2D()
    with_head = tw.add_head(3, hidden_units=4)(load())
    nested = keras.Sequential([keras.Input((32, 32, 3)), load(), head, keras.layers.Dense(2)])
    models = {"trunk": trunk, "cut": load(CUT), "whole": load("predictions"), "head": with_head}
    rng = np.random.default_rng(0)
    for model in [*models.values(), nested]:
        model.set_weights([rng.normal(size=weight.shape) for weight in model.weights])
    return {**models, "nested": nested}


WRITERS = {
    "official.h5": official_layout,
    "model.h5": lambda model, path: model.save(path),
    "model.weights.h5": lambda model, path: model.save_weights(path),
    "model.keras": lambda model, path: model.save(path),
}


def assert_same_weights(backbone, source):
    if source.layers[0].name == "mobilenet":
        source = source.layers[0]
    for layer in backbone.layers:
        expected = source.get_layer(layer.name).get_weights()
        for received, array in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(received, array.astype("float32"))


@pytest.mark.parametrize("file", WRITERS)
@pytest.mark.parametrize(
    ("source", "cut_layer"),
    [("trunk", CUT), ("cut", CUT), ("whole", "predictions"), ("head", None)],
)
def test_weights_of(source, file, cut_layer, sources, tmp_path):
    WRITERS[file](sources[source], tmp_path / file)
    assert_same_weights(load(cut_layer, tmp_path / file), sources[source])


def test_weights_of_a_saved_model_that_holds_the_network_as_a_layer(sources, tmp_path):
    sources["nested"].save(tmp_path / "nested.keras")
    assert_same_weights(load(CUT, tmp_path / "nested.keras"), sources["nested"])


def test_the_path_may_be_a_string(sources, tmp_path):
    path = official_layout(sources["trunk"], tmp_path / "official.h5")
    assert_same_weights(load(weights=str(path)), sources["trunk"])


def test_names_that_drifted_are_matched_in_order(sources, tmp_path):
    path = official_layout(sources["whole"], tmp_path / "drifted.h5", lambda name: f"{name}_1")
    assert_same_weights(load(CUT, path), sources["whole"])


def test_a_long_list_of_layers_is_read_from_its_pieces(sources, tmp_path):
    path = official_layout(sources["trunk"], tmp_path / "pieces.h5")
    with h5py.File(path, "a") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:50], names[50:]
    assert_same_weights(load(weights=path), sources["trunk"])


# Misfits ----------------------------------------------------------------------------------------


def message(path, error=ValueError, cut_layer=None, **options):
    with pytest.raises(error, match="load_backbone:") as caught:
        load(cut_layer, path, **options)
    assert repr(str(path)) in str(caught.value)
    return str(caught.value)


def test_message_for_a_file_that_is_not_there(tmp_path):
    text = message(tmp_path / "no.h5", FileNotFoundError)
    assert "'imagenet', None or the path of a file" in text
    assert "there is no such file" in text


@pytest.mark.parametrize("name", ["text.h5", "text.weights.h5", "text.keras"])
def test_message_for_a_file_that_cannot_be_read(name, tmp_path):
    (tmp_path / name).write_text("<html>404</html>")
    assert "cannot be read as .h5, .weights.h5 or .keras (" in message(tmp_path / name)


@pytest.mark.parametrize("file", ["official.h5", "model.keras"])
def test_message_for_another_width(file, sources, tmp_path):
    WRITERS[file](sources["trunk"], tmp_path / file)
    text = message(tmp_path / file, alpha=0.5)
    assert "does not fit 'mobilenet': layer 'conv1' expects weights of shapes [(3, 3, 3, 16)]" in text
    assert "the file's 'conv1' has [(3, 3, 3, 8)]" in text
    assert "options (such as alpha)" in text


def test_message_for_a_file_that_ends_too_early(sources, tmp_path):
    path = official_layout(sources["cut"], tmp_path / "cut.h5")
    text = message(path)
    assert "the network has 54 layers with weights and the file 26" in text
    assert "the first that it lacks is 'conv_dw_7'" in text


def test_message_for_weights_only_of_another_network(sources, tmp_path):
    sources["trunk"].save_weights(tmp_path / "trunk.weights.h5")
    text = message(tmp_path / "trunk.weights.h5", alpha=0.5)
    assert "does not fit 'mobilenet': " in text
    assert "conv1" in text
    assert "(3, 3, 3, 8)" in text


def test_message_for_weights_only_of_a_shorter_network(sources, tmp_path):
    sources["cut"].save_weights(tmp_path / "cut.weights.h5")
    text = message(tmp_path / "cut.weights.h5")
    assert "does not fit 'mobilenet': " in text
    assert "objects could not be loaded" in text
    assert "conv_dw_7" in text
