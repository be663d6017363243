"""A saved model is plain Keras: it loads and predicts the same where topwork cannot be imported."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import topwork as tw
from plain_process import run_without_topwork

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]

RAW = np.random.default_rng(0).uniform(0, 255, (3, 75, 75, 3)).astype("float32")
Y = np.array([0, 1, 2])

LOAD_ALL = """
import json, pathlib, sys
import keras, numpy as np
folder = pathlib.Path(sys.argv[1])
found = {}
for path in sorted(folder.glob("*.keras")):
    model = keras.models.load_model(path)
    np.save(folder / f"{path.stem}.there.npy", model.predict(np.load(folder / "raw.npy"), verbose=0))
    found[path.stem] = {
        "names": [layer.name for layer in model.layers],
        "trainable": [layer.name for layer in model.layers if layer.trainable_weights],
        "custom": [c for c in map(type, model.layers) if not c.__module__.startswith("keras.")],
    }
    if model.compiled:
        logs = model.train_on_batch(np.load(folder / "raw.npy"), np.array([0, 1, 2]), return_dict=True)
        found[path.stem]["logs"] = sorted(logs)
print(json.dumps(found))
"""


def mobilenet(cut_layer):
    return tw.load_backbone("mobilenet", cut_layer, weights=None, input_shape=(75, 75, 3), alpha=0.25)


def fine_tuned():
    model = tw.add_head(3, hidden_units=8)(tw.freeze(mobilenet("conv_pw_5_relu")))
    tw.fine_tune(model, "conv_dw_4")
    model.train_on_batch(RAW, Y)
    return model


MODELS = {
    "backbone": lambda: tw.load_backbone("inception_v3", "mixed1", weights=None, input_shape=(75, 75, 3)),
    "whole": lambda: mobilenet("predictions"),
    "fine_tuned": fine_tuned,
}


@pytest.fixture(scope="module")
def here_and_there(tmp_path_factory):
    """Each model with its predictions, and what a process without topwork made of its file."""
    folder = tmp_path_factory.mktemp("saved")
    np.save(folder / "raw.npy", RAW)
    models = {name: make() for name, make in MODELS.items()}
    predictions = {}
    for name, model in models.items():
        predictions[name] = model.predict(RAW, verbose=0)
        model.save(folder / f"{name}.keras")
    there = json.loads(run_without_topwork(LOAD_ALL, folder).splitlines()[-1])
    loaded = {name: np.load(folder / f"{name}.there.npy") for name in models}
    return models, predictions, there, loaded


@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_the_same_bit_for_bit(name, here_and_there):
    _, predictions, _, loaded = here_and_there
    assert loaded[name].dtype == predictions[name].dtype
    assert loaded[name].tobytes() == predictions[name].tobytes()


@pytest.mark.parametrize("name", MODELS)
def test_names_and_what_is_trainable_hold(name, here_and_there):
    models, _, there, _ = here_and_there
    assert there[name]["names"] == [layer.name for layer in models[name].layers]
    assert there[name]["trainable"] == [
        layer.name for layer in models[name].layers if layer.trainable_weights
    ]


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_is_one_of_keras(name, here_and_there):
    assert here_and_there[2][name]["custom"] == []


def test_it_goes_on_training(here_and_there):
    assert here_and_there[2]["fine_tuned"]["logs"] == ["accuracy", "loss"]


def test_the_way_back_from_a_legacy_file_that_keras_cannot_read(tmp_path: Path) -> None:
    def made() -> keras.Model:
        backbone = tw.load_backbone("mobilenet", "conv_pw_1_relu", weights=None, input_shape=(32, 32, 3))
        return tw.add_head(2, hidden_units=None)(backbone)

    model = made()
    path = tmp_path / "model.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras' own: a legacy format
        model.save(path)
    with pytest.raises(ValueError, match="Unknown layer: 'TrueDivide'"):
        keras.saving.load_model(path)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3))
    again = made()
    again.load_weights(path)
    np.testing.assert_allclose(again(images), model(images), rtol=1e-5)
    backbone = tw.load_backbone("mobilenet", "conv_pw_1_relu", weights=path, input_shape=(32, 32, 3))
    features = keras.Model(model.input, model.get_layer("conv_pw_1_relu").output)
    np.testing.assert_allclose(backbone(images), features(images), rtol=1e-5)
