"""One contract for every row of the table, with random weights and small images.

One network of each family is in the fast tests, the others are slow.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest

import topwork as tw
from plain_process import PlainProcess
from topwork._features.split import split
from topwork._networks.applications import APPLICATIONS
from topwork._networks.graph import head_start
from topwork._networks.pixel_range import expected_range

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]

FAMILIES = [
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_b0",
    "inception_resnet_v2",
    "inception_v3",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "nasnet_mobile",
    "resnet50",
    "resnet50_v2",
    "vgg16",
    "xception",
]
# The fast ones are those with layers that the other tests have not saved.
SAVED_IN_FAST_TESTS = ["convnext_tiny", "efficientnet_b0", "mobilenet_v3_small"]
SMALLEST_IMAGE = {"inception_resnet_v2": 75, "inception_v3": 75, "xception": 71}
ALL = sorted(APPLICATIONS)

PLAIN_KERAS = """
import os, keras, numpy as np

def answer(**question):
    keras.backend.clear_session()  # names start as in a process that has built nothing
    return load(**question) if "path" in question else build(**question)

def build(constructor, size):
    network = getattr(keras.applications, constructor)(
        include_top=False, weights=None, input_shape=(size, size, 3)
    )
    return [layer.name for layer in network.layers]

def load(path, images, predictions):
    model = keras.models.load_model(path)
    np.save(predictions, model.predict_on_batch(np.load(images)))
    return [layer.name for layer in model.layers]
