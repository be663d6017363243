"""Who computes the frozen features, and in which precision: one model, what differs is said."""

from __future__ import annotations

import errno
import functools
import importlib.util
import inspect
import re
import sys
import types
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import topwork as tw
from topwork._features import device
from topwork._features import engine as engine_module
from topwork._features.engine import PLAIN, Engine, explained_difference, open_engine
from topwork._features.fingerprint import fingerprint
from topwork._features.frozen_part import BATCH_SIZE, FrozenPart
from topwork._features.functions import make_function

SIZE = 16
IMAGES = np.random.default_rng(0).uniform(0, 255, (60, SIZE, SIZE, 3)).astype("float32")
LABELS = np.arange(60) % 3
OTHERS = 255 - IMAGES[:30], LABELS[:30]
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
HAS_BFLOAT16 = HAS_OPENVINO and "bfloat16" in engine_module._native_precisions()
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO, an extra, is not installed")
needs_bfloat16 = pytest.mark.skipif(
    not HAS_BFLOAT16, reason="no OpenVINO, or no instructions for bfloat16"
)
ENGINES = [
    Engine("tensorflow", "bfloat16"),
    Engine("tensorflow", "float16"),
    pytest.param(Engine("openvino", "float32"), marks=needs_openvino),
    pytest.param(Engine("openvino", "bfloat16"), marks=needs_bfloat16),
]


