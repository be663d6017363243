"""One contract for the image networks of KerasHub: small random ones of each family."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import topwork as tw
from plain_process import PlainProcess
from topwork._features.split import split

keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is an extra: pip install topwork[hub]")

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.filterwarnings("ignore:.*build\\(\\)` was called on layer"),  # MiT
    pytest.mark.filterwarnings("ignore:Layer 'attn':UserWarning"),  # Swin
]

MODELS = keras_hub.models
SHAPE = (32, 32, 3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (12, *SHAPE)).astype("float32")
CLASSES = np.arange(12) % 3
PIXELS = {"scale": [0.008, 0.007, 0.009], "offset": [-1.0, -0.9, -1.1]}


def mobilenet(**options):
    """Five blocks; MobileNet has one class for V3 and V4."""
    arguments = {
        "stackwise_expansion": [[32, 64], [96]],
        "stackwise_num_blocks": [2, 1],
        "stackwise_num_filters": [[16, 16], [24]],
        "stackwise_kernel_size": [[3, 3], [5]],
        "stackwise_num_strides": [[2, 1], [2]],
        "stackwise_se_ratio": [[None, None], [None]],
        "stackwise_activation": [["relu6", "relu6"], ["relu6"]],
        "stackwise_padding": [[1, 1], [2]],
        "output_num_filters": 32,
        "input_num_filters": 8,
        "depthwise_filters": 8,
        "depthwise_stride": 1,
        "depthwise_residual": True,
        "last_layer_filter": 32,
    }
    return MODELS.MobileNetBackbone(**{**arguments, **options}, image_shape=SHAPE)


VIT = {"patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 16, "image_shape": SHAPE}
DINO = {**VIT, "intermediate_dim": 32, "num_register_tokens": 2, "drop_path_rate": 0.1}
FAMILIES = {
    "resnet": lambda: MODELS.ResNetBackbone(
        [64], [7], [64, 64], [1, 1], [1, 2], "basic_block", image_shape=SHAPE
    ),
    "resnet_vd": lambda: MODELS.ResNetBackbone(
        [8, 8, 64], [3, 3, 3], [64, 64], [1, 1], [1, 2], "bottleneck_block_vd", image_shape=SHAPE
    ),
    "efficientnet": lambda: MODELS.EfficientNetBackbone(
        stackwise_width_coefficients=[0.3] * 3,
        stackwise_depth_coefficients=[1.0] * 3,
        stackwise_kernel_sizes=[3, 3, 5],
        stackwise_num_repeats=[1, 2, 1],
        stackwise_input_filters=[32, 16, 24],
        stackwise_output_filters=[16, 24, 40],
        stackwise_expansion_ratios=[1, 6, 6],
        stackwise_strides=[1, 2, 2],
        stackwise_squeeze_and_excite_ratios=[0.25] * 3,
        stackwise_block_types=["v1", "v1", "unfused"],
        stackwise_force_input_filters=[0] * 3,
        stackwise_nores_option=[False] * 3,
        input_shape=SHAPE,
    ),
    "mobilenet_v3": lambda: mobilenet(
        stackwise_se_ratio=[[None, 0.25], [0.25]],
        squeeze_and_excite=0.5,
        depthwise_stride=2,
        depthwise_residual=False,
    ),
    "mobilenet_v4": lambda: mobilenet(input_activation="relu6", output_activation="relu6"),
    "densenet": lambda: MODELS.DenseNetBackbone([2, 2], growth_rate=8, image_shape=SHAPE),
    "mit": lambda: MODELS.MiTBackbone(
        layerwise_depths=[1, 2],
        image_shape=SHAPE,
        hidden_dims=[8, 16],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[4, 2],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
    ),
    "vit": lambda: MODELS.ViTBackbone(**VIT, mlp_dim=32, dropout_rate=0.1, attention_dropout=0.1),
    "vit_without_class_token": lambda: MODELS.ViTBackbone(**VIT, mlp_dim=32, use_class_token=False),
    "deit": lambda: MODELS.DeiTBackbone(**VIT, intermediate_dim=32, dropout_rate=0.1),
    "dinov2": lambda: MODELS.DINOV2Backbone(**DINO, position_embedding_shape=(64, 64, 3)),
    "dinov3": lambda: MODELS.DINOV3Backbone(**DINO),
    "swin": lambda: MODELS.SwinTransformerBackbone(
        image_shape=SHAPE, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4, patch_size=2
    ),
    "cspnet": lambda: MODELS.CSPNetBackbone(
        stem_filters=8,
        stem_kernel_size=3,
        stem_strides=2,
        stackwise_depth=[1, 1],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[16, 32],
        block_type="dark_block",
        bottle_ratio=(0.5,),
        block_ratio=(1.0,),
        expand_ratio=(2.0,),
        stage_type="csp",
        image_shape=SHAPE,
    ),
    "vgg": lambda: MODELS.VGGBackbone([1, 1, 1], [8, 16, 16], image_shape=SHAPE),
    "xception": lambda: MODELS.XceptionBackbone(
        [[4, 8], [8, 16], [24, 24]], [True, True, False], image_shape=SHAPE
    ),
}
LOADED = """
import keras, numpy as np

