"""Every argument of `model.fit` and every callback of Keras, through it and through `tw.fit`."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import callbacks, layers

import topwork as tw
from topwork._training import fit as fit_module

# Trained and validated on one small set of images; test_shared_images.py looks at what is said of that.
pytestmark = [pytest.mark.thorough, pytest.mark.filterwarnings("ignore:.*training data (too|itself)")]

N_IMAGES = 20
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 1, (N_IMAGES, 6, 6, 3)).astype("float32")
CLASSES = np.arange(N_IMAGES) % 3
HELD_OUT = (RNG.uniform(0, 1, (9, 6, 6, 3)).astype("float32"), np.arange(9) % 3)


def objects() -> list[Any]:
    return [
        keras.metrics.SparseCategoricalAccuracy(name="acc"),
        keras.metrics.SparseTopKCategoricalAccuracy(2, name="top"),
        keras.metrics.MeanMetricWrapper(keras.losses.sparse_categorical_crossentropy, name="ce"),
    ]


def network(part: str = "frozen", metrics: Any = ("accuracy",), **arguments: Any) -> keras.Model:
    """Convolutions under a head; all of them frozen, or all but the last."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, activation="relu", trainable=False)(inputs)
    x = layers.BatchNormalization(trainable=False)(x)
    x = layers.Conv2D(5, 3, activation="relu", trainable=part != "frozen")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="head")(x))
    model.compile(
        keras.optimizers.Adam(0.01),
        "sparse_categorical_crossentropy",
        metrics=metrics() if callable(metrics) else list(metrics),
        **{"jit_compile": False, **arguments},
    )
    return model


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("nothing was computed once")


class Both:
    """Two equal models, one trained by Keras and one by topwork."""

    def __init__(self, build: Callable[[], keras.Model]) -> None:
        self.models = []
        for _ in range(2):
            keras.utils.set_random_seed(7)
            self.models.append(build())

    def fit(self, x: Any, y: Any = None, make: Callable[[Path], Any] | None = None, tmp: Any = None,
            expect_split: bool = True, **arguments: Any) -> None:  # fmt: skip
        for i, model in enumerate(self.models):
            own = {} if make is None else {"callbacks": make(tmp / f"{i}" if tmp else Path())}
            options = {"epochs": 3, "verbose": 0, "shuffle": False, **arguments, **own}
            keras.utils.set_random_seed(1)
            if i == 0:
                model.fit(x, y, **options)
                continue
            with pytest.MonkeyPatch.context() as patch:
                if expect_split:
                    patch.setattr(fit_module, "fit_plainly", refuse)
                history = tw.fit(model, x, y, **options)
            assert history is model.history

    def check(self) -> None:
        by_keras, by_us = self.models
        assert by_us.history.epoch == by_keras.history.epoch
        assert by_us.history.params == by_keras.history.params
        assert list(by_us.history.history) == list(by_keras.history.history)
        for name, values in by_keras.history.history.items():
            close(by_us.history.history[name], values, name)
        for a, b in zip(by_keras.weights, by_us.weights, strict=True):
            close(b, a, a.path)
        for a, b in zip(by_keras.optimizer.variables, by_us.optimizer.variables, strict=True):
            close(b, a, a.path)
        assert not {"train_step", "test_step"} & set(vars(by_us))

    def check_evaluations(self, *data: Any) -> None:
        for _ in range(2):
            ours, theirs = (m.evaluate(*data, verbose=0, return_dict=True) for m in reversed(self.models))
            assert list(ours) == list(theirs)
            for name, value in theirs.items():
                close(ours[name], value, name)


def close(a: Any, b: Any, name: str) -> None:
    np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-4, atol=2e-6, err_msg=name)


@pytest.fixture(params=["frozen", "partly"])
def part(request: pytest.FixtureRequest) -> str:
    return request.param


# Arguments