def prefix() -> keras.Model:
    """Two outputs, one of them a feature map, and most kinds of layers."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(24, 3, strides=2)(inputs / 127.5 - 1.0)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    y = layers.Conv2D(17, 1, activation="swish")(x)
    y = layers.Concatenate()([layers.MaxPooling2D(2)(y), layers.AveragePooling2D(2)(x)])
    pooled = layers.GlobalAveragePooling2D()(y)
    return keras.Model([inputs], [y, layers.Dense(31, activation="relu")(pooled)], name="small")


@functools.cache
def model() -> keras.Model:
    part = prefix()
    pooled = keras.Model(part.inputs, part.outputs[1])
    return tw.add_head(n_classes=3, hidden_units=None)(tw.freeze(pooled))


def unpacked(part: FrozenPart, images: Any) -> list[Any]:
    return [array.numpy() for array in part.layout.unpack(tf.constant(part.rows([images])))]


# The same features, but for rounding


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_features_are_those_of_the_model_but_for_rounding(engine: Engine) -> None:
    part = FrozenPart(prefix(), engine)
    rows = part.rows([IMAGES[:5]])
    part.compare([IMAGES[:5]], rows)
    assert part.engine == engine
    assert part.difference is not None
    assert part.difference < explained_difference(engine, part.prefix.layers)
    assert part.layout == FrozenPart(part.prefix).layout
    if engine.precision != "float32":  # it did compute in it
        assert part.difference > 1e-5


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_features_do_not_depend_on_the_neighbours(engine: Engine) -> None:
    part = FrozenPart(prefix(), engine)
    images = IMAGES[:BATCH_SIZE]
    whole = part.rows([images])
    np.testing.assert_array_equal(part.rows([images[3:4]]), whole[3:4])
    for step in (1, 7, 31):
        np.testing.assert_array_equal(part.rows([np.roll(images, step, 0)]), np.roll(whole, step, 0))
    np.testing.assert_array_equal(part.rows([images[::-1]]), whole[::-1])


@pytest.mark.thorough
@needs_openvino
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["mobilenet", "vgg16", "mobilenet_v2", "resnet50"])
def test_features_of_a_network_do_not_depend_on_the_neighbours(name: str, precision: str) -> None:
    network = tw.load_backbone(name, weights=None, input_shape=(32, 32, 3))
    part = FrozenPart(keras.Model(network.inputs, network.outputs), Engine("openvino", precision))
    images = np.random.default_rng(1).uniform(0, 255, (BATCH_SIZE, 32, 32, 3)).astype("float32")
    whole = part.rows([images])
    np.testing.assert_array_equal(part.rows([images[5:6]]), whole[5:6])
    np.testing.assert_array_equal(part.rows([np.roll(images, 13, 0)]), np.roll(whole, 13, 0))
    part.compare([images], whole)
    assert part.difference is not None
    assert part.difference < explained_difference(part.engine, network.layers)


@needs_openvino
def test_any_shape_and_type_of_inputs_and_outputs() -> None:
    first, second = keras.Input((4, 4, 3), dtype="uint8"), keras.Input((2,), dtype="float16")
    scaled = keras.ops.cast(first, "float32") / 255.0
    half = second * 2
    outputs = [first, scaled, half, scaled, keras.ops.sum(scaled, axis=(1, 2)) > 24]
    network = keras.Model([first, second], outputs)
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 4, 3)).astype("uint8")
    numbers = np.linspace(0, 1, 10).reshape(5, 2).astype("float16")
    part = FrozenPart(network, Engine("openvino"))
    received = part.layout.unpack(tf.constant(part.rows([pixels, numbers])))
    for ours, own in zip(received, network([pixels, numbers]), strict=True):
        assert ours.dtype == own.dtype
        np.testing.assert_allclose(np.asarray(ours, "float32"), np.asarray(own, "float32"), rtol=1e-6)


@needs_openvino
def test_images_of_several_sizes() -> None:
    inputs = keras.Input((None, None, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3, padding="same")(inputs))
    part, plain = (
        FrozenPart(keras.Model([inputs], pooled), each) for each in (Engine("openvino"), PLAIN)
    )
    plain.prefix.set_weights(part.prefix.get_weights())
    for size in (8, 12, 8):
        images = IMAGES[:3, :size, :size]
        for a, b in zip(unpacked(part, images), unpacked(plain, images), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


# Through the public functions


@pytest.mark.parametrize(
    ("engine", "precision"),
    [
        ("tensorflow", "bfloat16"),
        pytest.param("openvino", "float32", marks=needs_openvino),
        pytest.param("openvino", "bfloat16", marks=needs_bfloat16),
    ],
)
def test_every_function_that_computes_features_takes_it(
    engine: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_possible", lambda precision: precision)
    ours = {"engine": engine, "precision": precision, "cache_dir": tmp_path, "verbose": 0}
    data = IMAGES, LABELS
    assert tw.precompute(model(), IMAGES, **ours) == 60
    assert tw.precompute(model(), IMAGES, **ours) == 0
    received = tw.features(model(), IMAGES, **ours)
    np.testing.assert_allclose(received, tw.features(model(), IMAGES, verbose=0), rtol=0.1, atol=0.1)
    tw.fit_head(model(), *data, validation_data=OTHERS, **ours)
    tw.fit(model(), *data, validation_data=OTHERS, epochs=1, **ours)
    tw.callbacks.find_learning_rate(model(), *data, steps=10, **ours)
    assert (
        len(tw.open_store(tmp_path).info().collections) == 1
    )  # all of them found what the first one computed
    tw.compare_cuts(prefix_of_one(), data, OTHERS, cut_layers=["map"], **ours)
    tw.compare_boundaries(trained(), data, OTHERS, boundaries=["map"], epochs=1, **ours)
    tw.precompute(model(), IMAGES, cache_dir=tmp_path, verbose=0)
    assert len(tw.open_store(tmp_path).info().collections) == 4


def test_no_function_that_keeps_features_was_forgotten() -> None:
    names = [
        (module, name) for module in (tw, tw.callbacks, tw.interpret, tw.data) for name in dir(module)
    ]
    functions = {name: getattr(module, name) for module, name in names}
    signatures = {
        name: inspect.signature(each) for name, each in functions.items() if inspect.isfunction(each)
    }
    keeping = {
        name: each.parameters for name, each in signatures.items() if "cache_dir" in each.parameters
    }
    assert len(keeping) >= 7
    for name, parameters in keeping.items():
        assert parameters["engine"].default == "auto", name
        assert parameters["precision"].default == "float32", name


def test_judging_labels_by_features_of_another_precision(caplog: pytest.LogCaptureFixture) -> None:
    labels = np.arange(60) % 2
    images = IMAGES / 3 + 150 * labels[:, None, None, None]
    network, ours = prefix_of_one(), {"engine": "tensorflow", "precision": "bfloat16"}
    with caplog.at_level("INFO", logger="topwork"):
        tw.interpret.suspects(network, (images, labels), **ours)
        tw.transfer((images, labels), names=network, fine_tuning=False, **ours)
    assert caplog.text.count("by TensorFlow in bfloat16") == 2


def prefix_of_one() -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="first")(inputs / 255.0)
    return keras.Model(inputs, layers.Conv2D(6, 3, activation="relu", name="map")(x), name="cut")


def trained() -> keras.Model:
    return tw.add_head(n_classes=3, hidden_units=None)(tw.freeze(prefix_of_one()))


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_the_model_stays_plain_and_validation_is_measured_on_the_same_features(engine: Engine) -> None:
    ours = {"engine": engine.name, "precision": engine.precision}
    before = [layer.dtype_policy.name for layer in model().layers]
    tw.fit_head(model(), IMAGES, LABELS, **ours, verbose=0)
    assert [layer.dtype_policy.name for layer in model().layers] == before
    history = tw.fit(model(), IMAGES, LABELS, validation_data=OTHERS, epochs=1, **ours, verbose=0)
    features = tw.features(model(), OTHERS[0], **ours, verbose=0)
    own = keras.losses.sparse_categorical_crossentropy(OTHERS[1], model().layers[-1](features))
    np.testing.assert_allclose(history.history["val_loss"], np.mean(own), rtol=1e-5)


def test_what_was_computed_and_how_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="topwork"):
        tw.features(model(), IMAGES, engine="tensorflow", precision="bfloat16")
    assert re.search(r" s by TensorFlow in bfloat16, [\d.]+ % from the model's own; fea", caplog.text)


# Addresses


def test_the_default_is_keras_own_call_and_has_the_address_that_it_had() -> None:
    part = prefix()
    assert open_engine("auto", "float32") == PLAIN == open_engine("tensorflow", "float32")
    assert (
        fingerprint(part) == fingerprint(part, PLAIN) == fingerprint(part, open_engine("auto", "float32"))
    )
    assert "openvino" not in sys.modules or HAS_OPENVINO


def test_each_engine_and_precision_has_an_address_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    part = prefix()
    names = [("tensorflow", p) for p in ("float32", "bfloat16", "float16")]
    addresses = {fingerprint(part, Engine(*each)) for each in names}
    assert len(addresses) == 3
    monkeypatch.setattr("topwork._features.fingerprint.version_of", lambda engine: "1")
    one = fingerprint(part, Engine("openvino", "bfloat16"))
    monkeypatch.setattr("topwork._features.fingerprint.version_of", lambda engine: "2")
    assert len(addresses | {one, fingerprint(part, Engine("openvino", "bfloat16"))}) == 5


# What a machine can do


def stand_in(monkeypatch: pytest.MonkeyPatch, found: Any, import_module: Any = None) -> None:
    """Of the modules that the engine asks for."""
    util = types.SimpleNamespace(find_spec=lambda name: found)
    imports = types.SimpleNamespace(util=util, import_module=import_module)
    monkeypatch.setattr(engine_module, "importlib", imports)


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, None)


@pytest.fixture
def some_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with instructions for bfloat16."""
    monkeypatch.setattr(engine_module, "_missing_openvino", lambda: None)
    monkeypatch.setattr(engine_module, "_native_precisions", lambda: {"float32", "bfloat16"})