"""


def rows(fast):
    return [key if key in fast else pytest.param(key, marks=pytest.mark.slow) for key in ALL]


def size_of(key):
    return SMALLEST_IMAGE.get(key, 32)


def load(key, cut_layer=None, **options):
    shape = (size_of(key), size_of(key), 3)
    return tw.load_backbone(key, cut_layer, **{"weights": None, "input_shape": shape, **options})


def images_for(model, n=2):
    return np.random.default_rng(0).uniform(0, 255, (n, *model.input_shape[1:])).astype("float32")


def names(layers):
    return [layer.name for layer in layers]


@pytest.fixture(scope="module")
def plain_keras():
    process = PlainProcess(PLAIN_KERAS)
    yield process
    process.close()


@pytest.fixture(scope="module")
def built(key, plain_keras):
    """The backbone, and the layers' names as Keras alone has them in a fresh process.

    Other networks were built in this process before: what is the same here is so on every build.
    """
    plain_keras.ask(constructor=APPLICATIONS[key].constructor, size=size_of(key))
    return load(key), plain_keras.answer()


@pytest.fixture
def backbone(built):
    return built[0]


# The rows, one after the other, so that one network at a time is in memory.
each_row = pytest.mark.parametrize("key", rows(FAMILIES), scope="module")


@each_row
def test_indices_and_names_are_those_of_keras_applications(key, built):
    backbone, expected = built
    assert names(backbone.layers) == expected


@each_row
def test_preprocessing_is_that_of_keras_applications(key, backbone):
    module = getattr(keras.applications, APPLICATIONS[key].module)
    images = images_for(backbone)
    preprocess = keras.Function(backbone.input, backbone.layers[1].input)
    expected = module.preprocess_input(images.copy())
    np.testing.assert_allclose(preprocess(images), expected, rtol=1e-5, atol=1e-4)
    assert expected_range(backbone) == (0.0, 255.0)


@each_row
def test_clean_cuts_can_be_built(key, backbone):
    cuts = tw.cut_points(backbone)
    assert backbone.layers[-1].name in cuts
    for cut in cuts[:: max(1, len(cuts) // 4)]:
        model = keras.Model(backbone.input, backbone.get_layer(cut).output)
        assert names(model.layers) == names(backbone.layers)[: len(model.layers)]


@each_row
def test_frozen_it_is_all_prefix_and_fine_tuned_it_splits_at_the_boundary(key, backbone):
    model = tw.add_head(3, 0.0, hidden_units=None)(tw.freeze(backbone))
    frozen = split(model)
    computed_once = {id(variable) for variable in frozen.prefix.variables}
    assert {id(variable) for variable in backbone.variables} <= computed_once

    boundary = names(model.layers).index(APPLICATIONS[key].boundary)
    tw.fine_tune(model)
    norm = keras.layers.BatchNormalization
    expected = [
        layer for layer in model.layers[boundary:] if layer.weights and not isinstance(layer, norm)
    ]
    assert names(layer for layer in model.layers if layer.trainable_variables) == names(expected)
    assert names(expected)[0] == APPLICATIONS[key].boundary
    assert 0 < boundary < head_start(model)

    parts, images = split(model), images_for(model, 1)
    received = parts.tail(parts.prefix([images]))
    np.testing.assert_allclose(received, model(images), rtol=1e-4, atol=1e-6)
    assert not parts.prefix.trainable_variables
    assert len(parts.tail.trainable_variables) == len(model.trainable_variables)


@pytest.mark.parametrize("key", rows(SAVED_IN_FAST_TESTS), scope="module")
def test_a_saved_model_is_the_same_without_topwork(key, backbone, plain_keras, tmp_path):
    images = images_for(backbone)
    np.save(tmp_path / "images.npy", images)
    expected = backbone.predict_on_batch(images)
    backbone.save(tmp_path / "model.keras")
    plain_keras.ask(
        path=str(tmp_path / "model.keras"),
        images=str(tmp_path / "images.npy"),
        predictions=str(tmp_path / "predictions.npy"),
    )
    assert plain_keras.answer() == names(backbone.layers)
    (tmp_path / "model.keras").unlink()
    assert np.load(tmp_path / "predictions.npy").tobytes() == expected.tobytes()


def keras_size(key):
    network = getattr(keras.applications, APPLICATIONS[key].constructor)(weights=None)
    return network.input_shape[1]


@pytest.mark.slow
@pytest.mark.parametrize("key", ALL)
def test_every_cut_point_of_the_whole_network_at_its_own_size(key):
    """Also the top, and that the size that it was trained at is one that it takes."""
    assert keras_size(key) in (APPLICATIONS[key].size, None)  # MobileNetV3 takes any
    cuts = tw.cut_points(key)
    whole = load(key, cuts[-1])
    assert whole.output_shape == (None, 1000)
    for cut in cuts:
        model = keras.Model(whole.input, whole.get_layer(cut).output)
        assert names(model.layers) == names(whole.layers)[: len(model.layers)]


def test_every_architecture_of_keras_applications_has_a_row():
    constructors = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {application.constructor for application in APPLICATIONS.values()} == constructors
    assert set(FAMILIES) <= set(APPLICATIONS)


def test_spellings_stay_apart():
    spellings = {key.replace("_", "") for key in APPLICATIONS}
    assert spellings == {application.constructor.lower() for application in APPLICATIONS.values()}


# What single families need ----------------------------------------------------------------------


def test_dropout_inside_a_backbone_is_off_also_in_training():
    backbone = load("efficientnet_b0", "predictions")
    dropouts = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Dropout)]
    assert {"block2b_drop", "top_dropout"} <= set(names(dropouts))
    images = images_for(tw.freeze(backbone))
    np.testing.assert_array_equal(backbone(images, training=True), backbone(images, training=True))


def test_convnext_weights_from_a_file_that_has_its_stages_as_one_layer_each(tmp_path):
    source = load("convnext_tiny", "convnext_tiny_downsampling_block_0")
    source.save(tmp_path / "trunk.h5")
    received = load("convnext_tiny", "convnext_tiny_downsampling_block_0", weights=tmp_path / "trunk.h5")
    for here, there in zip(received.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.fixture
def efficientnet_file(tmp_path):
    """Weights like the published ones: deviations where the normalization has variances."""
    network = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    normalization = network.get_layer(index=2)
    deviations = np.array([0.229, 0.224, 0.225])
    normalization.set_weights([np.array([0.485, 0.456, 0.406]), deviations, np.array(0)])
    network.save(tmp_path / "notop.h5")
    return tmp_path / "notop.h5"


def test_efficientnet_from_a_downloaded_file_is_the_one_that_keras_downloads(
    efficientnet_file, monkeypatch
):
    from keras.src.utils import file_utils

    monkeypatch.setattr(file_utils, "get_file", lambda *args, **kwargs: str(efficientnet_file))
    from_keras = load("efficientnet_b0", weights="imagenet")
    from_file = load("efficientnet_b0", weights=efficientnet_file)
    assert from_keras.layers[3].name == "rescaling_1"  # only with ImageNet's weights
    assert names(from_file.layers) == names(from_keras.layers)
    images = images_for(from_file)
    np.testing.assert_allclose(from_file(images), from_keras(images), rtol=1e-4, atol=1e-5)
    assert all(layer.rate == 0 for layer in from_file.layers if layer.name.endswith("_drop"))


def test_efficientnet_of_ones_own_is_not_rescaled(tmp_path):
    source = load("efficientnet_b0", "block2a_project_bn")
    source.save(tmp_path / "own.keras")
    received = load("efficientnet_b0", "block2a_project_bn", weights=tmp_path / "own.keras")
    assert names(received.layers) == names(source.layers)
