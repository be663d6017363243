"""What is not wholly described by names, numbers and arrays of Keras' own classes is found and named."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import topwork as tw
from topwork._features.fingerprint import fingerprint
from topwork._features.split import NotSplittable, split
from topwork._features.unknown_code import unknown_code
from versions import KERAS

SHAPE = (4, 4, 3)


def model_of(function: Callable[[Any], Any]) -> keras.Model:
    image = keras.Input(SHAPE)
    return keras.Model(image, function(image))


def doubled(x: Any) -> Any:
    return x * 2


@functools.wraps(keras.activations.relu)
def disguised(x: Any) -> Any:
    return x * 2


class Operation(keras.Operation):
    def call(self, x: Any) -> Any:
        return x * 2

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


class Layer(layers.Layer):
    def call(self, x: Any) -> Any:
        return x * 2


class Derived(layers.Dense):
    pass


class Impostor(layers.Layer):
    """A layer that says it is Keras' own."""

    __module__, __qualname__ = layers.Dense.__module__, "Dense"

    def call(self, x: Any) -> Any:
        return x * 2


class Ones(keras.initializers.Initializer):
    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return tf.ones(shape, dtype)


class Policy(keras.DTypePolicy):
    pass


class Callable_:  # noqa: N801
    def __call__(self, x: Any) -> Any:
        return x * 2


def typed(source: str, file: str = "<string>") -> Any:
    """The function that `source` makes, as of a module in `file`."""
    module = types.ModuleType("typed_in_a_test")
    module.__file__ = file
    sys.modules[module.__name__] = module
    exec(compile(source, file, "exec"), vars(module))
    return module.f


# A package whose folder lies beside that of Keras, and begins with the same letters.
NEIGHBOUR = str(Path(keras.__file__).parent) + "_of_somebody/__init__.py"


def with_a_call_of_its_own(x: Any) -> Any:
    layer = layers.Dense(3, name="changed")
    layer.call = doubled
    return layer(x)


def inside(layer: layers.Layer, shape: tuple[int, ...] = SHAPE) -> keras.Model:
    return keras.Sequential([keras.Input(shape), layer])


def dense(**options: Any) -> layers.Layer:
    return layers.Dense(3, name="dense", **options)