def test_auto_is_openvino_on_a_processor_that_can(some_openvino: None) -> None:
    assert open_engine("auto", "bfloat16") == Engine("openvino", "bfloat16")
    assert open_engine("openvino", "bfloat16").is_required


@pytest.mark.parametrize(("engine", "name"), [("auto", "tensorflow"), ("openvino", "openvino")])
def test_a_processor_without_the_instructions_says_so(
    some_openvino: None, engine: str, name: str
) -> None:
    with pytest.warns(
        UserWarning, match=r"no instructions for float16, and would be slower.*in float32\."
    ):
        assert open_engine(engine, "float16") == Engine(name, "float32")


def test_auto_is_tensorflow_on_a_graphics_processor(
    some_openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind: ["a GPU"] if kind == "GPU" else []
    )
    assert open_engine("auto", "float16") == Engine("tensorflow", "float16")


def test_openvino_that_is_not_installed(no_openvino: None) -> None:
    with pytest.raises(ImportError, match=r"engine='openvino' is another package.*topwork\[openvino\]"):
        tw.features(model(), IMAGES, engine="openvino")
    with pytest.warns(
        UserWarning,
        match=r"features: the frozen part runs in float32: on a processor prec.*\[op",
    ):
        received = tw.features(model(), IMAGES, precision="bfloat16", verbose=0)
    np.testing.assert_array_equal(received, tw.features(model(), IMAGES, verbose=0))


