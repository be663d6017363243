"""What `tw.fit` does beside the numbers: callbacks, epochs, augmentation, fallbacks, caches."""

from __future__ import annotations

import contextlib
import csv
import errno
import functools
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import topwork as tw
from topwork._features import memory, temporary
from topwork._features.frozen_part import FrozenPart
from topwork._features.rows import RowBuffer
from topwork._features.split import split

# Trained and validated on one small set of images; test_shared_images.py looks at what is said of that.
pytestmark = pytest.mark.filterwarnings("ignore:.*training data (too|itself)")

N_IMAGES, SIZE = 20, 6
IMAGES = np.random.default_rng(0).uniform(0, 255, (N_IMAGES, SIZE, SIZE, 3)).astype("float32")
CLASSES = np.arange(N_IMAGES) % 3
HELD_OUT = (IMAGES[:7] / 2, CLASSES[:7])


def frozen(layer: keras.Layer) -> keras.Layer:
    layer.trainable = False
    return layer


def make_model(*, before: keras.Layer | None = None, dtype: str | None = None, **arguments: Any) -> Any:
    """A frozen convolution and a trainable head, `before` them whatever a test is about."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = inputs if before is None else before(inputs)
    x = frozen(layers.Conv2D(4, 3, name="frozen", dtype=dtype))(x)
    x = layers.GlobalAveragePooling2D(dtype=dtype)(x)
    x = layers.Dense(3, activation="softmax", name="head", dtype="float32")(x)
    model = keras.Model(inputs, x, name="small")
    defaults = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "jit_compile": False}
    model.compile(**{**defaults, **arguments})
    return model


@pytest.fixture(scope="module")
def shared_model() -> keras.Model:
    """For tests that never get to training."""
    return make_model()


def only_split(model: keras.Model) -> keras.Model:
    """The model, which can be split: warnings are errors here, and plain training would warn."""
    assert split(model, [IMAGES]).prefix.weights
    return model


class Seen:
    """A loss that writes down which images a step got: the labels are numbers of images."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[int], list[float]]] = []

    def __call__(self, numbers: Any, means: Any) -> Any:
        self.batches.append((np.asarray(numbers).ravel().tolist(), np.asarray(means).ravel().tolist()))
        return keras.ops.mean(means, axis=-1) * 0.0

    def epochs(self, n_steps: int) -> list[list[int]]:
        """The numbers of the images in each epoch."""
        steps = [numbers for numbers, _ in self.batches]
        starts = range(0, len(steps), n_steps)
        return [[n for step in steps[i : i + n_steps] for n in step] for i in starts]

    def means(self, number: int) -> list[float]:
        """What the model said of an image, each time that it came."""
        return [
            value
            for numbers, means in self.batches
            for n, value in zip(numbers, means, strict=True)
            if n == number
        ]


def averaging_model(seen: Seen) -> keras.Model:
    """A model that says the mean of an image's pixels, and learns nothing."""
    inputs = keras.Input((2, 2, 1))
    ones = {"kernel_initializer": "ones", "use_bias": False}
    x = layers.GlobalAveragePooling2D()(frozen(layers.Conv2D(1, 1, **ones))(inputs))
    model = keras.Model(inputs, layers.Dense(1, **ones)(x))
    model.compile(keras.optimizers.SGD(0.0), loss=seen, run_eagerly=True)
    return model


NUMBERS = np.arange(N_IMAGES)
GREY = np.broadcast_to(NUMBERS[:, None, None, None], (N_IMAGES, 2, 2, 1)).astype("float32")


# Epochs


@pytest.mark.parametrize("as_dataset", [False, True])
def test_each_epoch_has_every_image_once_in_an_order_of_its_own(as_dataset: bool) -> None:
    seen = Seen()
    data = (GREY, NUMBERS)
    if as_dataset:
        data = (tf.data.Dataset.from_tensor_slices(data).batch(6), None)
    tw.fit(averaging_model(seen), *data, epochs=4, batch_size=None if as_dataset else 6, verbose=0)
    assert [len(numbers) for numbers, _ in seen.batches] == [6, 6, 6, 2] * 4
    epochs = seen.epochs(4)
    assert all(sorted(epoch) == NUMBERS.tolist() for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, NUMBERS.tolist()]}) == 5
    # Reshuffled completely: other images share a batch too.
    assert len({frozenset(numbers) for numbers, _ in seen.batches}) > 12
    assert all(means == numbers for numbers, means in seen.batches)