ARGUMENTS: dict[str, dict[str, Any]] = {
    "batch_size": {"batch_size": 7},
    "epochs": {"epochs": 4, "initial_epoch": 2},
    "validation_data": {"validation_data": HELD_OUT},
    "validation weights": {"validation_data": (*HELD_OUT, np.linspace(0, 2, 9))},
    "validation_split": {"validation_split": 0.3},
    "validation_split with weights": {"validation_split": 0.3, "sample_weight": np.linspace(0, 2, 20)},
    "validation_data before validation_split": {"validation_split": 0.3, "validation_data": HELD_OUT},
    "validation_batch_size": {"validation_data": HELD_OUT, "validation_batch_size": 2},
    "validation_freq": {"validation_data": HELD_OUT, "validation_freq": 2},
    "validation_freq as a list": {"validation_data": HELD_OUT, "validation_freq": [1, 3]},
    "validation_steps": {"validation_data": HELD_OUT, "validation_steps": 2},
    "validation_steps of batches": {
        "validation_data": HELD_OUT, "validation_steps": 2, "validation_batch_size": 2
    },
    "steps_per_epoch": {"steps_per_epoch": 4},
    "steps_per_epoch of batches": {"steps_per_epoch": 2, "batch_size": 4},
    "sample_weight": {"sample_weight": np.linspace(0, 2, N_IMAGES)},
    "class_weight": {"class_weight": {0: 1.0, 1: 5.0, 2: 0.5}},
    "verbose": {"verbose": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name: str, part: str) -> None:
    both = Both(lambda: network(part, weighted_metrics=["accuracy"]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Your input ran out of data")  # Keras, in both
        both.fit(IMAGES, CLASSES, **ARGUMENTS[name])
    both.check()
    both.check_evaluations(*HELD_OUT)


DATA_ARGUMENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "steps_per_epoch": {"steps_per_epoch": 2},
    "validation_steps": {"validation_steps": 1, "validation_data": "data"},
    "class_weight": {"class_weight": {0: 1.0, 1: 5.0, 2: 0.5}},
}


@pytest.mark.parametrize("name", DATA_ARGUMENTS)
def test_arguments_with_a_data_set(name: str) -> None:
    def data(parts: Any) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(parts).batch(6)

    arguments = dict(DATA_ARGUMENTS[name])
    if arguments.get("validation_data"):
        arguments["validation_data"] = data(HELD_OUT)
    both = Both(network)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        both.fit(data((IMAGES, CLASSES)), **arguments)
    both.check()


@pytest.mark.parametrize("metrics", [("accuracy",), objects])
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_metrics_are_the_models_own(metrics: Any, jit: bool, part: str) -> None:
    both = Both(lambda: network(part, metrics, jit_compile=jit))
    both.fit(IMAGES, CLASSES, validation_data=HELD_OUT)
    both.check()
    both.check_evaluations(*HELD_OUT)
    both.fit(IMAGES, CLASSES, epochs=5, initial_epoch=3)
    both.check()
    both.check_evaluations(IMAGES, CLASSES)


@pytest.mark.parametrize("arguments", [{"run_eagerly": True}, {"steps_per_execution": 2}])
def test_ways_to_run(arguments: dict[str, Any]) -> None:
    both = Both(lambda: network(**arguments))
    both.fit(IMAGES, CLASSES, validation_data=HELD_OUT, batch_size=6)
    both.check()
    both.check_evaluations(*HELD_OUT)


# Labels in containers


def two_outputs(loss: Any) -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    x = layers.Flatten()(layers.Conv2D(4, 3, trainable=False)(inputs))
    kind = layers.Dense(3, activation="softmax", name="kind")(x)
    age = layers.Dense(1, name="age")(x)
    model = keras.Model(inputs, [kind, age])
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=[["accuracy"], ["mae"]], jit_compile=False)
    return model


AGES = np.linspace(-1, 1, N_IMAGES).astype("float32")


@pytest.mark.parametrize("container", [list, tuple])
def test_labels_of_two_outputs(container: Any) -> None:
    both = Both(lambda: two_outputs(["sparse_categorical_crossentropy", "mse"]))
    held_out = (HELD_OUT[0], container([HELD_OUT[1], AGES[:9]]))
    weights = container([np.linspace(0, 2, N_IMAGES), np.linspace(2, 0, N_IMAGES)])
    both.fit(IMAGES, container([CLASSES, AGES]), validation_data=held_out, sample_weight=weights)
    both.check()


def test_one_weight_for_two_outputs() -> None:
    both = Both(lambda: two_outputs(["sparse_categorical_crossentropy", "mse"]))
    both.fit(IMAGES, [CLASSES, AGES], sample_weight=np.linspace(0, 2, N_IMAGES))
    both.check()


def test_labels_of_one_output_in_a_list() -> None:
    both = Both(network)
    both.fit(IMAGES, [CLASSES], validation_data=(HELD_OUT[0], [HELD_OUT[1]]))
    both.check()


# Callbacks


class Evaluates(callbacks.Callback):
    """Evaluates and predicts images with the whole model in the middle of training."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(self.model.evaluate(*HELD_OUT, verbose=0))
        self.seen.append(self.model.predict(HELD_OUT[0], verbose=0).sum())


class Records(callbacks.Callback):
    """What callbacks are told, as RemoteMonitor would send it."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: list[Any] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.logs.append(("batch", batch, sorted(logs)))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.logs.append(("epoch", epoch, list(logs), [type(value).__name__ for value in logs.values()]))

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.logs.append(("test", batch, sorted(logs)))


CALLBACKS: dict[str, Callable[[Path], list[Any]]] = {
    "EarlyStopping": lambda _: [callbacks.EarlyStopping("val_accuracy", patience=0)],
    "EarlyStopping, best weights": lambda _: [
        callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True, min_delta=1e9)
    ],
    "ModelCheckpoint": lambda path: [
        callbacks.ModelCheckpoint(path / "best.keras", "val_accuracy", save_best_only=True),
        callbacks.ModelCheckpoint(path / "{epoch}.weights.h5", save_weights_only=True),
    ],
    "ModelCheckpoint by batch": lambda path: [
        callbacks.ModelCheckpoint(path / "{batch}.keras", save_freq=2),
    ],
    "BackupAndRestore": lambda path: [callbacks.BackupAndRestore(path, save_freq=1)],
    "ReduceLROnPlateau": lambda _: [callbacks.ReduceLROnPlateau("val_accuracy", 0.1, patience=0)],
    "LearningRateScheduler": lambda _: [callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))],
    "CSVLogger": lambda path: [callbacks.CSVLogger(path.with_suffix(".csv"))],
    "SwapEMAWeights": lambda _: [callbacks.SwapEMAWeights(swap_on_epoch=True)],
    "TerminateOnNaN": lambda _: [callbacks.TerminateOnNaN()],
    "TensorBoard": lambda path: [callbacks.TensorBoard(path, write_graph=True, update_freq="batch")],
    "LambdaCallback": lambda _: [callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)],
    "ProgbarLogger": lambda _: [callbacks.ProgbarLogger()],
    "evaluates images": lambda _: [Evaluates()],
    "what is told": lambda _: [Records()],
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_callbacks(name: str, part: str, tmp_path: Path) -> None:
    if name == "TensorBoard":
        pytest.importorskip("tensorboard")
    made: list[Any] = []

    def make(folder: Path) -> list[Any]:
        folder.mkdir()
        made.append(CALLBACKS[name](folder))
        return made[-1]

    def build() -> keras.Model:
        model = network(part)
        if name == "SwapEMAWeights":
            optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
            model.compile(optimizer, model.loss, metrics=["accuracy"], jit_compile=False)
        return model

    both = Both(build)
    both.fit(IMAGES, CLASSES, make, tmp_path, validation_data=HELD_OUT, batch_size=6, epochs=4)
    both.check()
    both.check_evaluations(*HELD_OUT)
    for ours, theirs in zip(made[1], made[0], strict=True):
        assert ours.model is both.models[1]
        if isinstance(ours, Evaluates):
            close([*map(np.sum, ours.seen)], [*map(np.sum, theirs.seen)], "evaluated")
        if isinstance(ours, Records):
            assert ours.logs == theirs.logs
    names = [sorted(p.name for p in (tmp_path / i).glob("*") if p.is_file()) for i in "01"]
    assert names[0] == names[1]
    for file in (tmp_path / "1").glob("*.keras"):
        loaded = keras.saving.load_model(file)
        assert loaded.predict(IMAGES[:2], verbose=0).shape == (2, 3)