def answer(path, images, predictions):
    model = keras.models.load_model(path)
    np.save(predictions, model.predict_on_batch(np.load(images)))
    return [layer.name for layer in model.layers if layer.weights and not layer.trainable]
"""


def load(source, **options):
    converter = keras_hub.layers.ImageConverter(image_size=SHAPE[:2], **PIXELS)
    return tw.load_backbone(source, **{"preprocess": converter, **options})


def names(model):
    return [layer.name for layer in model.layers]


@pytest.fixture(scope="module")
def network(family):
    """What KerasHub makes: with weights that are not those of its initializers, which are often zeros."""
    keras.utils.set_random_seed(1)
    made = FAMILIES[family]()
    rng = np.random.default_rng(1)
    interpolates = any("interpolated" in variable.path for variable in made.weights)
    for variable in made.weights:
        if not (interpolates and "position_embeddings" in variable.path):  # made of another, by DINOv2
            variable.assign_add(rng.uniform(0, 0.05, variable.shape))
    return made


@pytest.fixture(scope="module")
def backbone(network):
    return load(network)


def boundary_in(backbone):
    """A layer from which on something can be trained, with something frozen before it."""
    layers, cuts = backbone.layers, tw.cut_points(backbone)
    starts = [
        layer.name
        for before, layer in itertools.pairwise(layers)
        if before.name in cuts
        and layer.weights
        and not isinstance(layer, keras.layers.BatchNormalization)
    ]
    return starts[len(starts) // 2]


def model_on(backbone, boundary=None):
    copied = keras.models.clone_model(backbone)
    copied.set_weights(backbone.get_weights())
    model = tw.add_head(3, dropout=0.0, hidden_units=8, learning_rate=0.01)(tw.freeze(copied))
    keras.utils.set_random_seed(0)
    for layer in model.layers[-2:]:
        layer.set_weights([np.random.default_rng(2).normal(0, 0.1, w.shape) for w in layer.get_weights()])
    return model if boundary is None else tw.fine_tune(model, boundary, learning_rate=0.01)


each_family = pytest.mark.parametrize("family", FAMILIES, scope="module")


@each_family
def test_gives_what_the_network_gives(family, network, backbone):
    pixels = IMAGES * np.array(PIXELS["scale"], "float32") + np.array(PIXELS["offset"], "float32")
    given = dict.fromkeys(network.input, pixels) if isinstance(network.input, dict) else pixels
    expected = keras.tree.flatten(network(given))[-1]
    np.testing.assert_allclose(backbone(IMAGES), expected, rtol=1e-3, atol=1e-4)


@each_family
def test_names_and_indices_are_the_same_on_every_build(family, network, backbone, tmp_path):
    assert names(load(FAMILIES[family]())) == names(backbone)
    assert names(load(network)) == names(backbone)


@each_family
def test_nothing_in_it_is_random(family, backbone):
    once, again = backbone(IMAGES, training=True), backbone(IMAGES, training=True)
    np.testing.assert_array_equal(once, again)


@each_family
def test_the_frozen_part_is_computed_once_and_gives_what_keras_gives(family, backbone):
    ours, theirs = model_on(backbone), model_on(backbone)
    parts = split(ours, [IMAGES])
    assert len(parts.prefix.outputs) == 1
    assert {layer.name for layer in parts.tail.layers if layer.weights} == {"head_hidden", "head_output"}
    compare(ours, theirs)


@each_family
def test_fine_tuned_it_gives_what_keras_gives(family, backbone):
    boundary = boundary_in(backbone)
    ours, theirs = model_on(backbone, boundary), model_on(backbone, boundary)
    parts = split(ours, [IMAGES])
    assert any(layer.weights for layer in parts.prefix.layers)
    compare(ours, theirs)


def compare(ours, theirs):
    arguments = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    expected = theirs.fit(IMAGES, CLASSES, **arguments).history
    received = tw.fit(ours, IMAGES, CLASSES, **arguments).history
    np.testing.assert_allclose(received["loss"], expected["loss"], rtol=1e-3)
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4, err_msg=a.path)


@each_family
def test_a_boundary_is_recommended(family, backbone):
    model = tw.fine_tune(model_on(backbone))
    norm = keras.layers.BatchNormalization
    weighted = [layer for layer in model.layers if layer.weights and not isinstance(layer, norm)]
    trained = [layer for layer in weighted if layer.trainable_weights]
    assert 0 < len(trained) - 2 < 0.7 * len(weighted)  # some of the trunk, beside the head
    start = model.layers.index(trained[0])
    before = model.layers.index(weighted[weighted.index(trained[0]) - 1])
    assert set(names(model)[before:start]) & set(tw.cut_points(backbone))


@each_family
def test_blocks_are_clean_cuts_and_can_be_loaded(family, network, backbone):
    cuts = tw.cut_points(backbone)
    cut = cuts[len(cuts) // 2]
    assert load(network, cut_layer=cut).output_shape == backbone.get_layer(cut).output.shape


@pytest.fixture(scope="module")
def without_topwork():
    process = PlainProcess(LOADED)
    yield process
    process.close()


@each_family
def test_a_file_needs_only_keras_hub(family, backbone, without_topwork, tmp_path):
    model = model_on(backbone, boundary_in(backbone))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", IMAGES)
    paths = {"path": "model.keras", "images": "images.npy", "predictions": "predictions.npy"}
    without_topwork.ask(**{key: str(tmp_path / name) for key, name in paths.items()})
    frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    assert without_topwork.answer() == frozen
    np.testing.assert_allclose(np.load(tmp_path / "predictions.npy"), model(IMAGES), rtol=1e-4, atol=1e-5)


def by_saved_model(model, folder):
    import tensorflow as tf

    model.export(folder / "served", verbose=False)
    loaded = tf.saved_model.load(folder / "served")  # has the variables, and so has to live
    return np.asarray(loaded.serve(IMAGES))


def by_onnx(model, folder):
    pytest.importorskip("tf2onnx")
    runtime = pytest.importorskip("onnxruntime")
    path = str(folder / "model.onnx")
    model.export(path, format="onnx", verbose=False)
    return runtime.InferenceSession(path).run(None, {"input_layer": IMAGES})[0]


def by_litert(model, folder):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    path = str(folder / "model.tflite")
    model.export(path, format="litert", verbose=False)
    runner = litert.Interpreter(path).get_signature_runner()
    return runner(input_layer=IMAGES)["output_0"]


# tf2onnx 1.17 writes exact GELU, and KerasHub's depthwise convolution, as operations that ONNX does not
# have; Swin rolls its windows by one that LiteRT has not. If they learn it, docs/which-backbone.md has to
# be changed.
WITH_GELU = ("vit", "vit_without_class_token", "deit", "dinov2", "dinov3", "swin")
NO_WAY = {
    by_onnx: dict.fromkeys(WITH_GELU, "Erfc")
    | dict.fromkeys(("mobilenet_v3", "mobilenet_v4"), "StatefulPartitionedCall"),
    by_litert: {"swin": "Select TensorFlow op"},
}


@pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")  # for tf2onnx
@pytest.mark.parametrize("way", [by_saved_model, by_onnx, by_litert])
@each_family
def test_exported_it_gives_the_same(family, backbone, way, tmp_path):
    model = model_on(backbone)
    expected = model(IMAGES)  # before it is exported: Keras writes ONNX of what was called
    problem = NO_WAY.get(way, {}).get(family)
    if problem is not None:
        with pytest.raises(Exception, match=problem):
            way(model, tmp_path)
        return
    np.testing.assert_allclose(way(model, tmp_path), expected, rtol=1e-4, atol=1e-5)


def preset(folder, converter=None):
    FAMILIES["vit"]().save_to_preset(str(folder))
    if converter is not None:
        converter.save_to_preset(str(folder))
    return folder


def test_a_folder_of_a_preset_where_there_is_no_network(tmp_path):
    converter = keras_hub.layers.ViTImageConverter(image_size=(32, 32), scale=1 / 127.5, offset=-1.0)
    folder = preset(tmp_path / "vit", converter)
    network = keras_hub.models.Backbone.from_preset(str(folder))
    for name in (folder, str(folder), f"hub:{folder}"):
        backbone = tw.load_backbone(name)
        assert (backbone.name, backbone.input_shape) == ("vit", (None, 32, 32, 3))
    np.testing.assert_allclose(backbone(IMAGES), network(IMAGES / 127.5 - 1), rtol=1e-3, atol=1e-4)
    again = tw.load_backbone(keras_hub.models.ViTBackbone, weights=folder)
    np.testing.assert_allclose(again(IMAGES), backbone(IMAGES), rtol=1e-5)
    assert tw.load_backbone(folder, "vit_encoder_transformer_block_2_add_2").output_shape == (
        None,
        17,
        16,
    )
    assert tw.cut_points(folder)[-1] == "vit_encoder_ln"
    grey = tw.load_backbone(folder, input_shape=(32, 32, 1))
    colours = np.repeat(IMAGES[..., :1], 3, axis=-1)
    np.testing.assert_allclose(grey(IMAGES[..., :1]), backbone(colours), rtol=1e-4, atol=1e-5)


def test_the_four_lines_with_a_cache(tmp_path):
    converter = keras_hub.layers.ViTImageConverter(image_size=(32, 32), scale=1 / 127.5, offset=-1.0)
    backbone = tw.load_backbone(f"hub:{preset(tmp_path / 'vit', converter)}")
    tw.freeze(backbone)
    model = tw.add_head(n_classes=3, pooling="cls")(backbone)
    tw.fit(model, IMAGES, CLASSES, epochs=2, verbose=0, cache_dir=tmp_path / "store")
    assert tw.open_store(tmp_path / "store").info().collections[0].rows == len(IMAGES)
    tw.fine_tune(model, unfreeze_from="vit_encoder_transformer_block_3_ln_1", layer_decay=0.9)
    tw.fit(model, IMAGES, CLASSES, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) == len(model.trainable_variables)
    np.testing.assert_allclose(loaded(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)


def test_the_lines_of_the_readme(tmp_path, monkeypatch, make_photos):
    page = Path(__file__).resolve().parent.parent / "README.md"
    if not page.is_file():
        pytest.skip("the page lies in the source tree, and this is not run from there")
    converter = keras_hub.layers.ViTImageConverter(image_size=(32, 32), scale=1 / 127.5, offset=-1.0)
    preset(tmp_path / "vit", converter)
    for part in ("train", "validation"):
        make_photos(tmp_path / "photos" / part, ("cats", "dogs"), per_class=6)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    network = '"inception_v3", cut_layer="mixed7", input_shape=(150, 150, 3)'
    code = next(block for block in blocks if network in block)
    assert "unfreeze_from=172" in code
    given = {"tw": tw}
    exec(code.replace(network, '"hub:vit"').replace("unfreeze_from=172", ""), given)
    photo = next((tmp_path / "photos/validation/dogs").iterdir())
    loaded = keras.saving.load_model(tmp_path / "cats_and_dogs.keras")
    for model in (given["model"], loaded):
        assert {name for name, _ in tw.predict(model, photo)[0]} == {"cats", "dogs"}


def test_compare_cuts_takes_a_preset(tmp_path):
    converter = keras_hub.layers.ViTImageConverter(image_size=(32, 32), scale=1 / 127.5, offset=-1.0)
    name = f"hub:{preset(tmp_path / 'vit', converter)}"
    cuts = ["vit_encoder_transformer_block_1_add_2", "vit_encoder_ln"]
    data = (IMAGES, CLASSES), (255 - IMAGES, CLASSES)
    found = tw.compare_cuts(name, *data, cut_layers=cuts, verbose=0)
    pairs = [(row.cut_layer, row.pooling) for row in found]
    assert pairs == [(cut, pooling) for cut in cuts for pooling in ("avg", "cls")]


def test_images_of_another_size_for_interpolated_positions(tmp_path):
    keras.utils.set_random_seed(0)
    network = FAMILIES["dinov2"]()
    network.save_to_preset(str(tmp_path))
    size = (48, 48, 3)
    images = np.random.default_rng(0).uniform(0, 255, (2, *size)).astype("float32")
    own = keras_hub.models.Backbone.from_preset(str(tmp_path), image_shape=size)
    expected = own(dict.fromkeys(own.input, images / 255))
    for source in (network, tmp_path):
        backbone = tw.load_backbone(source, input_shape=size, preprocess=keras.layers.Rescaling(1 / 255))
        np.testing.assert_allclose(backbone(images), expected, rtol=1e-3, atol=1e-4)


def test_channels_come_last_whatever_the_network_was_made_for():
    arguments = [64], [7], [64, 64], [1, 1], [1, 2], "basic_block"
    keras.utils.set_random_seed(0)
    last = MODELS.ResNetBackbone(*arguments, image_shape=SHAPE)
    first = MODELS.ResNetBackbone(
        *arguments, image_shape=(SHAPE[-1], *SHAPE[:2]), data_format="channels_first"
    )
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(load(first)(IMAGES), load(last)(IMAGES), rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_network_of_half_precision(policy, tmp_path):
    network = MODELS.ViTBackbone(**VIT, mlp_dim=32, dtype=policy)
    model = tw.add_head(3, hidden_units=None, dropout=0.0)(tw.freeze(load(network)))
    assert model.get_layer("vit_encoder_ln").compute_dtype == policy.removeprefix("mixed_")
    tw.fit(model, IMAGES, CLASSES, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(IMAGES), model(IMAGES), atol=1e-2)


def test_an_image_classifier_brings_its_preprocessing():
    classifier = image_classifier(FAMILIES["vit"]())
    backbone = tw.load_backbone(classifier)
    np.testing.assert_allclose(
        backbone(IMAGES), classifier.backbone(IMAGES / 127.5 - 1), rtol=1e-3, atol=1e-4
    )


NO_PIXELS = "add_head: nothing says how '.*' wants its pixels, and no network of KerasHub takes 0 to 255"


@pytest.mark.parametrize("family", ["vit", "dinov2"])
def test_a_backbone_itself_takes_a_head(family):
    network = FAMILIES[family]()  # DINOv2 takes its image by name
    with pytest.warns(UserWarning, match=NO_PIXELS):
        model = tw.add_head(3, dropout=0.0, pooling="cls")(network)
    assert len(model.trainable_weights) > 4
    with pytest.warns(UserWarning, match=NO_PIXELS):
        model = tw.add_head(3, dropout=0.0, pooling="cls")(tw.freeze(network))
    assert len(model.trainable_weights) == 4
    tail = split(model, [IMAGES]).tail
    assert {"head_hidden", "head_output"} == {layer.name for layer in tail.layers if layer.weights}
    assert tw.fit(model, IMAGES, CLASSES, epochs=1, verbose=0).history["loss"]
    assert tw.interpret.grad_cam(tw.fine_tune(model), IMAGES[0]).heatmap.any()


def image_classifier(network):
    converter = keras_hub.layers.ViTImageConverter(image_size=(32, 32), scale=1 / 127.5, offset=-1.0)
    preprocessor = MODELS.ViTImageClassifierPreprocessor(image_converter=converter)
    return MODELS.ViTImageClassifier(network, num_classes=2, preprocessor=preprocessor)


def test_a_classifier_itself_takes_a_head_in_place_of_its_own():
    classifier = image_classifier(FAMILIES["vit"]())
    classifier.backbone.get_layer("vit_patching_and_embedding").trainable = False
    model = tw.add_head(3, dropout=0.0, hidden_units=None)(classifier)
    frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    assert len(frozen) == 3
    assert all(name.startswith("vit_patching_and_embedding") for name in frozen)
    tokens = classifier.backbone(IMAGES / 127.5 - 1)
    pooled = keras.Model(model.input, model.get_layer("head_pooling").output)(IMAGES)
    np.testing.assert_allclose(pooled, np.mean(tokens[:, 1:], axis=1), rtol=1e-3, atol=1e-4)


def test_a_classifier_itself_is_cut_and_looked_at():
    classifier = image_classifier(FAMILIES["vit"]())
    assert tw.cut_points(classifier)[-1] == "vit_encoder_ln"
    data = (IMAGES, CLASSES), (255 - IMAGES, CLASSES)
    found = tw.compare_cuts(classifier, *data, verbose=0)
    assert "vit_encoder_transformer_block_1_add_2" in [row.cut_layer for row in found]
    assert len(tw.predict(classifier, IMAGES[:2])) == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tw.load_backbone("hub:vit_bas_patch16_224"), ValueError, "KerasHub has no preset 'vit_"),
        (lambda: tw.load_backbone(FAMILIES["vgg"]()), ValueError, "nothing says how 'vggbackbone' wants"),
        (
            lambda: load(MODELS.VGGBackbone([1], [8]), preprocess=False),
            ValueError,
            r"'vggbackbone' takes images of any size. Say which: load_backbone\(..., input_shape=",
        ),
        (
            lambda: tw.add_head(2)(MODELS.VGGBackbone([1], [8])),
            ValueError,
            r"add_head: 'vggbackbone' takes images of any size. Say which: load_backbone\(",
        ),
        (
            lambda: tw.add_head(2)(MODELS.VGGBackbone),
            ValueError,
            r"must be a keras.Model.*load_backbone\(...\) makes one of a name or a class",
        ),
        (
            lambda: tw.freeze(FAMILIES["vit"](), "transformer_block_2"),
            ValueError,
            r"'transformer_block_2' lies inside 'vit_encoder' \(ViTEncoder\), which is one layer",
        ),
        (
            lambda: load(FAMILIES["vgg"](), input_shape=(32, 32, 4)),
            ValueError,
            r"input_shape of 'vggbackbone' is \(height, width, 3\), or 1 for grey",
        ),
        (
            lambda: load(
                MODELS.BertBackbone(
                    vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
                ),
                input_shape=SHAPE,
            ),
            ValueError,
            r"\(BertBackbone\) is no network for images: it takes",
        ),
        (
            lambda: load(FAMILIES["vit"](), input_shape=(48, 48, 3)),
            ValueError,
            "the weights of 'vi_t_backbone.*' do not fit the network as it was asked for",
        ),
        (
            lambda: load(MODELS.VGGBackbone, weights=None, stackwise_num_repeats=[1]),
            ValueError,
            "VGGBackbone cannot be made: .*stackwise_num_filters",
        ),
        (
            lambda: load(FAMILIES["vgg"](), cut_layer="nothing"),
            ValueError,
            "has no layer 'nothing' to cut",
        ),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_message_for_a_folder_that_is_no_preset(tmp_path):
    with pytest.raises(ValueError, match=r"the preset '.*' cannot be loaded: .*config.json"):
        tw.load_backbone(tmp_path)


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_message_for_a_folder_that_is_not_whole(content, tmp_path):
    file = preset(tmp_path / "vit") / "model.weights.h5"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"the preset '.*vit' is not whole \(.*config.json and model.weig"
    ):
        tw.load_backbone(tmp_path / "vit", preprocess=False)
    assert tw.load_backbone(f"HUB:{tmp_path / 'vit'}", preprocess=False, weights=None).name == "vit"


@pytest.mark.parametrize("prefix", ["", "hub:"])
def test_message_for_a_folder_that_is_not_there(prefix, tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder '.*nothing'. A preset is a name, such as"):
        tw.load_backbone(f"{prefix}{tmp_path / 'nothing'}")


def test_message_where_there_is_no_network(monkeypatch):
    def from_preset(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(MODELS.Backbone, "from_preset", from_preset)
    with pytest.raises(ConnectionError, match=r"could not be downloaded \(no route.*pass the path"):
        tw.load_backbone("hub:vit_base_patch16_224_imagenet")


def test_message_for_a_layer_that_says_too_little(monkeypatch):
    monkeypatch.setattr(keras.layers.Conv2D, "get_config", lambda self: {"filters": 1, "kernel_size": 1})
    with pytest.raises(ValueError, match=r"cannot be taken apart: .*Take it as one layer"):
        load(FAMILIES["vgg"]())
