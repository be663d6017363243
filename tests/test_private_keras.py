"""What topwork relies on of Keras' and TensorFlow's private attributes: an upgrade fails here first."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import topwork
from topwork import _private_keras as private

PACKAGE = Path(topwork.__file__).parent


def test_the_call_that_made_a_tensor() -> None:
    image = keras.Input((4,))
    shared = keras.layers.Dense(2)
    first, second = shared(image), shared(keras.ops.multiply(image, 2.0))
    node = private.node_of(second)
    assert node.operation is shared
    assert node.outputs[0] is second
    assert node.input_tensors[0] is not image
    assert private.node_of(first).input_tensors[0] is image
    scaling = private.node_of(node.input_tensors[0])
    assert scaling.arguments.args[0] is image
    assert scaling.arguments.args[1] == 2.0


def test_the_memory_of_graphics_processors() -> None:
    has_any = bool(tf.config.list_physical_devices("GPU"))
    assert (private.gpu_memory() > 2**20) == has_any


def test_a_mask_is_seen() -> None:
    words = keras.Input((5,), dtype="int32")
    assert private.has_mask(keras.layers.Embedding(10, 3, mask_zero=True)(words))
    assert not private.has_mask(keras.layers.Embedding(10, 3)(words))


def test_compile_arguments_come_back_as_they_were_given() -> None:
    def loss(y: object, predicted: object) -> object:
        return keras.losses.mean_squared_error(y, predicted)

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss=loss, metrics=["mae"], jit_compile=False)
    config = private.compile_config(model)
    assert config["loss"] is loss
    assert config["metrics"] == ["mae"]
    assert config["optimizer"] is model.optimizer


def test_what_a_layer_holds_beside_its_books() -> None:
    image = keras.Input((4,))
    layer = keras.layers.Dense(2, activation="gelu")
    layer(image)
    held = private.attributes(layer)
    assert held["activation"] is keras.activations.gelu
    assert {"units", "use_bias", "kernel_initializer"} <= set(held)
    assert not any(isinstance(value, keras.KerasTensor) for value in keras.tree.flatten(held))
    assert not [name for name in held if "nodes" in name or name.startswith("_self_")]
    assert private.attributes(3) == {}


def test_names_start_anew_and_go_on_after_both() -> None:
    outside = keras.layers.Dense(1).name
    with private.names_from_zero():
        assert keras.layers.Dense(1).name == "dense"
    number = int((re.findall(r"\d+", outside) or ["0"])[0])
    assert keras.layers.Dense(1).name == f"dense_{number + 1}"


def test_the_functions_of_a_data_set_and_of_those_below_it() -> None:
    data = tf.data.Dataset.from_tensor_slices(np.zeros(3)).map(lambda x: x + 1).batch(2).map(tf.sin)
    graphs = [function.function.graph.as_graph_def() for function in private.dataset_functions(data)]
    assert [{"AddV2", "Sin"} & {node.op for node in graph.node} for graph in graphs] == [
        {"Sin"},
        {"AddV2"},
    ]


def test_no_other_module_reads_private_attributes() -> None:
    pattern = re.compile(r"(?<![\w.])(\w+)\._(?!_)(\w+)|keras\.src")
    for path in PACKAGE.rglob("*.py"):
        if path.name == "_private_keras.py":
            continue
        for line in path.read_text("utf-8").splitlines():
            for match in pattern.finditer(line):
                if match[0] == "keras.src" or match[1] in (
                    "model",
                    "tensor",
                    "layer",
                    "dataset",
                    "keras",
                ):
                    raise AssertionError(f"{path.name} reads {match[0]}: {line.strip()}")


def test_the_steps_of_a_data_set() -> None:
    data = tf.data.Dataset.range(9)
    part = data.shuffle(9).take(3)
    assert [(name, is_part) for name, is_part, _ in private.dataset_steps(part)] == [
        ("_TakeDataset", True),
        ("_ShuffleDataset", False),
        ("_RangeDataset", False),
    ]
    assert [is_part for _, is_part, _ in private.dataset_steps(data.take(9))] == [False, False]
    assert private.constant_below(part.cache())
    assert list(private.dataset_steps(part.cache().batch(2)))[1:] == []


def test_what_a_data_set_repeats_forever() -> None:
    data = tf.data.Dataset.range(9).batch(2)
    assert len(list(private.repeated_forever(data.repeat().prefetch(1)))) == len(list(data))
    assert private.repeated_forever(data.repeat(2)) is None
    assert private.repeated_forever(data.repeat().map(lambda x: x + 1)) is None
    assert private.repeated_forever(data.repeat().repeat()) is None


def test_which_operations_have_a_state() -> None:
    stateful = [private.is_stateful(name) for name in ("RandomUniform", "Timestamp", "AddV2", "NoSuchOp")]
    assert stateful == [True, True, False, False]


class _Stop(Exception):
    """Raised in the place of a download."""


SMALLEST = {
    "ConvNeXtTiny": "convnext",
    "DenseNet121": "densenet",
    "EfficientNetB0": "efficientnet",
    "EfficientNetV2B0": "efficientnet_v2",
    "EfficientNetV2S": "efficientnet_v2",
    "InceptionV3": "inception_v3",
    "InceptionResNetV2": "inception_resnet_v2",
    "MobileNetV3Small": "mobilenet_v3",
    "NASNetMobile": "nasnet",
    "ResNet50": "resnet",
    "ResNet50V2": "resnet",
    "VGG16": "vgg16",
    "VGG19": "vgg19",
    "Xception": "xception",
}


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square:UserWarning")
@pytest.mark.parametrize("constructor", SMALLEST)
def test_hashes_of_weights_are_those_that_keras_downloads_by(
    constructor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"keras.src.applications.{SMALLEST[constructor]}")

    def instead(name: str, *_: object, file_hash: str, **__: object) -> None:
        asked.append((name, file_hash))
        raise _Stop

    monkeypatch.setattr(module.file_utils, "get_file", instead)
    asked: list[tuple[str, str]] = []
    with pytest.raises(_Stop):
        getattr(keras.applications, constructor)(weights="imagenet", include_top=False, pooling=None)
    ((name, file_hash),) = asked
    assert private.published_weights()[name.lower()] == file_hash


def test_hashes_of_weights_are_known_of_all_networks_that_have_them() -> None:
    published = private.published_weights()
    assert len(published) >= 70
    assert all(re.fullmatch("[0-9a-f]{32}|[0-9a-f]{64}", each) for each in published.values())
    assert all(name == name.lower() and name.endswith(".h5") for name in published)


def test_what_keeps_the_order_of_a_data_set() -> None:
    data = tf.data.Dataset.range(6)

    def same(value: object) -> object:
        return value

    keep = [
        data.map(same),
        data.map(same, num_parallel_calls=2),
        data.batch(2),
        data.batch(2, num_parallel_calls=2),
        data.batch(2).unbatch(),
        data.batch(2).rebatch(3),
        data.padded_batch(2),
        data.prefetch(1),
        data.cache(),
        data.with_options(tf.data.Options()),
        data.apply(tf.data.experimental.assert_cardinality(6)),
    ]
    assert all(map(private.keeps_order, keep))
    unordered = tf.data.Options()
    unordered.deterministic = False
    change = [
        data.shuffle(6),
        data.filter(lambda number: number > 1),
        data.take(3),
        data.skip(1),
        data.repeat(2),
        data.shard(2, 0),
        data.concatenate(data),
        data.map(same, num_parallel_calls=2, deterministic=False),
        data.map(same, num_parallel_calls=2).with_options(unordered),
    ]
    assert not any(map(private.keeps_order, change))


def test_shuffled_data_is_known() -> None:
    data = tf.data.Dataset.range(6)
    assert private.is_shuffled(data.shuffle(6).batch(2).prefetch(1))
    assert private.is_shuffled(data.interleave(lambda x: tf.data.Dataset.from_tensors(x), 2))
    assert not private.is_shuffled(data.batch(2).map(lambda x: x).prefetch(1))


def test_tracings_are_counted_by_function() -> None:
    def compiled(function: object) -> list[object]:
        cells = [cell.cell_contents for cell in function.__closure__]  # type: ignore[attr-defined]
        return [each for each in cells if hasattr(each, "python_function")]

    found = []
    for _ in range(2):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=False)
        model.make_train_function()
        private.count_tracing_by_function(model.train_function)
        found.append(compiled(model.train_function))  # one or two, by the version of Keras
    # What TensorFlow counts by, which would be the code of one line of Keras.
    keys = [[each._key_for_call_stats for each in functions] for functions in found]  # type: ignore[attr-defined]
    assert keys[0]
    assert not any(a is b for a, b in zip(*keys, strict=True))
    assert keys[0] == [each.python_function for each in found[0]]  # type: ignore[attr-defined]


def test_predictions_count_tracing_by_themselves_too() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    zeros = np.zeros((3, 2), "float32")
    np.testing.assert_array_equal(private.predict_on_batch(model, zeros), model.predict_on_batch(zeros))
    assert model.predict_function._key_for_call_stats is model.predict_function.python_function


def test_losses_and_metrics_are_functions_of_labels_and_outputs() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    found = private.loss_and_metrics(model)
    labels, outputs = np.ones((3, 1)), np.zeros((3, 1))
    assert float(found["loss"](labels, outputs, None)) == 1.0
    found["metrics"](labels, outputs, None)
    assert float(model.get_metrics_result()["mae"]) == 1.0
    without = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    without.compile("sgd")
    assert private.loss_and_metrics(without) == {}