class Copies(callbacks.Callback):
    """Copies the model in every way while it is being trained."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        expected = self.model.predict(IMAGES[:2], verbose=0)
        for copied in (copy.deepcopy(self.model), pickle.loads(pickle.dumps(self.model))):
            assert not {"train_step", "test_step"} & set(vars(copied))
            close(copied.predict(IMAGES[:2], verbose=0), expected, "copy")
        keras.models.clone_model(self.model)


def test_the_model_is_copied_while_it_is_trained() -> None:
    model = network()
    tw.fit(model, IMAGES, CLASSES, callbacks=[Copies()], verbose=0)


# The model as it was


class Interrupts(callbacks.Callback):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_the_steps_are_put_back_whatever_happens(error: type[BaseException]) -> None:
    model = network()
    model.evaluate(*HELD_OUT, verbose=0)
    model.train_on_batch(IMAGES, CLASSES)
    functions = model.train_function, model.test_function
    with pytest.raises(error):
        tw.fit(model, IMAGES, CLASSES, callbacks=[Interrupts(error)], verbose=0)
    assert not {"train_step", "test_step"} & set(vars(model))
    assert (model.train_function, model.test_function) == functions
    model.fit(IMAGES, CLASSES, verbose=0)


def test_what_keras_compiled_is_kept_unless_the_model_was_compiled_again() -> None:
    model = network()
    model.evaluate(*HELD_OUT, verbose=0)
    before = model.test_function

    class Compiles(callbacks.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            self.model.compile("sgd", self.model.loss)

    tw.fit(model, IMAGES, CLASSES, verbose=0)
    assert model.test_function is before
    tw.fit(model, IMAGES, CLASSES, callbacks=[Compiles()], verbose=0)
    assert model.test_function is None


def test_layers_do_not_remember_the_tails_that_they_were_part_of() -> None:
    model = network("partly")
    head = model.get_layer("head")
    before = len(head._inbound_nodes)
    for _ in range(3):
        tw.fit(model, IMAGES, CLASSES, verbose=0)
    assert len(head._inbound_nodes) == before
    assert head.output is model.output


def test_trainable_changed_after_compile_is_refused_before_anything_is_computed() -> None:
    for value in (True, False):
        model = network("frozen" if value else "partly")
        layer = model.layers[3]
        layer.trainable = value
        message = (
            rf"`trainable` of 1 layers was changed after .* compiled, of '{layer.name}' first.*fine_tune"
        )
        with pytest.raises(ValueError, match=message):
            tw.fit(model, IMAGES, CLASSES, verbose=0)
        model.compile("sgd", model.loss)
        tw.fit(model, IMAGES, CLASSES, verbose=0)


# What makes no sense


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation_split": 1.0}, r"validation_split is the part .* to under 1. Received: 1.0"),
        ({"validation_split": True}, r"validation_split is the part .*. Received: True"),
        ({"validation_steps": 2}, r"validation_steps=2 says how to validate, and there is nothing"),
        ({"validation_batch_size": 2}, r"validation_batch_size=2 says how to validate"),
        ({"validation_freq": 2}, r"validation_freq=2 says how to validate"),
        ({"validation_freq": 0}, r"validation_freq must be .* Received: 0"),
        ({"validation_freq": "2"}, r"validation_freq must be .* Received: '2'"),
        ({"steps_per_epoch": 0}, r"steps_per_epoch must be a whole number of at least 1, or None"),
        ({"steps_per_epoch": 1.5}, r"steps_per_epoch must be .* Received: 1.5"),
        ({"validation_steps": -1}, r"validation_steps must be .* Received: -1"),
        ({"validation_batch_size": "4"}, r"validation_batch_size must be .* Received: '4'"),
        ({"shuffle": "epoch"}, r"shuffle must be True, False or 'batch'. Received: 'epoch'"),
    ],
)
def test_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tw.fit(network(), IMAGES, CLASSES, verbose=0, **arguments)


def test_a_part_of_too_few_images_or_of_a_data_set() -> None:
    with pytest.raises(ValueError, match=r"validation_split=0.5 of 1 images leaves 0 to train on and 1"):
        tw.fit(network(), IMAGES[:1], CLASSES[:1], validation_split=0.5, verbose=0)
    data = tf.data.Dataset.from_tensor_slices((IMAGES, CLASSES)).batch(4)
    with pytest.raises(ValueError, match=r"validation_split takes arrays apart, and x is .*take\(n\)"):
        tw.fit(network(), data, validation_split=0.5, verbose=0)


def test_shuffling_within_batches() -> None:
    order: list[Any] = []

    class Order(layers.Layer):
        def call(self, x: Any) -> Any:
            tf.py_function(lambda v: order.append(v.numpy().ravel().tolist()), [x], [])
            return x

    inputs = keras.Input((1,))
    frozen = layers.Dense(1, use_bias=False, kernel_initializer="ones", trainable=False)(inputs)
    model = keras.Model(inputs, layers.Dense(1, trainable=True)(Order()(layers.Dense(1, trainable=True,
        kernel_initializer="ones")(frozen))))  # fmt: skip
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    numbers = np.arange(12.0)[:, None]
    tw.fit(model, numbers, numbers, batch_size=4, epochs=2, shuffle="batch", verbose=0)
    assert [sorted(batch) for batch in order] == 2 * [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert any(batch != sorted(batch) for batch in order)