def test_openvino_that_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libopenvino.so: cannot open shared object file")

    stand_in(monkeypatch, object(), broken)
    message = r"OpenVINO, which cannot be imported \(OSError: libopen.*\)\. Install it anew: pip"
    with pytest.warns(UserWarning, match=message):
        assert open_engine("auto", "bfloat16") == PLAIN
    with pytest.raises(ImportError, match=r"'openvino' is another package, which cannot be imported"):
        open_engine("openvino", "float32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"engine": "onnx"},
            r"fit: engine must be one of 'auto', 'tensorflow', 'openvino'. Received: 'on",
        ),
        ({"engine": None}, r"fit: engine must be one of .* Received: None"),
        (
            {"precision": "int8"},
            r"fit: precision must be one of 'float32', 'bfloat16', 'float16'. Received",
        ),
        (
            {"precision": "bfloat16", "cache": False},
            r"fit: cache=False computes nothing once, and engine='a",
        ),
    ],
)
def test_arguments_that_cannot_be_right(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tw.fit(model(), IMAGES, LABELS, **arguments)


# What an engine cannot run


@keras.saving.register_keras_serializable("test_engine")
class Sorted(layers.Layer):
    """Python code in the middle of the graph: nothing but TensorFlow can run it."""

    def call(self, x: Any) -> Any:
        y = tf.numpy_function(lambda a: np.sort(a, axis=-1), [x], tf.float32, stateful=False)
        return tf.ensure_shape(y, x.shape)

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


def with_python() -> keras.Model:
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3)(inputs))
    return keras.Model([inputs], Sorted()(x), name="with_python")


@needs_openvino
def test_an_operation_that_openvino_does_not_know() -> None:
    network = with_python()
    with pytest.raises(
        ValueError, match=r"OpenVINO in float32 cannot run .* model: .*PyFunc.*\. Leave out"
    ):
        tw.features(network, IMAGES, layer="sorted", engine="openvino", verbose=0)
    part = FrozenPart(network, Engine("openvino"))
    with pytest.warns(UserWarning, match=r"OpenVINO in float32 cannot run the frozen.*It runs in Tensor"):
        rows = part.rows([IMAGES[:3]])
    assert part.engine == PLAIN
    np.testing.assert_array_equal(rows, FrozenPart(network).rows([IMAGES[:3]]))


@needs_openvino
def test_a_temporary_disk_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    part = FrozenPart(prefix(), Engine("openvino", "float32"))
    with pytest.warns(
        UserWarning, match=r"OpenVINO in float32 cannot run .*No space left on device\. It ru"
    ):
        part.rows([IMAGES[:3]])
    assert part.engine == PLAIN