def test_without_shuffling_the_images_come_in_their_order() -> None:
    seen = Seen()
    tw.fit(averaging_model(seen), GREY, NUMBERS, epochs=2, shuffle=False, batch_size=6, verbose=0)
    assert seen.epochs(4) == [NUMBERS.tolist()] * 2


def test_the_seed_decides_the_order() -> None:
    orders = []
    for _ in range(2):
        seen = Seen()
        keras.utils.set_random_seed(7)
        tw.fit(averaging_model(seen), GREY, NUMBERS, epochs=2, batch_size=6, verbose=0)
        orders.append(seen.epochs(4))
    assert orders[0] == orders[1]


def test_a_batch_size_batches_a_dataset_anew() -> None:
    seen = Seen()
    dataset = tf.data.Dataset.from_tensor_slices((GREY, NUMBERS)).batch(3)
    tw.fit(averaging_model(seen), dataset, shuffle=False, batch_size=15, verbose=0)
    assert [len(numbers) for numbers, _ in seen.batches] == [15, 5]


@pytest.mark.parametrize(("as_dataset", "lengths"), [(False, [6, 6, 6, 2]), (True, [15, 5])])
@pytest.mark.parametrize("cache", ["auto", False])
def test_a_batch_size_holds_for_validation_arrays_and_not_for_a_dataset(
    as_dataset: bool, lengths: list[int], cache: str | bool
) -> None:
    seen = Seen()
    held_out: Any = (GREY, NUMBERS)
    if as_dataset:
        held_out = tf.data.Dataset.from_tensor_slices(held_out).batch(15)
    model = averaging_model(seen)
    tw.fit(model, GREY, NUMBERS, validation_data=held_out, batch_size=6, cache=cache, verbose=0)
    assert [len(numbers) for numbers, _ in seen.batches] == [6, 6, 6, 2, *lengths]


# Augmentation


class Brighter:
    """Adds 100 more at every call, so that each draw is known by its brightness."""

    def __init__(self) -> None:
        self.n_calls = 0

    def __call__(self, images: Any) -> Any:
        self.n_calls += 1
        return images + 100.0 * self.n_calls


def test_each_epoch_draws_one_view_of_each_image() -> None:
    seen, augment = Seen(), Brighter()
    tw.fit(averaging_model(seen), GREY, NUMBERS, augment=augment, views=2, epochs=12, verbose=0)
    assert augment.n_calls == 2
    assert all(sorted(epoch) == NUMBERS.tolist() for epoch in seen.epochs(1))
    for number in NUMBERS:
        assert set(seen.means(number)) == {number + 100.0, number + 200.0}
    assert len({tuple(np.argsort(numbers)) for numbers, _ in seen.batches}) == 12
    drawn = [sum(mean >= 200 for mean in means) for _, means in seen.batches]
    assert all(0 < n < N_IMAGES for n in drawn)  # views are drawn for each image, not each epoch


def test_validation_data_is_never_augmented() -> None:
    seen = Seen()
    held_out = (GREY[:5], -NUMBERS[:5] - 1)
    for cached in ("memory", False):
        tw.fit(
            averaging_model(seen), GREY, NUMBERS, validation_data=held_out, augment=Brighter(),
            views=2, epochs=2, cache=cached, verbose=0,
        )  # fmt: skip
    for i in range(5):
        assert seen.means(-i - 1) == [float(i)] * 4
        assert min(seen.means(i)) >= 100


def test_one_view_is_warned_of() -> None:
    seen = Seen()
    with pytest.warns(UserWarning, match=r"views=1 each image is augmented once.*views=10.*cache=False"):
        tw.fit(averaging_model(seen), GREY, NUMBERS, augment=Brighter(), epochs=3, verbose=0)
    assert seen.means(4) == [104.0] * 3


class Noise(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images: Any, training: bool = False) -> Any:
        noise = keras.random.normal(keras.ops.shape(images), seed=self.seed_generator)
        return images + 50.0 * noise if training else images


def noisy(generator: tf.random.Generator, images: tf.Tensor) -> tf.Tensor:
    # Not tf.random.normal: in TensorFlow 2.18 it begins anew when some other function is collected.
    return images + generator.normal(tf.shape(images)) * 50


AUGMENTATIONS = {
    "layer": Noise,
    "model": lambda: keras.Sequential([keras.Input((2, 2, 1)), Noise()]),
    "numpy": lambda: lambda images: images + np.random.normal(0, 50, images.shape),
    "tensorflow": lambda: tf.function(functools.partial(noisy, tf.random.Generator.from_seed(0))),
}