UNKNOWN: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an operation": (Operation(name="twice"), "operation 'twice' (Operation)"),
    "a layer": (Layer(name="twice"), "layer 'twice' (Layer)"),
    "a layer that is nearly Keras' own": (Derived(3, name="d"), "layer 'd' (Derived)"),
    "an impostor": (Impostor(name="d"), "layer 'd' (Impostor)"),
    "Lambda": (layers.Lambda(doubled, name="lambda"), "layer 'lambda' (Lambda)"),
    "Lambda of Keras": (layers.Lambda(ops.relu, name="lambda"), "layer 'lambda' (Lambda)"),
    "an activation": (dense(activation=doubled), "'activation' of layer 'dense' (Dense)"),
    "a disguise": (dense(activation=disguised), "'activation' of layer 'dense' (Dense)"),
    "a disguise in TensorFlow's wrapping": (
        dense(activation=tf.custom_gradient(disguised)),
        "'activation' of layer 'dense' (Dense)",
    ),
    "an activation with other numbers": (
        dense(activation=functools.partial(keras.activations.relu, max_value=3)),
        "'activation' of layer 'dense' (Dense)",
    ),
    "a callable object": (dense(activation=Callable_()), "'activation' of layer 'dense' (Dense)"),
    "a traced function": (
        dense(activation=tf.function(doubled)),
        "'activation' of layer 'dense' (Dense)",
    ),
    "a closure": (
        dense(activation=(lambda n: lambda x: x * n)(2)),
        "'activation' of layer 'dense' (Dense)",
    ),
    "code of exec": (
        dense(activation=typed("def f(x): return x * 2")),
        "'activation' of layer 'dense' (Dense)",
    ),
    "a neighbour of Keras": (
        dense(activation=typed("def f(x): return x * 2", NEIGHBOUR)),
        "'activation' of layer 'dense' (Dense)",
    ),
    "a regularizer": (
        dense(kernel_regularizer=lambda weights: ops.sum(weights)),
        "'kernel_regularizer' of layer 'dense' (Dense)",
    ),
    "a constraint": (
        dense(kernel_constraint=lambda weights: weights),
        "'kernel_constraint' of layer 'dense' (Dense)",
    ),
    "switch": (
        lambda x: ops.switch(0, [doubled, doubled], x),
        "an argument of operation 'switch' (Switch)",
    ),
    "an activation layer": (
        layers.Activation(disguised, name="a"),
        "'activation' of layer 'a' (Activation)",
    ),
    "an activation of another package": (
        dense(activation=np.tanh),
        "'activation' of layer 'dense' (Dense)",
    ),
    "a bound method": (dense(activation=Layer(name="l").call), "'activation' of layer 'dense' (Dense)"),
    "an initializer": (dense(kernel_initializer=Ones()), "'kernel_initializer' of layer 'dense' (Dense)"),
    "an initializer function": (
        dense(kernel_initializer=lambda shape, dtype=None: tf.ones(shape, dtype)),
        "'kernel_initializer' of layer 'dense' (Dense)",
    ),
    "a call replaced": (with_a_call_of_its_own, "'call' of layer 'changed' (Dense)"),
    "map": (lambda x: ops.map(doubled, x), "an argument of operation 'map' (Map)"),
    "vectorized_map": (
        lambda x: ops.vectorized_map(lambda image: image, x),
        "'function' of operation 'vectorized_map' (VectorizedMap)",
    ),
    "scan": (
        lambda x: ops.scan(lambda c, y: (c + y, c + y), x[:, 0], x)[1],
        "an argument of operation 'scan' (Scan)",
    ),
    "fori_loop": (
        lambda x: ops.fori_loop(0, 3, lambda i, y: y * 2, x),
        "'body_fun' of operation 'fori_loop' (ForiLoop)",
    ),
    "inside a wrapper": (
        layers.TimeDistributed(dense(activation=disguised), name="each"),
        "'activation' of 'layer' of layer 'each' (TimeDistributed)",
    ),
    "inside a model": (inside(Layer(name="twice")), "layer 'twice' (Layer)"),
    "inside a model in a wrapper": (
        layers.TimeDistributed(inside(Layer(name="twice"), SHAPE[1:])),
        "layer 'twice' (Layer)",
    ),
    "a vocabulary": (
        lambda x: layers.IntegerLookup(vocabulary=[1, 2], name="words")(ops.cast(x, "int64")),
        "'lookup_table' of layer 'words' (IntegerLookup)",
    ),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_unknown_code_is_named(kind: str) -> None:
    function, expected = UNKNOWN[kind]
    if KERAS < (3, 13) and kind in ("a regularizer", "a constraint", "vectorized_map"):
        pytest.skip("an older Keras does not take it")
    found = unknown_code(model_of(function))
    # Operations have numbers behind their names.
    assert re.sub(r"_\d+'", "'", str(found)) == expected


KNOWN: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda x: x / 127.5 - np.ones(3, "float32") + tf.ones(3) * keras.Variable(2.0),
    "slices": lambda x: x[..., 1:2, ::-1],
    "an activation by name": dense(activation="gelu"),
    "Keras' function": dense(activation=keras.activations.relu),
    "TensorFlow's function": dense(activation=tf.nn.relu),
    "another of TensorFlow": dense(activation=tf.nn.swish),
    "map of Keras' function": lambda x: ops.map(keras.activations.relu, x),
    "resizing": lambda x: layers.Resizing(6, 6)(ops.image.resize(x, (3, 3))),
    "normalization": layers.Normalization(mean=[1.0, 2, 3], variance=[1.0, 1, 1]),
    "recurrent": lambda x: layers.Bidirectional(layers.LSTM(2))(layers.Reshape((16, 3))(x)),
    "attention": lambda x: layers.MultiHeadAttention(2, 3)(x, x),
    "a precision": dense(dtype="mixed_bfloat16"),
    "a nested model": inside(layers.Dense(2)),
    "a model in a wrapper": layers.TimeDistributed(inside(layers.Dense(2), SHAPE[1:])),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_what_keras_has_is_known(kind: str) -> None:
    assert unknown_code(model_of(KNOWN[kind])) is None


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "convnext_tiny", "efficientnet_v2_b0"])
def test_the_networks_of_keras_are_known(name: str) -> None:
    assert unknown_code(tw.load_backbone(name, weights=None, input_shape=(64, 64, 3))) is None


def test_a_method_of_keras_that_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(layers.Dense(3, name="d"))
    monkeypatch.setattr(layers.Dense, "call", lambda self, x, training=None: x)
    assert unknown_code(model) == "layer 'd' (Dense)"


def test_tools_may_watch_what_all_models_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.Model, "fit", lambda self, *args: None)
    assert unknown_code(model_of(layers.Dense(3))) is None