class Stubborn(layers.Layer):
    """Cannot be made anew from its configuration."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = layers.Dense(units)

    def call(self, x: Any) -> Any:
        return self.units(x)


def stubborn() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model([inputs], Stubborn(3)(inputs), name="stubborn")


def test_a_layer_that_cannot_be_made_anew() -> None:
    with pytest.raises(
        ValueError, match=r"TensorFlow in float16 cannot run .*: a layer cannot be made anew"
    ):
        FrozenPart(stubborn(), Engine("tensorflow", "float16", is_required=True)).prepare()


def test_an_engine_that_was_chosen_gives_way_and_the_store_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cannot = make_function

    def make(part: Any, engine: Engine, batch_size: int) -> Any:
        if not engine.is_plain:
            raise engine_module.EngineError("of a test")
        return cannot(part, engine, batch_size)

    monkeypatch.setattr("topwork._features.frozen_part.make_function", make)
    monkeypatch.setattr(engine_module, "has_gpu", lambda: True)  # where "auto" is TensorFlow
    ours = {"cache_dir": tmp_path, "verbose": 0}
    with pytest.warns(
        UserWarning, match=r"TensorFlow in float16 cannot run the frozen .*: of a test. It r"
    ):
        assert tw.precompute(model(), IMAGES, precision="float16", **ours) == 60
    assert tw.precompute(model(), IMAGES, **ours) == 0  # the very same


def test_features_that_differ_by_more_than_rounding_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(part: Any, engine: Engine, batch_size: int) -> Any:
        function = make_function(part, PLAIN, batch_size)
        return lambda arrays: [1.5 * output for output in function(arrays)]

    monkeypatch.setattr("topwork._features.frozen_part.make_function", make)
    with pytest.warns(
        UserWarning, match=r"features: the features that TensorFlow in bfloat16 gives diff.*0.5 of"
    ):
        tw.features(model(), IMAGES, engine="tensorflow", precision="bfloat16", verbose=0)


def of_policy(policy: str) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(24, 3, dtype=policy)(inputs / 255.0)
    return keras.Model([inputs], layers.GlobalAveragePooling2D(dtype="float32")(x))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_model_that_rounds_by_itself_explains_a_difference_too(precision: str) -> None:
    plain, mixed = (of_policy(policy).layers for policy in ("float32", f"mixed_{precision}"))
    exact, rounded = Engine("openvino", "float32"), Engine("openvino", precision)
    assert explained_difference(exact, plain) < explained_difference(exact, mixed)
    assert explained_difference(exact, mixed) == explained_difference(rounded, plain)


@needs_openvino
def test_an_exact_engine_on_a_model_that_rounds_is_no_reason_to_warn() -> None:
    part = FrozenPart(of_policy("mixed_bfloat16"), Engine("openvino", "float32"))
    part.compare([IMAGES[:5]], part.rows([IMAGES[:5]]))  # a warning would be an error
    assert part.difference is not None
    assert part.difference > 1e-3  # as much as in float32 would have been said


# On a graphics processor: stand-ins, for there is none where this was written


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_gpu", lambda: True)
    monkeypatch.setattr(device, "gpu_memory", lambda: 16 * 2**30)


def sizes_seen(monkeypatch: pytest.MonkeyPatch, most: int = 10**6) -> list[int]:
    """The batches that functions made from now on are called with; more than `most` do not fit."""
    seen = []

    def make(part: Any, engine: Engine, batch_size: int | None) -> Any:
        function = make_function(part, engine, batch_size)

        def run(arrays: list[Any]) -> list[Any]:
            seen.append(len(arrays[0]))
            if len(arrays[0]) > most:
                raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
            return function(arrays)

        return run

    monkeypatch.setattr("topwork._features.frozen_part.make_function", make)
    return seen


def test_a_processor_takes_48_images() -> None:
    assert FrozenPart(prefix()).batch_size == BATCH_SIZE == 48


@pytest.mark.parametrize(
    ("memory", "size", "images"), [(16, 150, 480), (16, 600, 144), (2, 600, 48), (0, 150, 48)]
)
def test_a_graphics_processor_takes_what_fits(
    a_gpu: None, monkeypatch: pytest.MonkeyPatch, memory: int, size: int, images: int
) -> None:
    monkeypatch.setattr(device, "gpu_memory", lambda: memory * 2**30)
    inputs = keras.Input((size, size, 3))
    network = keras.Model([inputs], layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3)(inputs)))
    assert FrozenPart(network).batch_size == images
    assert FrozenPart(network, Engine("openvino")).batch_size == BATCH_SIZE


def test_features_on_a_graphics_processor(a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (150, SIZE, SIZE, 3)).astype("float32")
    plain = np.concatenate(
        [prefix_on_a_processor().rows([images[i : i + 48]]) for i in range(0, 150, 48)]
    )
    seen = sizes_seen(monkeypatch)
    part = FrozenPart(prefix())
    assert part.batch_size > 150
    np.testing.assert_allclose(part.rows([images]).view("f4"), plain.view("f4"), rtol=1e-4, atol=1e-4)
    assert seen == [192]  # padded to full rows of kernels
    received = tw.features(model(), images, verbose=0)
    np.testing.assert_allclose(received, plain.view("f4")[:, -31:], rtol=1e-4, atol=1e-4)
    assert seen == [192, 192]


def prefix_on_a_processor() -> FrozenPart:
    part = FrozenPart(prefix())
    part.batch_size = BATCH_SIZE
    return part


def test_what_does_not_fit_after_all_is_halved(a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sizes_seen(monkeypatch, most=100)
    part = FrozenPart(prefix())
    rows = part.rows([IMAGES.repeat(5, axis=0)])
    assert part.batch_size == 96
    assert seen[:3] == [336, 240, 96]
    assert set(seen[3:]) == {96, 48}
    np.testing.assert_array_equal(rows[::5], rows[4::5])
    sizes_seen(monkeypatch, most=10)
    with pytest.raises(tf.errors.ResourceExhaustedError):  # the least that there is
        FrozenPart(prefix()).rows([IMAGES[:5]])