@pytest.mark.parametrize("kind", AUGMENTATIONS)
@pytest.mark.parametrize("source", ["arrays", "dataset", "py_dataset"])
def test_uncached_images_are_augmented_anew_in_every_epoch(kind: str, source: str) -> None:
    seen = Seen()
    data = {
        "arrays": (GREY.astype("uint8"), NUMBERS),
        "dataset": (tf.data.Dataset.from_tensor_slices((GREY, NUMBERS)).batch(8), None),
        "py_dataset": (Batches(GREY, NUMBERS), None),
    }[source]
    tw.fit(averaging_model(seen), *data, augment=AUGMENTATIONS[kind](), cache=False, epochs=3, verbose=0)
    values = np.array([seen.means(number) for number in NUMBERS])
    assert values.shape == (N_IMAGES, 3)
    assert np.unique(values).size == N_IMAGES * 3
    # As the model takes them: floats, not cut down to the 0..255 of their array.
    assert values.min() < 0
    assert abs((values - NUMBERS[:, None]).mean()) < 20


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_views_of_all_kinds_of_augmentation_differ(kind: str) -> None:
    seen = Seen()
    augment = AUGMENTATIONS[kind]()
    tw.fit(averaging_model(seen), GREY, NUMBERS, augment=augment, views=2, epochs=8, verbose=0)
    assert len(set(seen.means(3))) == 2


@pytest.mark.parametrize("cached", ["auto", False])
@pytest.mark.parametrize(
    "augment",
    [lambda images: images[:, :1], layers.Cropping2D(((1, 0), (0, 0)))],
    ids=["function", "layer"],
)
def test_augmentation_must_keep_the_shape(augment: Any, cached: Any) -> None:
    with pytest.raises(
        ValueError, match=r"augment must keep the shape.*\(20, 1, 2, 1\).*\(20, 2, 2, 1\)"
    ):
        tw.fit(averaging_model(Seen()), GREY, NUMBERS, augment=augment, views=2, cache=cached, verbose=0)


def test_two_inputs_are_augmented_together() -> None:
    one, two = keras.Input((2, 2, 1), name="one"), keras.Input((2, 2, 1), name="two")
    ones = {"kernel_initializer": "ones", "use_bias": False}
    convolution = frozen(layers.Conv2D(1, 1, **ones))
    x = layers.Subtract()([convolution(one), convolution(two)])
    seen = Seen()
    model = keras.Model([one, two], layers.Dense(1, **ones)(layers.GlobalAveragePooling2D()(x)))
    model.compile(keras.optimizers.SGD(0.0), loss=seen, run_eagerly=True)

    def augment(inputs: list[Any]) -> list[Any]:
        return [inputs[0] + 300.0, inputs[1]]

    for cached in ("memory", False):
        for x in ([GREY, GREY], {"two": GREY, "one": GREY}):
            tw.fit(model, x, NUMBERS, augment=augment, views=2, cache=cached, verbose=0)
    assert seen.means(3) == [300.0] * 4