# What follows from it


def refused(frozen_part: Callable[[Any], Any], folder: Path) -> str:
    image = keras.Input(SHAPE)
    x = layers.Conv2D(2, 1, trainable=False)(frozen_part(image))
    model = tw.add_head(2, hidden_units=2)(keras.Model(image, x, name="small"))
    images = np.random.default_rng(0).uniform(0, 255, (4, *SHAPE))
    with pytest.raises(ValueError, match="cache_dir cannot be used for") as caught:
        tw.precompute(model, images, cache_dir=folder, verbose=0)
    return str(caught.value)


def test_nothing_of_unknown_code_is_stored(tmp_path: Path) -> None:
    message = refused(lambda x: ops.map(lambda image: image * 2, x), tmp_path)
    assert "code that is not Keras' own, an argument of operation 'map" in message
    assert "Leave cache_dir out: features are then kept for this run only." in message
    assert not list(tmp_path.rglob("*.shard"))
    assert "'twice' (Operation)" in refused(Operation(name="twice"), tmp_path)


def test_code_typed_at_a_prompt_is_unknown_code(tmp_path: Path) -> None:
    typed = """
        import keras, numpy as np, topwork as tw
        image = keras.Input((4, 4, 3))
        x = keras.ops.map(lambda x: x * 2.0, image)
        model = tw.add_head(2)(keras.Model(image, keras.layers.Conv2D(2, 1, trainable=False)(x)))
        tw.precompute(model, np.zeros((2, 4, 4, 3)), cache_dir="features", verbose=0)
    """
    done = subprocess.run(
        [sys.executable, "-"], input=textwrap.dedent(typed), capture_output=True, text=True, cwd=tmp_path
    )
    assert "ValueError: precompute: cache_dir cannot be used for" in done.stderr.splitlines()[-1]


class Noise(keras.Operation):
    """Random, and nothing in its class says so."""

    def call(self, x: Any) -> Any:
        return x + tf.random.normal(tf.shape(x))

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


MOVED, KEPT = tf.Variable(1.0), tf.Variable(1.0, trainable=False)
KERAS_VARIABLE = keras.Variable(1.0)


def rarely_random(x: Any) -> Any:
    return ops.where(tf.random.uniform(tf.shape(x)) < 1e-6, x * 0, x)


def in_python(x: Any, *, stateful: bool = True) -> Any:
    y = tf.numpy_function(lambda array: array * np.float32(2), [x], tf.float32, stateful=stateful)
    return tf.ensure_shape(y, x.shape)


def reason(frozen_part: Callable[[Any], Any]) -> str | None:
    """Why nothing is computed once; None if it is."""
    image = keras.Input(SHAPE)
    x = layers.Conv2D(2, 1, trainable=False)(frozen_part(image))
    model = tw.add_head(2, hidden_units=2)(keras.Model(image, x, name="small"))
    images = np.random.default_rng(0).uniform(0, 255, (8, *SHAPE)).astype("float32")
    try:
        split(model, [images])
    except NotSplittable as why:
        return str(why)
    return None


CHANGING: dict[str, tuple[Callable[[Any], Any], str]] = {
    "random": (Noise(), "(Noise) gives other features for the same images"),
    "rarely random": (layers.Lambda(rarely_random), "something else each time (RandomUniform)"),
    "a clock": (layers.Lambda(lambda x: x + tf.cast(tf.timestamp() * 0, x.dtype)), "(Timestamp)"),
    "Python": (
        layers.Lambda(in_python),
        "(PyFunc). Of Python code, tf.numpy_function(..., stateful=False)",
    ),
    "a variable in code": (
        layers.Lambda(lambda x: x * MOVED),
        "(Lambda) reads a variable that is not frozen ('Variable:0')",
    ),
    "a variable of Keras in code": (
        layers.Lambda(lambda x: x * KERAS_VARIABLE),
        "(Lambda) reads a variable that is not frozen (",
    ),
    "a variable in an activation": (
        dense(activation=lambda x: x * MOVED, trainable=False),
        "(Dense) reads a variable",
    ),
    "a variable": (lambda x: x * MOVED, "(Multiply) reads a variable that is not frozen, and may change"),
    "a variable of Keras": (lambda x: x + KERAS_VARIABLE, "(Add) reads a variable that is not frozen"),
    "a variable inside a model": (
        inside(layers.Lambda(lambda x: x * MOVED)),
        "reads a variable that is not frozen",
    ),
}


