"""load_backbone, cut_points, list_backbones: indices, names, cuts, preprocessing and messages."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import topwork as tw

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

VGG16_LAYERS = [
    "input_layer",
    "block1_conv1",
    "block1_conv2",
    "block1_pool",
    "block2_conv1",
    "block2_conv2",
    "block2_pool",
    "block3_conv1",
    "block3_conv2",
    "block3_conv3",
    "block3_pool",
    "block4_conv1",
    "block4_conv2",
    "block4_conv3",
    "block4_pool",
    "block5_conv1",
    "block5_conv2",
    "block5_conv3",
    "block5_pool",
    "flatten",
    "fc1",
    "fc2",
    "predictions",
]


def load(name, cut_layer=None, *, size=32, **options):
    return tw.load_backbone(name, cut_layer, weights=None, input_shape=(size, size, 3), **options)


def names(model):
    return [layer.name for layer in model.layers]


@pytest.fixture(scope="module")
def inception():
    keras.layers.Conv2D(1, 1)  # has taken the name conv2d, which InceptionV3's first layer bears too
    return load("inception_v3", "mixed7", size=150)


def images(size=32, n=2):
    return np.random.default_rng(1).uniform(0, 255, (n, size, size, 3)).astype("float32")


# Indices and names ------------------------------------------------------------------------------


def test_inception_has_the_indices_and_names_of_keras_applications(inception):
    assert len(inception.layers) == 229
    expected = {0: "input_layer", 1: "conv2d", 164: "mixed5", 172: "conv2d_56", 196: "mixed6"}
    assert {i: inception.layers[i].name for i in expected} == expected
    assert names(inception)[-1] == "mixed7"
    assert inception.output_shape == (None, 7, 7, 768)


@pytest.mark.parametrize(("cut_layer", "n_layers"), [(None, 19), ("predictions", 23)])
def test_vgg16_has_the_layers_of_keras_applications(cut_layer, n_layers):
    assert names(load("vgg16", cut_layer)) == VGG16_LAYERS[:n_layers]


def test_names_are_the_same_on_every_build():
    first = load("mobilenet_v3_small")
    keras.layers.ReLU()
    second = load("mobilenet_v3_small")
    assert "re_lu_1" in names(first)  # a name that Keras counts up
    assert names(first) == names(second)


def test_layers_made_by_the_user_keep_names_of_their_own():
    before = keras.layers.ReLU()
    backbone = load("mobilenet_v3_small")
    after = [keras.layers.ReLU() for _ in range(3)]
    assert len({before.name, *names(backbone), *(layer.name for layer in after)}) == (
        1 + len(backbone.layers) + 3
    )


def test_names_go_on_from_the_count_after_an_error_too():
    before = keras.layers.ReLU().name
    with pytest.raises(ValueError, match="Input size"):
        load("mobilenet", size=8)
    assert keras.layers.ReLU().name != before


def test_the_model_is_named_like_the_backbone():
    assert load("MobileNet", alpha=0.25).name == "mobilenet"


# Cuts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cut_layer", "shape"),
    [
        ("vgg16", None, (1, 1, 512)),
        ("vgg16", "block3_conv2", (8, 8, 256)),
        ("vgg16", "block3_pool", (4, 4, 256)),
        ("vgg16", "fc2", (4096,)),
        ("vgg16", "predictions", (1000,)),
        ("mobilenet", "conv_pw_6_relu", (2, 2, 512)),
        ("mobilenet", "predictions", (1000,)),
    ],
)
def test_cut_anywhere(name, cut_layer, shape):
    backbone = load(name, cut_layer)
    assert backbone.output_shape == (None, *shape)
    if cut_layer:
        assert names(backbone)[-1] == cut_layer


def test_a_cut_gives_what_the_layer_gives_in_the_whole_network():
    whole, cut = load("mobilenet", alpha=0.25), load("mobilenet", "conv_pw_3_relu", alpha=0.25)
    for layer in cut.layers:
        layer.set_weights(whole.get_layer(layer.name).get_weights())
    inside = keras.Model(whole.input, whole.get_layer("conv_pw_3_relu").output)
    np.testing.assert_array_equal(cut(images()), inside(images()))


def test_a_cut_beside_the_main_path_leaves_out_the_other_branches():
    backbone = load("inception_v3", "conv2d_56", size=75)
    assert names(backbone)[-4:] == ["conv2d_55", "batch_normalization_55", "activation_55", "conv2d_56"]
    assert "conv2d_51" not in names(backbone)  # index 171, in the branch beside


def test_options_reach_the_constructor():
    backbone = load("mobilenet", "predictions", alpha=0.25, classes=7)
    assert backbone.get_layer("conv_pw_13").filters == 256
    assert backbone.output_shape == (None, 7)


def test_the_default_size_is_the_one_it_was_trained_at():
    assert tw.load_backbone("mobilenet", weights=None).input_shape == (None, 224, 224, 3)


@pytest.mark.parametrize("spelling", ["VGG16", "vgg-16", "Vgg_16"])
def test_spellings(spelling):
    assert load(spelling, "block1_pool").name == "vgg16"


def test_list_backbones_is_sorted_and_known():
    listed = tw.list_backbones()
    assert listed == sorted(listed)
    assert {"inception_v3", "mobilenet", "vgg16"} <= set(listed)


def test_cut_points_are_those_that_everything_flows_through(inception):
    points = tw.cut_points(inception)
    assert [point for point in points if point.startswith("mixed")] == [f"mixed{i}" for i in range(8)]
    assert "conv2d_4" in points  # the last of the stem
    assert "conv2d_56" not in points  # one branch of four


def test_cut_points_of_a_name_include_the_classifier_top():
    assert tw.cut_points("mobilenet")[-3:] == ["conv_preds", "reshape_2", "predictions"]


# Preprocessing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "cut_layer"), [("vgg16", "block1_conv1"), ("mobilenet", "conv1")])
def test_raw_images_in_equals_preprocessed_images_into_the_bare_network(name, cut_layer):
    raw, bare = (load(name, cut_layer, preprocess=flag) for flag in (True, False))
    bare.set_weights(raw.get_weights())
    module = getattr(keras.applications, name)
    expected = bare(module.preprocess_input(images().copy()))
    np.testing.assert_allclose(raw(images()), expected, rtol=1e-5, atol=1e-5)
    assert names(raw) == names(bare)


def test_the_callers_images_are_left_as_they_are():
    x, before = images(), images()
    load("vgg16", "block1_pool")(x)
    np.testing.assert_array_equal(x, before)


# Messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "arguments", "parts"),
    [
        (
            tw.load_backbone,
            {"name": "inceptoin_v3"},
            ["load_backbone: there is no backbone 'inceptoin_v3'", "'inception_v3'", "list_backbones()"],
        ),
        (tw.load_backbone, {"name": 3}, ["there is no backbone 3"]),
        (
            tw.cut_points,
            {"name_or_model": "vg16"},
            ["cut_points: there is no backbone 'vg16'", "'vgg16'"],
        ),
        (
            tw.load_backbone,
            {"name": "mobilenet", "cut_layer": "conv_pw_14_relu", "weights": None},
            [
                "'mobilenet' has no layer 'conv_pw_14_relu'",
                "'conv_pw_13_relu'",
                "cut_points('mobilenet')",
            ],
        ),
        (
            tw.load_backbone,
            {"name": "mobilenet", "cut_layer": "input_layer", "weights": None},
            ["'mobilenet' has no layer 'input_layer'"],
        ),
        (
            tw.load_backbone,
            {"name": "mobilenet", "alfa": 0.25},
            ["keras.applications.MobileNet has no option 'alfa'", "'alpha'"],
        ),
        (tw.load_backbone, {"name": "vgg16", "include_top": True}, ["'include_top'", "cut_layer"]),
        (tw.load_backbone, {"name": "vgg16", "input_tensor": 1}, ["'input_tensor'", "input_shape"]),
        (tw.load_backbone, {"name": "vgg16", "pooling": "avg"}, ["'pooling'", "add_head(pooling="]),
        (tw.load_backbone, {"name": "mobilenet", "dropout": 0.5}, ["'dropout'", "add_head(dropout="]),
        (
            tw.load_backbone,
            {"name": "mobilenet_v3_small", "dropout_rate": 0.5},
            ["'dropout_rate'", "add_head(dropout="],
        ),
        (
            tw.load_backbone,
            {"name": "mobilenet_v3_small", "include_preprocessing": False},
            ["'include_preprocessing'", "0 to 255"],
        ),
    ],
)
def test_messages(call, arguments, parts):
    with pytest.raises(ValueError, match=r"Closest|not passed on|list_backbones") as caught:
        call(**arguments)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "shape", [(150, 150), (150, 150, 0), (0, 150, 3), (150.0, 150, 3), 150, (None, None, 3)]
)
def test_message_for_a_shape_that_is_none(shape):
    with pytest.raises(ValueError, match=r"input_shape is \(height, width, channels\)") as caught:
        tw.load_backbone("vgg16", weights=None, input_shape=shape)
    assert "(224, 224, 3)" in str(caught.value)
    assert f"Received: {shape!r}" in str(caught.value)


def test_cut_points_message_for_a_model_without_a_graph():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="cut_points: the graph of the model is read") as caught:
        tw.cut_points(Subclassed(name="mine"))
    assert "'mine' (Subclassed)" in str(caught.value)
    assert "keras.Model(inputs, outputs)" in str(caught.value)


def test_cut_points_message_for_what_is_no_model():
    with pytest.raises(ValueError, match=r"cut_points: the model must be a keras.Model. Received: 3"):
        tw.cut_points(3)


# ImageNet ---------------------------------------------------------------------------------------


@pytest.fixture
def download(monkeypatch):
    """Stands in for the download that keras.applications does."""
    from keras.src.utils import file_utils

    def answer(result):
        def get_file(*args, **kwargs):
            if isinstance(result, Exception):
                raise result
            return str(result)

        monkeypatch.setattr(file_utils, "get_file", get_file)

    return answer


def test_imagenet_weights_are_the_downloaded_ones(download, tmp_path):
    source = keras.applications.MobileNet(
        include_top=False, weights=None, alpha=0.25, input_shape=(128, 128, 3)
    )
    source.save(tmp_path / "notop.h5")
    download(tmp_path / "notop.h5")
    backbone = tw.load_backbone("mobilenet", "conv_pw_3_relu", input_shape=(128, 128, 3), alpha=0.25)
    for layer in backbone.layers:
        for received, expected in (
            zip(layer.get_weights(), source.get_layer(layer.name).get_weights(), strict=True)
            if layer.weights
            else ()
        ):
            np.testing.assert_array_equal(received, expected)


def test_message_where_there_is_no_network(download):
    download(Exception("URL fetch failure on https://storage.googleapis.com/x: None -- refused"))
    with pytest.raises(ConnectionError, match="ImageNet weights of 'vgg16' could not be down") as caught:
        tw.load_backbone("vgg16", "block1_pool", input_shape=(32, 32, 3))
    assert "refused" in str(caught.value)
    assert "weights='path/to/file.h5'" in str(caught.value)


def test_another_failure_of_the_download_is_not_hidden(download):
    download(RuntimeError("Incomplete or corrupted file detected"))
    with pytest.raises(RuntimeError, match="corrupted file"):
        tw.load_backbone("vgg16", "block1_pool", input_shape=(32, 32, 3))


def test_sizes_of_any_integer_type_and_cuts_that_are_no_names() -> None:
    shape = tuple(np.array([32, 32, 3]))
    assert tw.load_backbone("mobilenet", weights=None, input_shape=shape).input_shape == (None, 32, 32, 3)
    with pytest.raises(ValueError, match=r"cut_layer is a layer name. Received: -1. cut_points"):
        tw.load_backbone("mobilenet", -1, weights=None)