def test_a_batch_size_holds_for_an_uncached_augmented_dataset() -> None:
    seen = Seen()
    dataset = tf.data.Dataset.from_tensor_slices((GREY, NUMBERS)).batch(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras does not know how many batches there are now
        tw.fit(averaging_model(seen), dataset, augment=Brighter(), batch_size=15, cache=False, verbose=0)
    assert [len(numbers) for numbers, _ in seen.batches] == [15, 5]


class Batches(keras.utils.PyDataset):
    def __init__(self, images: Any, labels: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.images, self.labels, self.n_epochs = images, labels, 0

    def __len__(self) -> int:
        return -(-len(self.images) // 8)

    def __getitem__(self, index: int) -> Any:
        part = slice(index * 8, index * 8 + 8)
        return self.images[part], self.labels[part]

    def on_epoch_end(self) -> None:
        self.n_epochs += 1


def test_an_uncached_py_dataset_is_told_of_its_epochs() -> None:
    dataset = Batches(GREY, NUMBERS)
    tw.fit(averaging_model(Seen()), dataset, augment=Brighter(), cache=False, epochs=2, verbose=0)
    ours, dataset.n_epochs = dataset.n_epochs, 0
    averaging_model(Seen()).fit(dataset, epochs=2, verbose=0)
    assert ours == dataset.n_epochs > 0


# Callbacks


class Watcher(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.models: set[int] = set()
        self.rates: list[float] = []
        self.calls: list[str] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.calls.append("train")
        self.models.add(id(self.model))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.calls.append(f"batch {batch}")
        assert "loss" in logs

    def on_test_begin(self, logs: Any = None) -> None:
        self.calls.append("test")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(f"epoch {epoch}")
        self.rates.append(float(self.model.optimizer.learning_rate))
        assert {"loss", "val_loss"} <= set(logs)


def test_callbacks_see_and_save_the_whole_model(tmp_path: Path) -> None:
    model, watcher = only_split(make_model()), Watcher()
    callbacks = [
        watcher,
        keras.callbacks.ModelCheckpoint(tmp_path / "model.keras"),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / (epoch + 1)),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    history = tw.fit(
        model, IMAGES, CLASSES, validation_data=HELD_OUT, epochs=2, batch_size=12, callbacks=callbacks,
        verbose=0,
    )  # fmt: skip
    assert watcher.models == {id(model)}
    epoch = ["batch 0", "batch 1", "test"]
    assert watcher.calls == ["train", *epoch, "epoch 0", *epoch, "epoch 1"]
    assert watcher.rates == pytest.approx([0.1, 0.05])
    saved = keras.models.load_model(tmp_path / "model.keras")
    # In Keras 3.10 a loaded model takes a list.
    packed = keras.tree.pack_sequence_as(saved.input, [IMAGES])
    np.testing.assert_array_equal(saved(packed), model(IMAGES))
    assert saved.name == "small"
    assert saved.optimizer.iterations == 4
    assert (tmp_path / "2.weights.h5").exists()
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    np.testing.assert_allclose([float(row["loss"]) for row in rows], history.history["loss"], rtol=1e-5)
    assert history is model.history
    assert history.model is model
    assert history.params == {"verbose": 0, "epochs": 2, "steps": 2}


def test_early_stopping_stops_and_restores_the_best_weights() -> None:
    model = only_split(make_model(optimizer=keras.optimizers.SGD(-0.001)))  # gets worse and worse
    weights: list[Any] = []
    callbacks = [
        keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: weights.append(model.get_weights())),
        keras.callbacks.EarlyStopping(monitor="loss", patience=2, restore_best_weights=True),
    ]
    history = tw.fit(model, IMAGES, CLASSES, epochs=9, callbacks=callbacks, verbose=0)
    assert history.epoch == [0, 1, 2]
    assert model.stop_training
    for a, b in zip(model.get_weights(), weights[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))
    assert tw.fit(model, IMAGES, CLASSES, epochs=2, verbose=0).epoch == [0, 1]  # trains again


def test_the_learning_rate_is_reduced_on_a_plateau() -> None:
    model = only_split(make_model(optimizer=keras.optimizers.SGD(1.0)))
    reduce = keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=1e9)
    tw.fit(model, IMAGES, CLASSES, epochs=3, callbacks=reduce, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


def test_training_ends_at_nan() -> None:
    model = only_split(make_model(optimizer=keras.optimizers.SGD(1e38), loss="mse"))
    stop = keras.callbacks.TerminateOnNaN()
    targets = np.ones((N_IMAGES, 3), "float32") * 1e20
    history = tw.fit(
        model, IMAGES, targets, epochs=9, batch_size=4, callbacks=[stop], shuffle=False, verbose=0
    )
    assert len(history.epoch) < 9


def test_a_callback_stops_in_the_middle_of_an_epoch() -> None:
    class Stop(keras.callbacks.Callback):
        n_batches = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.n_batches += 1
            self.model.stop_training = batch == 1

    stop = Stop()
    tw.fit(make_model(), IMAGES, CLASSES, epochs=3, batch_size=4, callbacks=[stop], verbose=0)
    assert stop.n_batches == 2


def test_a_broken_run_is_restored_from_its_backup(tmp_path: Path) -> None:
    class Break(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

    resumed = []
    for folder in ("ours", "keras"):
        backup = keras.callbacks.BackupAndRestore(tmp_path / folder)
        for others in ([Break()], []):
            keras.utils.set_random_seed(6)
            model = make_model(optimizer=keras.optimizers.SGD(0.01, momentum=0.9))
            fit = (lambda *a, **k: tw.fit(model, *a, **k)) if folder == "ours" else model.fit  # noqa: B023
            callbacks = [backup, *others]
            with contextlib.suppress(KeyboardInterrupt):
                fit(IMAGES / 255, CLASSES, epochs=3, callbacks=callbacks, shuffle=False, verbose=0)
        assert model.history.epoch == [2]
        resumed.append(model.get_weights())
    for a, b in zip(*resumed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_callback_list_is_used_as_it_is() -> None:
    watcher = Watcher()
    model = make_model()
    callbacks = keras.callbacks.CallbackList([watcher], add_history=True, model=model)
    tw.fit(model, IMAGES, CLASSES, validation_data=HELD_OUT, callbacks=callbacks, verbose=0)
    assert watcher.models == {id(model)}


# What the user sees


def test_verbose_0_is_silent(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = make_model()
    tw.fit(model, IMAGES, CLASSES, validation_data=HELD_OUT, cache_dir=tmp_path / "store", verbose=0)
    tw.precompute(model, IMAGES, cache_dir=tmp_path / "store", verbose=0)
    printed, errors = capfd.readouterr()
    assert printed == ""
    assert "topwork" not in errors


def test_one_line_says_what_was_computed_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, store = make_model(), tmp_path / "store"
    for _ in range(2):
        tw.fit(model, IMAGES, CLASSES, validation_data=HELD_OUT, epochs=2, cache_dir=store, verbose=1)
    printed = capsys.readouterr().out
    lines = re.findall(r"topwork: .*", printed)
    first, second = (re.sub(r"in \d+\.\d s", "in T s", line) for line in lines)
    about = "frozen part run once over 20 + 7 images in T s"
    assert first == f"topwork: {about}, 27 computed and 0 found; features of 432 bytes in {store}."
    assert second == f"topwork: {about}, 0 computed and 27 found; features of 432 bytes in {store}."
    assert " - training data" in printed
    assert " - validation data" in printed
    assert re.search(r"1/1.*s/batch", printed)
    assert "Epoch 2/2" in printed


def test_the_line_tells_of_views_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    tw.fit(make_model(), IMAGES, CLASSES, augment=Brighter(), views=3, verbose=2)
    printed = capsys.readouterr().out
    assert "frozen part run once over 20 images in 3 views" in printed
    assert "features of 960 bytes in memory." in printed
    assert printed.count("\n") == 2  # of the pass and of the epoch: lines for a log, no moving bar


# Fallbacks


class Doubles(layers.Layer):
    """Code that is not Keras' own, and always gives the same."""

    def call(self, x: Any) -> Any:
        return x * 2.0


class AddsToTheLoss(layers.Layer):
    def call(self, x: Any) -> Any:
        self.add_loss(keras.ops.mean(x))
        return x


class OwnStep(keras.Model):
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


def subclassed() -> keras.Model:
    model = make_model()
    own = OwnStep(model.inputs, model.outputs, name="small")
    own.compile(model.optimizer, model.loss)
    return own


def unfixed_size() -> keras.Model:
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 1)(frozen(layers.Conv2D(4, 3))(inputs))
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x, name="small")
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def random_activation(x: Any) -> Any:
    return x + keras.random.normal(keras.ops.shape(x))


FALLBACKS: dict[str, tuple[Callable[[], keras.Model], str]] = {
    "random": (lambda: make_model(before=layers.RandomFlip()), r"'random_.*' \(RandomFlip\) is random"),
    "trained": (lambda: make_model(before=layers.Conv2D(3, 1)), r"'conv2d.*' \(Conv2D\) is trainable"),
    "own step": (subclassed, r"its class OwnStep has a train_step of its own"),
    "random code": (
        lambda: make_model(before=layers.Lambda(lambda x: x + tf.random.normal(tf.shape(x)))),
        r"'lambda.*' \(Lambda\) gives other features for the same images when it is run again",
    ),
    "random activation": (
        lambda: make_model(before=layers.Activation(random_activation)),
        r"gives other features for the same images when it is run again",
    ),
    "own loss": (lambda: make_model(before=AddsToTheLoss()), r"\(AddsToTheLoss\) adds to the loss"),
    "unfixed size": (
        unfixed_size,
        r"its frozen features have the shape \(None, None, None, 4\), of which only the batch may be "
        r"unknown \(build the model for one image size\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FALLBACKS)
def test_what_cannot_be_split_is_said_once_and_trained_plainly(case: str) -> None:
    build, reason = FALLBACKS[case]
    model = build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = tw.fit(model, IMAGES, CLASSES, epochs=2, verbose=0)
    texts = [str(each.message) for each in caught if "fit:" in str(each.message)]
    assert len(texts) == 1
    assert re.search(f"nothing of 'small' is computed once, because .*{reason}", texts[0])
    assert texts[0].endswith("Frozen layers run in every epoch.")
    assert history.epoch == [0, 1]


def test_plain_training_gives_the_numbers_of_keras(capsys: pytest.CaptureFixture[str]) -> None:
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = make_model()
        model.get_layer("frozen").trainable = True
        model.compile("adam", model.loss, jit_compile=False)
        models.append(model)
    arguments: dict[str, Any] = {"epochs": 2, "batch_size": 6, "class_weight": {1: 3.0}}
    models[0].fit(IMAGES, CLASSES, **arguments, verbose=0)
    keras.utils.set_random_seed(0)
    capsys.readouterr()
    tw.fit(models[1], IMAGES, CLASSES.tolist(), validation_data=(HELD_OUT[0], HELD_OUT[1].tolist()),
           **arguments, shuffle=True, verbose=2)  # fmt: skip
    said = capsys.readouterr().out
    # Nothing is frozen, so that nothing is lost: a line, and no warning.
    assert "topwork: fit: nothing of 'small' is computed once, because layer 'frozen' (Conv2D) is" in said
    keras.utils.set_random_seed(3)
    again = make_model()
    again.get_layer("frozen").trainable = True
    again.compile("adam", again.loss, jit_compile=False)
    tw.fit(again, IMAGES, CLASSES, **arguments, verbose=0)
    for a, b in zip(models[0].get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_code_that_always_gives_the_same_is_computed_once() -> None:
    tw.fit(only_split(make_model(before=Doubles())), IMAGES, CLASSES, verbose=0)
    tw.fit(only_split(make_model(before=layers.Lambda(lambda x: x * 2))), IMAGES, CLASSES, verbose=0)


def activation_of_mine(x: Any) -> Any:
    return x * 2


@pytest.mark.parametrize(
    "before",
    [Doubles, lambda: layers.Lambda(lambda x: x * 2), lambda: layers.Activation(activation_of_mine)],
    ids=["layer", "lambda", "activation"],
)
def test_unknown_code_is_not_kept_in_a_store(before: Callable[[], Any], tmp_path: Path) -> None:
    model = make_model(before=before())
    with pytest.raises(ValueError, match=r"cache_dir cannot be used for 'small'.*not Keras' own.*Leave"):
        tw.fit(model, IMAGES, CLASSES, cache_dir=tmp_path / "store", verbose=0)


def test_a_model_that_was_not_compiled() -> None:
    model = make_model()
    bare = keras.Model(model.inputs, model.outputs, name="bare")
    with pytest.raises(ValueError, match=r"'bare' was not compiled. Call model.compile.*add_head"):
        tw.fit(bare, IMAGES, CLASSES)


def test_a_model_with_nothing_to_train() -> None:
    model = make_model()
    model.trainable = False
    with pytest.raises(ValueError, match=r"nothing in 'small' is trainable. Add a head.*fine_tune"):
        tw.fit(model, IMAGES, CLASSES)


def test_what_is_no_model() -> None:
    with pytest.raises(ValueError, match=r"fit: the model must be a keras.Model. Received: 3"):
        tw.fit(3, IMAGES, CLASSES)


# Where features are kept


def trained(**arguments: Any) -> list[Any]:
    keras.utils.set_random_seed(5)
    model = only_split(make_model(optimizer=keras.optimizers.SGD(0.01)))
    tw.fit(model, IMAGES, CLASSES, epochs=2, validation_data=HELD_OUT, verbose=0, **arguments)
    return model.get_weights()


def test_all_caches_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [trained(cache=kind) for kind in ("memory", "disk")]
    results += [trained(cache_dir=tmp_path / "store") for _ in range(2)]
    monkeypatch.setattr(memory, "available_memory", lambda: 100)
    results += [trained(cache="auto"), trained(cache_dir=tmp_path / "store")]
    for weights in results[1:]:
        for a, b in zip(results[0], weights, strict=True):
            np.testing.assert_array_equal(a, b)


def small_temporary_disk(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tempfile.gettempdir())._replace(free=free, total=free)
    monkeypatch.setattr(temporary.shutil, "disk_usage", lambda _: usage)


def test_a_small_temporary_disk_is_known_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 20 rows of 16 bytes, and 5 of the validation data: only the two together are too many.
    small_temporary_disk(400, monkeypatch)
    monkeypatch.setattr(memory, "available_memory", lambda: 200)
    data = tf.data.Dataset.from_tensor_slices((IMAGES, CLASSES)).batch(1)
    tw.fit(make_model(), data, cache="disk", verbose=0)
    monkeypatch.setattr(FrozenPart, "rows", lambda *_: pytest.fail("something was computed"))
    with pytest.raises(OSError, match="fit: no room for the features") as caught:
        tw.fit(make_model(), data, validation_data=data.take(5), cache="disk", verbose=0)
    assert caught.value.errno == errno.ENOSPC
    text = str(caught.value)
    assert "take 400 bytes: 380 may be used in the temporary folder" in text
    assert "and 100 of memory. Nothing was computed yet" in text


@pytest.mark.parametrize("head", [False, True])
def test_the_room_is_that_of_all_data_sets(head: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Memory holds the training data, and neither it nor the disk the validation data.
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    small_temporary_disk(200, monkeypatch)
    monkeypatch.setattr(FrozenPart, "rows", lambda *_: pytest.fail("something was computed"))
    data = tf.data.Dataset.from_tensor_slices((IMAGES, CLASSES)).batch(1)
    with pytest.raises(OSError, match=r"no room for the features, which take 320 bytes: 190 may"):
        (tw.fit_head if head else tw.fit)(make_model(), data, validation_data=data, verbose=0)


def test_what_a_small_temporary_disk_does_not_hold_is_kept_in_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_temporary_disk(100, monkeypatch)
    data = tf.data.Dataset.from_tensor_slices((IMAGES, CLASSES)).batch(1)
    with pytest.warns(UserWarning, match="fit: the features take 320 bytes, and 95 may be used in"):
        tw.fit(make_model(), data, cache="disk", verbose=1)
    assert "in memory." in capsys.readouterr().out


def test_data_of_unknown_length_outgrows_a_small_temporary_disk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tf.data.Dataset.from_tensor_slices((np.tile(IMAGES, (6, 1, 1, 1)), np.tile(CLASSES, 6)))
    data = data.batch(8).filter(lambda *_: True)
    # 48 images at a time take 768 bytes: of three times the first only.
    small_temporary_disk(1000, monkeypatch)
    written = RowBuffer._write

    def shrinking(buffer: RowBuffer, rows: Any) -> bool:
        done = written(buffer, rows)
        small_temporary_disk(100, monkeypatch)
        return done

    monkeypatch.setattr(RowBuffer, "_write", shrinking)
    with pytest.warns(
        UserWarning, match=r"fit: the temporary file of features cannot grow: .* may be used"
    ):
        tw.fit(make_model(), data, cache="disk", verbose=1)
    assert "in a temporary file and memory." in capsys.readouterr().out
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    small_temporary_disk(1000, monkeypatch)
    with pytest.raises(OSError, match=r"fit: there is no more room for features .* computed is lost"):
        tw.fit(make_model(), data, cache="disk", verbose=0)


def test_stored_features_that_memory_has_no_room_for_are_read_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    in_memory = trained(cache_dir=tmp_path / "store")
    monkeypatch.setattr(RowBuffer, "append_in_memory", full)
    monkeypatch.setattr(RowBuffer, "_open_file", full)
    for a, b in zip(in_memory, trained(cache_dir=tmp_path / "store"), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("available", "place"), [(10**9, "in memory."), (400, "in a temporary file and memory.")]
)
def test_auto_takes_a_file_for_what_does_not_fit(
    available: int, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # 20 rows of 16 bytes, and 7: half of 400 bytes holds the second only.
    monkeypatch.setattr(memory, "available_memory", lambda: available)
    tw.fit(make_model(), IMAGES, CLASSES, validation_data=HELD_OUT, verbose=1)
    assert place in capsys.readouterr().out


@pytest.mark.parametrize(("known", "most"), [(True, 0), (False, 4)])
def test_what_will_not_fit_is_not_gathered_in_memory_first(
    known: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half of 640 bytes holds 20 rows, and 30 are to come; unknown data may have a fifth of that.
    monkeypatch.setattr(memory, "available_memory", lambda: 640)
    images, labels = np.tile(IMAGES, (2, 1, 1, 1))[:30], np.tile(CLASSES, 2)[:30]
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    if not known:
        data = data.filter(lambda *_: True)
    in_memory = 0

    def counting(buffer: RowBuffer, rows: Any) -> None:
        nonlocal in_memory
        in_memory += len(rows)
        fill_blocks(buffer, rows)

    fill_blocks = RowBuffer.append_in_memory
    monkeypatch.setattr(RowBuffer, "append_in_memory", counting)
    tw.fit(make_model(), data, verbose=0)
    assert in_memory <= most


def open_temporaries() -> list[str]:
    descriptors = Path("/proc/self/fd")
    links = [str(link.readlink()) for link in descriptors.iterdir() if link.is_symlink()]
    return [link for link in links if "topwork-features-" in link]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("fails", [False, True])
def test_the_temporary_file_is_gone_at_the_end(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen_open: list[int] = []

    def look(*_: object) -> None:
        seen_open.append(len(open_temporaries()))
        if fails:
            raise KeyboardInterrupt

    callback = keras.callbacks.LambdaCallback(on_epoch_end=look)
    try:
        tw.fit(make_model(), IMAGES, CLASSES, cache="disk", callbacks=[callback], verbose=0)
    except KeyboardInterrupt:
        assert fails
    assert seen_open[0] > 0
    assert list(tmp_path.glob("topwork*")) == []
    del callback
    gc.collect()
    assert open_temporaries() == []


def run(code: str, *arguments: object, kills_itself: bool = False) -> str:
    """What a process that runs `code` prints; its first lines make a small model and data."""
    start = f"""
        import os, signal, sys
        import keras, numpy as np, tensorflow as tf
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import topwork as tw
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(start) + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != (-signal.SIGKILL if kills_itself else 0):
        raise AssertionError(done.stderr[-4000:])
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_the_temporary_file_is_gone_when_the_process_is_killed(tmp_path: Path) -> None:
    code = """
        import tempfile
        tempfile.tempdir = sys.argv[1]
        from test_fit import CLASSES, IMAGES, make_model
        def kill(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        callback = keras.callbacks.LambdaCallback(on_epoch_end=kill)
        tw.fit(make_model(), IMAGES, CLASSES, cache="disk", callbacks=[callback], verbose=0)
    """
    run(code, tmp_path, kills_itself=True)
    assert list(tmp_path.glob("topwork*")) == []


def test_cache_must_be_one_of_its_values(tmp_path: Path, shared_model: keras.Model) -> None:
    for value in ("ram", True, None):
        message = rf"cache must be 'auto', 'memory', 'disk' or False. Received: {value!r}"
        with pytest.raises(ValueError, match=message):
            tw.fit(shared_model, IMAGES, CLASSES, cache=value)
    with pytest.raises(ValueError, match=r"cache=False computes nothing once, and cache_dir='.*' asks"):
        tw.fit(shared_model, IMAGES, CLASSES, cache=False, cache_dir=tmp_path)


# Precision and devices


@pytest.mark.parametrize(
    ("dtype", "bytes_a_row"), [("mixed_float16", 8), ("mixed_bfloat16", 8), ("bfloat16", 8), (None, 16)]
)
def test_features_keep_their_precision(
    dtype: str | None, bytes_a_row: int, capsys: pytest.CaptureFixture[str]
) -> None:
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(2)
        models.append(make_model(dtype=dtype, optimizer=keras.optimizers.SGD(0.01)))
    models[0].fit(IMAGES / 255, CLASSES, epochs=2, shuffle=False, verbose=0)
    tw.fit(only_split(models[1]), IMAGES / 255, CLASSES, epochs=2, shuffle=False, verbose=2)
    assert f"features of {20 * bytes_a_row} bytes" in capsys.readouterr().out
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(np.float32(b), np.float32(a), rtol=2e-3, atol=2e-4)


def test_the_loss_is_scaled_once_under_mixed_precision() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        models = []
        for _ in range(2):
            keras.utils.set_random_seed(2)
            models.append(make_model(optimizer=keras.optimizers.SGD(0.01)))
    finally:
        keras.config.set_dtype_policy("float32")
    assert type(models[0].optimizer).__name__ == "LossScaleOptimizer"
    models[0].fit(IMAGES / 255, CLASSES, epochs=2, shuffle=False, verbose=0)
    tw.fit(only_split(models[1]), IMAGES / 255, CLASSES, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(
        models[1].history.history["loss"], models[0].history.history["loss"], rtol=1e-3
    )


@pytest.mark.slow
def test_two_devices_give_what_one_gives() -> None:
    code = """
        cpus = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
        from test_fit import CLASSES, IMAGES, make_model, only_split
        from contextlib import nullcontext
        results = []
        for scope in (nullcontext(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()):
            keras.utils.set_random_seed(4)
            with scope:
                model = make_model(optimizer=keras.optimizers.SGD(0.01), metrics=["accuracy"])
            history = tw.fit(
                only_split(model), IMAGES, CLASSES, validation_data=(IMAGES[:8], CLASSES[:8]), epochs=3,
                batch_size=10, shuffle=False, verbose=0,
            )
            results.append((model.get_weights(), history.history))
        (one, one_history), (two, two_history) = results
        for a, b in zip(one, two, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
        for name in one_history:
            np.testing.assert_allclose(two_history[name], one_history[name], rtol=1e-5)
        print("equal")
    """
    assert run(code).endswith("equal\n")