@pytest.mark.parametrize("kind", CHANGING)
def test_what_may_change_is_not_computed_once(kind: str) -> None:
    frozen_part, expected = CHANGING[kind]
    assert expected in str(reason(frozen_part))


CONSTANT: dict[str, Callable[[Any], Any]] = {
    "code": layers.Lambda(doubled),
    "a frozen variable": lambda x: x * KEPT,
    "a frozen variable in code": layers.Lambda(lambda x: x * KEPT),
    "Python without a state": layers.Lambda(functools.partial(in_python, stateful=False)),
    "a seed": layers.Lambda(lambda x: x + keras.random.normal(SHAPE, seed=3)),
    "a branch": layers.Lambda(lambda x: tf.cond(tf.reduce_all(x[:1] < 0), lambda: x, lambda: x)),
}


@pytest.mark.parametrize("kind", CONSTANT)
def test_what_does_not_change_is_computed_once(kind: str) -> None:
    assert reason(CONSTANT[kind]) is None


def test_a_random_operation_is_not_computed_once() -> None:
    image = keras.Input(SHAPE)
    x = layers.Conv2D(2, 1, trainable=False)(Noise()(image))
    model = tw.add_head(2, hidden_units=2)(keras.Model(image, x, name="small"))
    images = np.random.default_rng(0).uniform(0, 255, (8, *SHAPE)).astype("float32")
    with pytest.warns(
        UserWarning, match=r"nothing of .* is computed once, because .*\(Noise\) gives other"
    ):
        tw.fit(model, images, np.arange(8) % 2, verbose=0)


def with_another(name: str, value: Any) -> Callable[[Any], Any]:
    """A layer with an attribute that was set after it was called."""

    def apply(x: Any) -> Any:
        layer = layers.Dense(3, bias_initializer="ones")
        y = layer(x)
        setattr(layer, name, value)
        return y

    return apply


def test_an_address_tells_functions_of_libraries_apart() -> None:
    def with_weights(function: Callable[[Any], Any]) -> str:
        keras.utils.set_random_seed(1)
        return fingerprint(model_of(function))

    found = {
        name: with_weights(function)
        for name, function in {
            "keras": dense(activation="relu"),
            "tensorflow": dense(activation=tf.nn.relu),
            "map": lambda x: ops.map(keras.activations.relu, x),
            "map of another": lambda x: ops.map(keras.activations.tanh, x),
            "slice": lambda x: x[..., 0:2],
            "another slice": lambda x: x[..., 1:3],
            "a bias": layers.Dense(3, bias_initializer="ones"),
            "a bias taken off": with_another("bias", None),
            "an activation set later": with_another("activation", keras.activations.relu),
            "a mean": layers.Normalization(mean=[1.0, 2, 3], variance=[1.0, 1, 1]),
            "another mean": layers.Normalization(mean=[1.0, 2, 4], variance=[1.0, 1, 1]),
            "a scale": layers.Rescaling(np.array([1.0, 2, 3])),
            "another scale": layers.Rescaling(np.array([1.0, 2, 4])),
            "a constant": lambda x: x * np.float32([1, 2, 3]),
            "another constant": lambda x: x * np.float32([1, 2, 4]),
            "minus": lambda x: ops.subtract(x[..., :1], x[..., 1:2]),
            "minus the other way": lambda x: ops.subtract(x[..., 1:2], x[..., :1]),
            "a padding": lambda x: ops.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)), constant_values=0),
            "another padding": lambda x: ops.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)), constant_values=1),
        }.items()
    }
    assert len(set(found.values())) == len(found)


def test_an_address_is_the_same_in_another_process() -> None:
    code = """
        import keras, os
        from topwork._features.fingerprint import fingerprint
        keras.utils.set_random_seed(1)
        junk = [object() for _ in range(int.from_bytes(os.urandom(2), "big"))]
        image = keras.Input((4, 4, 3))
        x = keras.ops.map(keras.activations.relu, image[..., ::-1] * 2.0)
        x = keras.layers.Dense(3, activation="gelu", dtype="mixed_bfloat16")(x)
        print(fingerprint(keras.Model(image, keras.layers.Bidirectional(keras.layers.LSTM(2))(
            keras.layers.Reshape((16, 3))(x)))))
    """
    found = {
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(found) == 1


@pytest.mark.parametrize("library", [keras, tf])
def test_an_upgrade_makes_other_addresses(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(dense())
    before = fingerprint(model)
    monkeypatch.setattr(library, "__version__", "99.0.0")
    assert fingerprint(model) != before
