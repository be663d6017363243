"""The data that `tw.fit` takes, what it refuses, and random augmentation that it finds in it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import topwork as tw
from topwork._data.checks import Guard, label_kind
from topwork._data.randomness import randomness_in
from topwork._data.reading import open_source

N_IMAGES, SIZE = 20, 6
IMAGES = np.random.default_rng(0).uniform(0, 255, (N_IMAGES, SIZE, SIZE, 3)).astype("float32")
CLASSES = np.arange(N_IMAGES) % 3


def frozen(layer: keras.Layer) -> keras.Layer:
    layer.trainable = False
    return layer


def make_model(
    n_units: int = 3,
    loss: Any = "sparse_categorical_crossentropy",
    *,
    n_inputs: int = 1,
    scales: bool = False,
) -> keras.Model:
    inputs = [keras.Input((SIZE, SIZE, 3), name=f"image_{i}") for i in range(n_inputs)]
    convolution = frozen(layers.Conv2D(4, 3))
    found = [convolution(each / 127.5 - 1.0 if scales else each) for each in inputs]
    x = layers.Concatenate()(found) if n_inputs > 1 else found[0]
    activation = "sigmoid" if n_units == 1 else "softmax"
    x = layers.Dense(n_units, activation=activation)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs if n_inputs > 1 else inputs[0], x, name="small")
    model.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """For what is refused before anything is trained, and for what may train it as it likes."""
    return make_model()


@pytest.fixture(scope="module")
def twin_model() -> keras.Model:
    return make_model(n_inputs=2)


def dataset(images: Any = IMAGES, labels: Any = CLASSES) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((images, labels))


# What is taken


def weights_after(x: Any, y: Any = None, **arguments: Any) -> list[Any]:
    keras.utils.set_random_seed(1)
    model = make_model()
    tw.fit(model, x, y, shuffle=False, verbose=0, **arguments)
    return model.get_weights()


class Batches(keras.utils.PyDataset):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        part = slice(index * 8, index * 8 + 8)
        return IMAGES[part], CLASSES[part]


def test_the_same_data_in_any_form_trains_the_same() -> None:
    whole = IMAGES.round()
    expected = weights_after(whole, CLASSES)
    forms = {
        "8 bits": (whole.astype("uint8"), CLASSES),
        "64 bits": (whole.astype("float64"), CLASSES.astype("float64")),
        "a list": (whole.tolist(), CLASSES.tolist()),
        "a list of one": ([whole], CLASSES),
        "a column": (whole, CLASSES[:, None]),
        "tensors": (tf.constant(whole), tf.constant(CLASSES)),
        "by name": ({"image_0": whole, "not an input": CLASSES}, CLASSES),
        "a dataset": (dataset(whole).batch(32), None),
        "of unknown length": (dataset(whole).filter(lambda *_: True).batch(32), None),
        "of unknown shape": (dataset(whole).map(forget_shape).batch(32), None),
    }
    for name, (x, y) in forms.items():
        for a, b in zip(expected, weights_after(x, y), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-6, err_msg=name)


def forget_shape(image: Any, label: Any) -> Any:
    return tf.py_function(lambda i: i, [image], tf.float32), label


def test_images_without_an_axis_of_channels() -> None:
    inputs = keras.Input((4, 4, 1))
    x = layers.Flatten()(frozen(layers.Conv2D(2, 3))(inputs))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    grey = IMAGES[:, :4, :4, 0]
    for data in ((grey, CLASSES), (dataset(grey).batch(8), None)):
        for cache in ("memory", False):
            noise = layers.GaussianNoise(0.1) if cache is False else None
            assert tw.fit(model, *data, augment=noise, cache=cache, verbose=0).epoch == [0]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_py_dataset_is_read_once(workers: int) -> None:
    batches = Batches(workers=workers)
    source = open_source(make_model(), batches)
    read = list(source.batches())
    assert sorted(batches.asked) == [0, 1, 2]
    np.testing.assert_array_equal(np.concatenate([batch.inputs[0] for batch in read]), IMAGES)
    np.testing.assert_array_equal(np.concatenate([batch.y for batch in read]), CLASSES)


def test_images_of_several_sizes() -> None:
    inputs = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(frozen(layers.Conv2D(4, 3))(inputs))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", run_eagerly=True)
    before = model.get_weights()
    small = dataset(IMAGES[:, :4]).batch(6)
    data = (
        dataset().batch(6).concatenate(small).map(lambda x, y: (tf.ensure_shape(x, [None] * 3 + [3]), y))
    )
    model.fit(data, epochs=2, shuffle=False, verbose=0)
    expected = model.get_weights()
    model.set_weights(before)
    tw.fit(model, data, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(expected, model.get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5)


# What is refused


def test_epochs_and_batch_size_are_whole_numbers(model: keras.Model) -> None:
    for epochs in (0, -1, 1.5, "3", True):
        with pytest.raises(ValueError, match=rf"greater than initial_epoch. Received: epochs={epochs!r}"):
            tw.fit(model, IMAGES, CLASSES, epochs=epochs)
    with pytest.raises(ValueError, match=r"Received: epochs=3, initial_epoch=3\."):
        tw.fit(model, IMAGES, CLASSES, epochs=3, initial_epoch=3)
    for size in (0, -4, 2.5, True):
        with pytest.raises(ValueError, match=rf"batch_size must be a whole number.*Received: {size!r}"):
            tw.fit(model, IMAGES, CLASSES, batch_size=size)


def test_augment_and_views(model: keras.Model) -> None:
    with pytest.raises(ValueError, match=r"fit: augment must be a Keras model.*Received: 'flip'"):
        tw.fit(model, IMAGES, CLASSES, augment="flip")
    for views in (0, 2.0, True):
        with pytest.raises(ValueError, match=rf"fit: views must be a whole number.*Received: {views!r}"):
            tw.fit(model, IMAGES, CLASSES, augment=np.copy, views=views)
    with pytest.raises(
        ValueError, match=r"views=4 copies of each image would be the same without augment"
    ):
        tw.fit(model, IMAGES, CLASSES, views=4)


def endless() -> Iterator[Any]:
    while True:
        yield IMAGES, CLASSES


@pytest.mark.parametrize("x", [endless(), print, None], ids=["generator", "function", "None"])
def test_generators_and_nothing(model: keras.Model, x: Any) -> None:
    kind = type(x).__name__
    with pytest.raises(ValueError, match=rf"x must be NumPy arrays.*Received: {kind}.*the function that"):
        tw.fit(model, x)


def test_errors_in_validation_data_say_so(model: keras.Model) -> None:
    with pytest.raises(ValueError, match=r"Received: generator.*This is about validation_data"):
        tw.fit(model, IMAGES, CLASSES, validation_data=endless())
    with pytest.raises(ValueError, match=r"x has 20 images, and y has 3.*This is about validation_data"):
        tw.fit(model, IMAGES, CLASSES, validation_data=(IMAGES, CLASSES[:3]))
    with pytest.raises(
        ValueError, match=r"validation_data is \(images, labels\[, weights\]\).* 4 values"
    ):
        tw.fit(model, IMAGES, CLASSES, validation_data=(IMAGES, CLASSES, None, None))
    with pytest.raises(ValueError, match=r"the validation data has the label 3"):
        tw.fit(model, IMAGES, CLASSES, validation_data=(IMAGES, CLASSES + 1), verbose=0)


def test_endless_and_unbatched_datasets(model: keras.Model) -> None:
    with pytest.raises(
        ValueError, match=r"dataset is endless.*out .repeat\(\).*take\(n_batches\).*steps_per_epoch"
    ):
        tw.fit(model, dataset().batch(4).repeat())
    with pytest.raises(
        ValueError, match=r"not batched: its elements are single images of shape \(6, 6, 3\)"
    ):
        tw.fit(model, dataset())
    with pytest.raises(ValueError, match=r"a tf.data.Dataset brings its own labels.*Received: y as well"):
        tw.fit(model, dataset().batch(4), CLASSES)
    with pytest.raises(ValueError, match=r"a keras.utils.PyDataset brings.*Received: sample_weight as"):
        tw.fit(model, Batches(), sample_weight=CLASSES)


def test_an_endless_py_dataset(model: keras.Model) -> None:
    class Endless(Batches):
        @property
        def num_batches(self) -> None:
            return None

    with pytest.raises(ValueError, match=r"the PyDataset is endless.*Define __len__"):
        tw.fit(model, Endless())


class NoBatches(Batches):
    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Any:
        raise IndexError(index)


@pytest.mark.parametrize("cache", ["auto", False])
def test_data_without_images(model: keras.Model, cache: Any) -> None:
    for empty in (dataset().take(0).batch(4), NoBatches()):
        with pytest.raises(ValueError, match=r"the training data has no images. Look at how"):
            tw.fit(model, empty, cache=cache, verbose=0)
    with pytest.raises(ValueError, match=r"the validation data has no images"):
        tw.fit(model, IMAGES, CLASSES, validation_data=dataset().take(0).batch(4), cache=cache, verbose=0)
    with pytest.raises(ValueError, match=r"there are no images: x is empty"):
        tw.fit(model, IMAGES[:0], CLASSES[:0], cache=cache)


def test_images_of_a_wrong_size(model: keras.Model) -> None:
    message = (
        r"the input 'image_0' takes batches of shape \(None, 6, 6, 3\). Received: \(20, 5, 6, 3\). Resize"
        r".*load_backbone\(..., input_shape=...\)"
    )
    with pytest.raises(ValueError, match=message):
        tw.fit(model, IMAGES[:, 1:], CLASSES)
    with pytest.raises(ValueError, match=r"Received: \(4, 5, 6, 3\)"):
        tw.fit(model, dataset(IMAGES[:, 1:]).batch(4), verbose=0)


def test_a_wrong_number_of_inputs(model: keras.Model, twin_model: keras.Model) -> None:
    with pytest.raises(ValueError, match=r"'small' has 1 inputs \(image_0\), and the data has 2"):
        tw.fit(model, [IMAGES, IMAGES], CLASSES)
    with pytest.raises(
        ValueError, match=r"has 1 inputs.*the data has 20. The images.*np.stack\(images\)"
    ):
        tw.fit(model, list(IMAGES), CLASSES)
    with pytest.raises(
        ValueError, match=r"'small' has 2 inputs \(image_0, image_1\), and the data has 1"
    ):
        tw.fit(twin_model, IMAGES, CLASSES)


def test_inputs_under_other_names(twin_model: keras.Model) -> None:
    message = r"inputs of 'small' are named image_0, image_1. Received data for left, right. Rename it"
    with pytest.raises(ValueError, match=message):
        tw.fit(twin_model, {"left": IMAGES, "right": IMAGES}, CLASSES)


def test_lengths_that_do_not_match(model: keras.Model, twin_model: keras.Model) -> None:
    with pytest.raises(ValueError, match=r"x has 20 images, and y has 19. Each image needs one"):
        tw.fit(model, IMAGES, CLASSES[1:])
    with pytest.raises(ValueError, match=r"x has 20 images, and sample_weight has 3"):
        tw.fit(model, IMAGES, CLASSES, sample_weight=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"x has 20 images, and x has 19"):
        tw.fit(twin_model, [IMAGES, IMAGES[1:]], CLASSES)


# Labels and pixels, looked at by the guard


SPARSE: list[Any] = [
    "sparse_categorical_crossentropy",
    "SparseCategoricalCrossentropy",
    keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="own name"),
    keras.losses.sparse_categorical_crossentropy,
    ["sparse_categorical_crossentropy"],
]
CATEGORICAL: list[Any] = [
    "categorical_crossentropy",
    keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
    keras.losses.CategoricalFocalCrossentropy(),
]
BINARY: list[Any] = ["binary_crossentropy", "bce", keras.losses.BinaryCrossentropy(from_logits=True)]

ONE_HOT = keras.utils.to_categorical(CLASSES, 3)


def refusal(n_units: int, loss: Any, labels: Any) -> str:
    """What the guard says of labels; empty if it takes them."""
    guard = Guard(make_model(n_units, loss), "the training data")
    try:
        guard.check([IMAGES], labels)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("cache", ["auto", False])
def test_labels_must_be_there(model: keras.Model, cache: Any) -> None:
    message = r"the training data has no labels. Pass them as y, or as \(images, labels\) in a dataset"
    for x in (IMAGES, tf.data.Dataset.from_tensor_slices(IMAGES).batch(5)):
        with pytest.raises(ValueError, match=message):
            tw.fit(model, x, cache=cache, verbose=0)


@pytest.mark.parametrize("loss", SPARSE)
def test_labels_for_a_sparse_loss(loss: Any) -> None:
    assert refusal(3, loss, CLASSES) == ""
    assert refusal(3, loss, CLASSES[:, None].astype("float32")) == ""
    assert re.search(r"one-hot labels of shape \(20, 3\).*labels.argmax", refusal(3, loss, ONE_HOT))
    assert re.search(r"shape \(20, 2\), and the loss takes one class", refusal(3, loss, ONE_HOT[:, :2]))
    for label in (3, -1, 0.5):
        labels = np.where(CLASSES == 2, label, CLASSES)
        expected = (
            rf"the label {label}.*has 3 classes, numbered 0 to 2.*from 0, or make the head with more"
        )
        assert re.search(expected, refusal(3, loss, labels))
    assert "the label nan" in refusal(3, loss, np.where(CLASSES == 2, np.nan, CLASSES))
    names = np.array(["cat", "dog"])[CLASSES % 2]
    assert re.search(r"labels of type <U3, the first .*'cat'.*np.unique", refusal(3, loss, names))


def test_the_class_that_a_loss_ignores_is_no_mistake() -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=255)
    assert refusal(3, loss, np.where(CLASSES == 2, 255, CLASSES)) == ""
    assert "the label 254" in refusal(3, loss, np.where(CLASSES == 2, 254, CLASSES))


@pytest.mark.parametrize("loss", CATEGORICAL)
def test_labels_for_a_categorical_loss(loss: Any) -> None:
    assert refusal(3, loss, ONE_HOT) == ""
    assert refusal(3, loss, ONE_HOT * 0.9) == ""
    for labels in (CLASSES, ONE_HOT[:, :2]):
        assert re.search(
            r"one-hot labels of shape \(images, 3\).*to_categorical", refusal(3, loss, labels)
        )
    assert "one-hot labels from 0.0 to 2.0. They go from 0 to 1" in refusal(3, loss, ONE_HOT * 2)
    assert "labels that are NaN or infinite. Leave such" in refusal(3, loss, ONE_HOT * np.nan)


@pytest.mark.parametrize("loss", BINARY)
def test_labels_for_a_binary_loss(loss: Any) -> None:
    assert refusal(1, loss, CLASSES > 0) == ""
    assert refusal(1, loss, (CLASSES > 0)[:, None].astype("float32")) == ""
    assert refusal(3, loss, ONE_HOT) == ""
    assert re.search(r"the label 2, and a sigmoid unit tells 0 from 1", refusal(1, loss, CLASSES))
    one_hot = ONE_HOT[:, :2]
    assert re.search(r"\(20, 2\), and the model has one sigmoid unit.*argmax", refusal(1, loss, one_hot))
    assert re.search(r"\(20,\), and the model has 3 sigmoid units.*sparse_", refusal(3, loss, CLASSES))
    assert "NaN or infinite" in refusal(1, loss, np.where(CLASSES > 0, np.nan, 0.0))


def test_losses_of_another_kind_are_left_alone() -> None:
    loss = lambda y, z: keras.ops.mean(z)  # noqa: E731
    assert label_kind(make_model(3, loss)) is None
    assert refusal(3, loss, CLASSES * 1000.0) == ""


def test_labels_that_are_numbers() -> None:
    assert label_kind(make_model(1, "mse")) == ("numbers", 1)
    assert refusal(1, "mse", CLASSES * 1000.0) == ""
    assert refusal(3, "mae", ONE_HOT * 1000.0) == ""
    assert "the model gives 3 numbers for each image" in refusal(3, "mse", CLASSES)
    assert "NaN or infinite" in refusal(1, "huber", np.where(CLASSES > 0, np.inf, 0.0))


MULTI_HOT = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]])


def test_several_labels_an_image_are_not_one_hot() -> None:
    for loss in (SPARSE[0], CATEGORICAL[0]):
        text = refusal(3, loss, MULTI_HOT)
        assert re.search(r"multi-hot labels, several classes for an image.*task='labels'", text)
        assert "argmax" not in text
    assert refusal(3, BINARY[0], MULTI_HOT) == ""
    assert re.search(r"multi-hot labels of shape.*Make a head of as many", refusal(1, "bce", MULTI_HOT))


def test_labels_of_each_output() -> None:
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Flatten()(inputs)
    outputs = {"kind": layers.Dense(3, activation="softmax")(x), "size": layers.Dense(1)(x)}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"kind": "sparse_categorical_crossentropy", "size": "mse"})
    guard = Guard(model, "the training data")
    guard.check([IMAGES], {"kind": CLASSES, "size": CLASSES / 2})
    with pytest.raises(ValueError, match=r"for the output 'kind', the label 4.*3 classes"):
        guard.check([IMAGES], {"kind": CLASSES * 2, "size": CLASSES})
    with pytest.raises(ValueError, match=r"labels for 'sort', and the outputs are named kind, size"):
        guard.check([IMAGES], {"sort": CLASSES})
    with pytest.raises(ValueError, match=r"has 1 arrays of labels, and the model 2 outputs: kind, size"):
        guard.check([IMAGES], CLASSES)


def test_the_place_of_a_wrong_label_is_told(model: keras.Model) -> None:
    labels = np.where(np.arange(N_IMAGES) == 13, 7, CLASSES)
    for data in ((dataset(labels=labels).batch(5),), (IMAGES, labels)):
        with pytest.raises(ValueError, match=r"the label 7.*First seen in images \d+ to \d+\.") as caught:
            tw.fit(model, *data, verbose=0)
        assert ("10 to 14" if len(data) == 1 else "0 to 19") in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers(bad: float, twin_model: keras.Model) -> None:
    images = IMAGES.copy()
    images[17, 2, 3, 1] = bad
    message = r"pixels that are NaN or infinite, in input 'image_1', first in image 17 \(counted from 0\)"
    data = tf.data.Dataset.from_tensor_slices(((IMAGES, images), CLASSES)).batch(6)
    for each in ((data,), ([IMAGES, images], CLASSES)):
        with pytest.raises(ValueError, match=message):
            tw.fit(twin_model, *each, verbose=0)
    with pytest.raises(ValueError, match=message):  # arrays are looked through where nothing is cached
        tw.fit(twin_model, [IMAGES, images], CLASSES, cache=False, verbose=0)


SCALED = (
    r"pixels from .* to .*, and the model expects raw pixels from 0 to 255.*Leave out your own scaling"
)


@pytest.mark.parametrize("cache", ["auto", False])
def test_scaled_pixels_are_warned_of(cache: Any, tmp_path: Path) -> None:
    model = make_model(scales=True)
    model.save(tmp_path / "model.keras")
    for each in (model, keras.models.load_model(tmp_path / "model.keras")):
        for images in (IMAGES / 255, IMAGES / 127.5 - 1):
            with pytest.warns(UserWarning, match=f"the training data has {SCALED}"):
                tw.fit(each, images, CLASSES, cache=cache, verbose=0)
    with pytest.warns(UserWarning, match=f"the validation data has {SCALED}"):
        tw.fit(model, IMAGES, CLASSES, validation_data=(IMAGES / 255, CLASSES), cache=cache, verbose=0)


def test_the_range_is_warned_of_once_and_only_where_it_is_known() -> None:
    scaled = dataset(IMAGES / 255).batch(4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tw.fit(make_model(scales=True), scaled, verbose=0)
    assert len([each for each in caught if "raw pixels" in str(each.message)]) == 1
    tw.fit(make_model(scales=False), scaled, verbose=0)  # without preprocessing: nothing is known
    tw.fit(make_model(scales=True), IMAGES, CLASSES, verbose=0)


def test_a_black_image_is_not_a_scaled_one() -> None:
    images = IMAGES.copy()
    images[:4] = 0
    tw.fit(make_model(scales=True), dataset(images).batch(2), verbose=0)
    with pytest.warns(UserWarning, match=SCALED):
        tw.fit(make_model(scales=True), dataset(images / 255).batch(2), verbose=0)


def test_a_photograph_of_the_night_is_not_a_scaled_one() -> None:
    images = (IMAGES * 9 / 255).astype("float32")  # resized: not whole
    tw.fit(make_model(scales=True), images, CLASSES, verbose=0)


def test_pixels_of_16_bits_are_warned_of() -> None:
    images = (IMAGES * 257).astype("uint16")
    with pytest.warns(
        UserWarning, match=r"the training data has pixels from .* Of 16 bits, divide them by 257"
    ):
        tw.fit(make_model(scales=True), images, CLASSES, verbose=0)


def test_training_and_validation_data_are_prepared_alike() -> None:
    model, scaled = make_model(scales=False), IMAGES / 255
    message = r"training data go to 2\d\d, and those of the validation data to (1|0\.9).*Prepare both"
    for held_out in ((scaled, CLASSES), dataset(scaled).batch(4)):
        with pytest.warns(UserWarning, match=message):
            tw.fit(model, IMAGES, CLASSES, validation_data=held_out, verbose=0)
    tw.fit(model, scaled, CLASSES, validation_data=(scaled / 4, CLASSES), verbose=0)
    tw.fit(model, scaled, CLASSES, validation_data=(scaled * 0, CLASSES), verbose=0)  # black


# Random augmentation inside a dataset


FLIP = layers.RandomFlip()
GENERATOR = tf.random.Generator.from_seed(1)


def with_noise(noise: Callable[[], Any]) -> tf.data.Dataset:
    return dataset().map(lambda image, label: (image + tf.cast(noise(), tf.float32), label)).batch(4)


def with_image(change: Callable[[Any], Any]) -> tf.data.Dataset:
    return dataset().map(lambda image, label: (change(image), label)).batch(4)


SHAPE = (SIZE, SIZE, 3)
RANDOM: dict[str, Callable[[], tf.data.Dataset]] = {
    "keras layer": lambda: dataset().batch(4).map(lambda x, y: (FLIP(x, training=True), y)),
    "flip": lambda: with_image(tf.image.random_flip_left_right),
    "brightness": lambda: with_image(lambda image: tf.image.random_brightness(image, 0.2)),
    "hue": lambda: with_image(lambda image: tf.image.random_hue(image, 0.2)),
    "crop": lambda: with_image(lambda image: tf.image.random_crop(image, (4, 4, 3))),
    "stateless": lambda: with_image(
        lambda i: tf.image.stateless_random_flip_up_down(i, tf.random.uniform((2,), 0, 9, tf.int32))
    ),
    "shuffled pixels": lambda: with_image(tf.random.shuffle),
    "uniform": lambda: with_noise(lambda: tf.random.uniform(SHAPE)),
    "normal": lambda: with_noise(lambda: tf.random.normal(SHAPE)),
    "truncated": lambda: with_noise(lambda: tf.random.truncated_normal(SHAPE)),
    "gamma": lambda: with_noise(lambda: tf.random.gamma(SHAPE, 1.0)),
    "poisson": lambda: with_noise(lambda: tf.random.poisson(SHAPE, 1.0)),
    "categorical": lambda: with_noise(lambda: tf.random.categorical(tf.ones((1, 2)), 1)),
    "generator": lambda: with_noise(lambda: GENERATOR.normal(SHAPE)),
    "binomial": lambda: with_noise(lambda: GENERATOR.binomial(SHAPE, 1.0, 0.5)),
    "interleaved": lambda: tf.data.Dataset.range(2).interleave(
        lambda _: with_noise(lambda: tf.random.normal(SHAPE)), num_parallel_calls=2
    ),
    "before other steps": lambda: (
        with_noise(lambda: tf.random.normal(SHAPE)).prefetch(1).map(lambda *a: a).take(2)
    ),
    "in a branch": lambda: with_image(
        lambda image: tf.cond(image[0, 0, 0] > 9, lambda: tf.image.random_hue(image, 0.2), lambda: image)
    ),
}


@pytest.mark.parametrize("case", RANDOM)
def test_random_operations_in_a_dataset_are_found(case: str) -> None:
    found = randomness_in(RANDOM[case]())
    assert found is not None
    assert re.fullmatch(r"random operations in its map functions \(\w+(, \w+)*\)", found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for i, image in enumerate(IMAGES[:4]):
        path = folder / str(i % 2) / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        keras.utils.save_img(path, image)
    return folder


FIXED: dict[str, Callable[[], tf.data.Dataset]] = {
    "plain": lambda: dataset().batch(4),
    "steps": lambda: dataset().shuffle(9).repeat(2).cache().batch(4).take(3).skip(1).prefetch(2),
    "interleave": lambda: tf.data.Dataset.range(3).interleave(lambda _: dataset().shuffle(3)).batch(4),
    "resize": lambda: with_image(lambda image: tf.image.resize(image, (4, 4))),
    "a seed that stays": lambda: with_image(lambda i: tf.image.stateless_random_hue(i, 0.2, (1, 2))),
    "all of shuffled images": lambda: (
        dataset().shuffle(9).skip(0).shard(1, 0).batch(4, drop_remainder=True)
    ),
    "numbered": lambda: dataset().shuffle(9).enumerate().map(lambda i, pair: pair).batch(4),
    "chosen": lambda: tf.data.Dataset.choose_from_datasets(
        [dataset(), dataset()], tf.data.Dataset.range(2).repeat(20)
    ).batch(4),
    "layer at rest": lambda: dataset().batch(4).map(lambda x, y: (FLIP(x, training=False), y)),
    "python": lambda: with_image(
        lambda image: tf.ensure_shape(tf.numpy_function(np.copy, [image], tf.float32), SHAPE)
    ),
    "generator": lambda: tf.data.Dataset.from_generator(
        lambda: zip(IMAGES, CLASSES, strict=True), output_signature=dataset().element_spec
    ).batch(4),
}


@pytest.mark.parametrize("case", FIXED)
def test_no_false_alarm(case: str) -> None:
    assert randomness_in(FIXED[case]()) is None


def test_no_false_alarm_for_photographs_in_a_folder(folder: Path) -> None:
    photographs = keras.utils.image_dataset_from_directory(folder, image_size=(8, 8), verbose=0)
    assert randomness_in(photographs) is None
    assert randomness_in(IMAGES) is None


def test_random_python_code_in_a_dataset_is_found() -> None:
    def noisy(image: Any) -> Any:
        return image + np.random.normal(size=image.shape).astype("float32")

    data = with_image(lambda image: tf.ensure_shape(tf.numpy_function(noisy, [image], tf.float32), SHAPE))
    found = randomness_in(data)
    assert found == "Python code, and images that differ when it is read twice"


def test_the_images_of_a_dataset_are_not_copied_to_look_for_randomness() -> None:
    large = tf.zeros((64, 1024, 1024), tf.uint8)
    data = tf.data.Dataset.from_tensor_slices(large).batch(2)
    before = resident_memory()
    assert randomness_in(data) is None
    assert resident_memory() - before < 30 * 2**20


def resident_memory() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        pytest.skip("looks into /proc")


STRENGTH = tf.Variable(1.0)
CHANGING: dict[str, tuple[Callable[[], tf.data.Dataset], str]] = {
    "a variable": (
        lambda: with_image(lambda image: image * STRENGTH),
        "variables that its map functions",
    ),
    "the time": (
        lambda: with_image(lambda image: image + tf.cast(tf.timestamp(), tf.float32)),
        r"operations with a state in its map functions \(Timestamp\)",
    ),
    "random seeds": (
        lambda: tf.data.Dataset.zip((dataset(), tf.data.Dataset.random(1))).map(lambda a, b: a).batch(4),
        "a random data set in it",
    ),
    "a part of shuffled images": (
        lambda: dataset().shuffle(20).take(8).batch(4),
        "a part of shuffled images.*another one in each epoch",
    ),
    "the rest of shuffled images": (lambda: dataset().shuffle(20).skip(8).batch(4), "a part of shuffled"),
    "the whole batches of shuffled images": (
        lambda: dataset().shuffle(20).batch(3, drop_remainder=True),
        r"a part of shuffled images \(BatchDataset after shuffle\)",
    ),
    "labels of other images": (
        lambda: tf.data.Dataset.zip(part(IMAGES).shuffle(20), part(CLASSES)).batch(4),
        r"a use of the order of shuffled images \(Zip\)",
    ),
    "every second of shuffled images": (
        lambda: dataset().shuffle(20).enumerate().filter(lambda i, _: i % 2 == 0).batch(4),
        r"a use of the order of shuffled images \(Zip\)",
    ),
    "each with the one before": (
        lambda: part(IMAGES).shuffle(20).scan(tf.zeros(SHAPE), lambda last, i: (i, last)).batch(4),
        r"a use of the order of shuffled images \(Scan\)",
    ),
}


def part(array: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(array)


@pytest.mark.parametrize("case", CHANGING)
def test_whatever_changes_in_a_dataset_is_found(case: str) -> None:
    make, text = CHANGING[case]
    assert re.match(text, randomness_in(make()) or "")


def test_what_is_cached_or_whole_does_not_change() -> None:
    assert randomness_in(RANDOM["flip"]().cache().prefetch(1)) is None
    assert randomness_in(dataset().shuffle(20).take(20).batch(4)) is None
    assert randomness_in(dataset().shuffle(20, reshuffle_each_iteration=False).take(8).batch(4)) is None


class ByEpoch(Batches):
    """Seeded by the epoch, so that a batch read twice is the same."""

    epoch = 0

    def __getitem__(self, index: int) -> Any:
        images, labels = super().__getitem__(index)
        return images + np.random.default_rng((self.epoch, index)).normal(size=images.shape), labels

    def on_epoch_end(self) -> None:
        self.epoch += 1


class Reordered(Batches):
    """The same images in another order, with their labels."""

    order = np.arange(N_IMAGES)

    def __getitem__(self, index: int) -> Any:
        part = self.order[index * 8 : index * 8 + 8]
        return IMAGES[part], CLASSES[part]

    def on_epoch_end(self) -> None:
        self.order = np.random.default_rng(1).permutation(N_IMAGES)


class Begins(ByEpoch):
    def on_epoch_begin(self) -> None:
        self.epoch += 1

    def on_epoch_end(self) -> None:
        pass


class Shrinks(Batches):
    n = 3

    def __len__(self) -> int:
        return self.n

    def on_epoch_end(self) -> None:
        self.n = 2


class OtherLabels(Reordered):
    def __getitem__(self, index: int) -> Any:
        images, _ = super().__getitem__(index)
        return images, CLASSES[index * 8 : index * 8 + 8]


class LateNoise(Batches):
    """Random in one batch, long after the first images."""

    def __len__(self) -> int:
        return N_IMAGES

    def __getitem__(self, index: int) -> Any:
        image = IMAGES[index : index + 1]
        return image + (np.random.normal() if index == 17 else 0), CLASSES[index : index + 1]


def test_what_on_epoch_end_draws_anew() -> None:
    for changing in (ByEpoch(), OtherLabels(), Begins(), Shrinks()):
        assert randomness_in(changing) == "other images or labels after its on_epoch_end"
    assert randomness_in(Reordered()) is None


def test_randomness_after_the_first_images() -> None:
    assert randomness_in(LateNoise()) == "images that differ when one batch is read twice"


def test_layers_that_mix_labels_are_refused(model: keras.Model) -> None:
    mixes = layers.MixUp()
    for augment in (mixes, keras.Sequential([layers.RandomFlip(), mixes])):
        with pytest.raises(
            ValueError, match=r"fit: augment=MixUp mixes the images.*labels have to be mixed"
        ):
            tw.fit(model, IMAGES, CLASSES, augment=augment, views=2)


def test_augment_that_makes_no_numbers(model: keras.Model) -> None:
    with pytest.raises(ValueError, match=r"augment made pixels that are NaN or infinite"):
        tw.fit(model, IMAGES, CLASSES, augment=lambda images: images * np.nan, views=2, verbose=0)


def test_images_and_labels_that_do_not_pair_up_in_a_batch(model: keras.Model) -> None:
    class Uneven(Batches):
        def __getitem__(self, index: int) -> Any:
            images, labels = super().__getitem__(index)
            return images, np.append(labels, 0) if index == 1 else labels

    class LateWeights(Batches):
        def __getitem__(self, index: int) -> Any:
            images, labels = super().__getitem__(index)
            return (images, labels, np.ones(len(labels))) if index else (images, labels)

    with pytest.raises(ValueError, match=r"batch 1 \(counted from 0\) has 8 images, and y has 9. Each"):
        tw.fit(model, Uneven(), verbose=0)
    with pytest.raises(
        ValueError, match=r"same parts: the sample weights of batch 1.*the first.*missing"
    ):
        tw.fit(model, LateWeights(), verbose=0)


def test_natural_ways_to_give_labelled_data() -> None:
    expected = weights_after(IMAGES, CLASSES)
    as_dict = tf.data.Dataset.from_tensor_slices({"image": IMAGES, "label": CLASSES}).batch(32)

    def generator() -> Iterator[Any]:
        yield IMAGES, CLASSES

    for x in ((IMAGES, CLASSES), {"image": IMAGES, "label": CLASSES}, as_dict, generator):
        for a, b in zip(expected, weights_after(x), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-6)


def test_a_folder_is_no_data(model: keras.Model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x is data, and not where it lies.*read_folder"):
        tw.fit(model, tmp_path)
    with pytest.raises(ValueError, match=r"takes pixels. Received: an array of type <U5.*'a.jpg'"):
        tw.fit(model, ["a.jpg", "b.jpg"], [0, 1])


@pytest.mark.parametrize(
    ("images", "advice"),
    [
        (IMAGES[..., 0], "The images are grey.*np.repeat"),
        (IMAGES[..., :1], "The images are grey.*np.repeat"),
        (
            np.concatenate([IMAGES, IMAGES[..., :1]], -1),
            r"channel is alpha, leave it out, images\[..., :3\]",
        ),
        (np.moveaxis(IMAGES, -1, 1), "The channels come first.*np.moveaxis"),
        (IMAGES[..., :2], "The images have 2 channels"),
    ],
)
def test_advice_about_channels(model: keras.Model, images: Any, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        tw.fit(model, images, CLASSES)


@pytest.mark.parametrize(
    ("change", "likely"),
    [
        (lambda x: keras.applications.vgg16.preprocess_input(x.copy()), "vgg16"),
        (lambda x: keras.applications.densenet.preprocess_input(x.copy()), "densenet"),
        (lambda x: tf.image.per_image_standardization(x).numpy(), "."),
        (lambda x: x / 255, "Rescaling"),
        (lambda x: x / 127.5 - 1, "offset=-1"),
    ],
)
def test_all_the_standard_ways_to_preprocess_are_noticed(
    change: Callable[[Any], Any], likely: str
) -> None:
    with pytest.warns(UserWarning, match=f"raw pixels from 0 to 255.*Leave out your own.*{likely}"):
        Guard(make_model(scales=True), "the data").check([change(IMAGES)], CLASSES)


def test_what_resizing_overshoots_is_no_preprocessing() -> None:
    Guard(make_model(scales=True), "the data").check([IMAGES * 1.1 - 12], CLASSES)


def test_sample_weights_are_numbers(model: keras.Model) -> None:
    weights = np.ones(N_IMAGES)
    weights[5] = np.nan
    with pytest.raises(ValueError, match=r"sample weights that are NaN or infinite, first at image 5"):
        Guard(model, "the data").check([IMAGES], CLASSES, weights)
    with pytest.raises(ValueError, match=r"sample weights of type <U1, the first .*'a'"):
        Guard(model, "the data").check([IMAGES], CLASSES, np.array(["a"] * N_IMAGES))


class Noisy(Batches):
    def __getitem__(self, index: int) -> Any:
        images, labels = super().__getitem__(index)
        return images + np.random.normal(size=images.shape), labels


class SometimesFlipped(Batches):
    """One image a batch, which a random flip leaves alone half of the time."""

    def __len__(self) -> int:
        return N_IMAGES

    def __getitem__(self, index: int) -> Any:
        image = IMAGES[index : index + 1]
        return image[:, :, :: np.random.choice([1, -1])], CLASSES[index : index + 1]


class Shuffled(Batches):
    """Another order in every epoch, as older code does it."""

    def on_epoch_end(self) -> None:
        self.order = np.random.permutation(3)


def test_randomness_of_py_datasets() -> None:
    for random in (Noisy(), SometimesFlipped()):
        assert randomness_in(random) == "images that differ when one batch is read twice"
    for fixed in (Batches(), Batches(workers=2), Shuffled(), NoBatches()):
        assert randomness_in(fixed) is None


def test_the_image_generators_of_older_code() -> None:
    generator = tf.keras.preprocessing.image.ImageDataGenerator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras: super().__init__() was not called
        fixed = generator().flow(IMAGES, CLASSES, batch_size=8)
        assert randomness_in(fixed) is None
        assert randomness_in(generator(horizontal_flip=True).flow(IMAGES, CLASSES)) is not None
        assert len(tw.fit(make_model(), fixed, epochs=2, verbose=0).epoch) == 2


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (RANDOM["flip"], r"random operations in its map functions \(RandomUniform\)"),
        (Noisy, "images that differ when one batch is read twice"),
    ],
    ids=["dataset", "py_dataset"],
)
def test_random_data_is_said_and_trained_uncached(make: Callable[[], Any], text: str) -> None:
    rest = r"Computing it once.*nothing is computed once. Pass the images.*augment=..., views=10"
    model, trained = make_model(), []
    model.fit = lambda *a, **k: trained.append(a) or keras.callbacks.History()
    with pytest.warns(UserWarning, match=rf"the data set is augmented at random: it has {text}. {rest}"):
        tw.fit(model, make(), verbose=0)
    with pytest.warns(UserWarning, match=rf"the validation data is augmented at random: it has {text}"):
        tw.fit(model, IMAGES, CLASSES, validation_data=make(), verbose=0)
    assert len(trained) == 2


# What is known before anything is computed


def test_an_endless_dataset_that_repeats_one_that_ends() -> None:
    data = dataset().batch(5)
    model, plain = make_model(), make_model()
    plain.set_weights(model.get_weights())
    plain.fit(data.repeat(), epochs=2, steps_per_epoch=6, shuffle=False, verbose=0)
    tw.fit(model, data.repeat(), epochs=2, steps_per_epoch=6, shuffle=False, verbose=0)
    for a, b in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5)


def test_an_endless_dataset_of_which_nothing_is_known() -> None:
    data = dataset().batch(5).repeat().map(lambda x, y: (x, y))
    with pytest.warns(
        UserWarning, match=r"nothing of 'small' is computed once, because the data set is endl"
    ):
        assert tw.fit(make_model(), data, steps_per_epoch=2, verbose=0).epoch == [0]


WEIGHTS = {0: 1.0, 1: 2.0, 2: 0.5}


@pytest.mark.parametrize(
    "given",
    [
        {np.int64(0): 1, 1.0: np.float32(2), 2: 0.5},
        [1, 2, 0.5],
        np.array([1, 2, 0.5]),
    ],
)
@pytest.mark.parametrize("cache", ["auto", False])
def test_class_weights_of_every_type(given: Any, cache: Any) -> None:
    expected = weights_after(IMAGES, CLASSES, class_weight=WEIGHTS, cache=cache)
    for a, b in zip(
        expected, weights_after(IMAGES, CLASSES, class_weight=given, cache=cache), strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=1e-6)


def test_balanced_class_weights() -> None:
    counts = np.bincount(CLASSES)
    by_hand = {c: N_IMAGES / (3 * n) for c, n in enumerate(counts)}
    expected = weights_after(IMAGES, CLASSES, class_weight=by_hand)
    for x, y in ((IMAGES, CLASSES), (dataset().batch(32), None)):
        for a, b in zip(expected, weights_after(x, y, class_weight="balanced"), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-6)


def test_class_weights_by_name() -> None:
    named = dataset().batch(32)
    named.class_names = ["cat", "dog", "owl"]
    expected = weights_after(named, class_weight=WEIGHTS)
    found = weights_after(named, class_weight={"cat": 1, "dog": 2, "owl": 0.5})
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6)
    with pytest.raises(ValueError, match=r"a weight for 'dgo', which is no class. Closest: 'dog'"):
        tw.fit(make_model(), named, class_weight={"dgo": 1.0})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"a weight for each of the 3 classes. Received: list of 2"),
        ("heavy", r"or 'balanced'. Received: str, 'heavy'"),
        ({3: 1.0}, r"for the class 3, and the model has 3 classes, numbered 0 to 2"),
        ({"dog": 1.0}, r"for 'dog', and the data does not say which class that is"),
        ({0: np.nan}, r"finite numbers of at least 0. Received: nan for the class 0"),
        ({0: "x"}, r"finite numbers of at least 0. Received: 'x' for the class 0"),
    ],
)
def test_class_weights_that_cannot_be(
    weights: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=f"^fit: class_weight.*{message}"):
        tw.fit(make_model(), IMAGES, CLASSES, class_weight=weights)
    assert capsys.readouterr().out == ""


def test_balanced_weights_need_classes() -> None:
    with pytest.raises(ValueError, match=r"'balanced' needs labels of one class for each image"):
        tw.fit(make_model(3, "mse"), IMAGES, ONE_HOT, class_weight="balanced")


def test_class_and_sample_weights_together(model: keras.Model) -> None:
    with pytest.raises(ValueError, match=r"cannot be given together for arrays. Multiply them"):
        tw.fit(model, IMAGES, CLASSES, class_weight=WEIGHTS, sample_weight=np.ones(N_IMAGES))


def test_validation_labels_are_checked_before_anything_is_computed(
    model: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    last = np.where(np.arange(N_IMAGES) == N_IMAGES - 1, 5, CLASSES)
    for held_out in ((IMAGES, last), dataset(labels=CLASSES + 3).batch(4)):
        with pytest.raises(ValueError, match=r"the validation data has the label [35]"):
            tw.fit(model, IMAGES, CLASSES, validation_data=held_out)
    with pytest.raises(ValueError, match=r"the training data has the label 5"):
        tw.fit(model, IMAGES, last)
    with pytest.raises(ValueError, match=r"sample weights that are NaN"):
        tw.fit(model, IMAGES, CLASSES, sample_weight=np.full(N_IMAGES, np.nan))
    with pytest.raises(
        ValueError, match=r"validation_data is \(images, labels\[, weights\]\).* 0 values"
    ):
        tw.fit(model, IMAGES, CLASSES, validation_data=[])
    assert capsys.readouterr().out == ""


def test_class_names_that_differ(model: keras.Model) -> None:
    train, held_out = dataset().batch(4), dataset().batch(4)
    train.class_names, held_out.class_names = ["cat", "dog", "owl"], ["cat", "owl"]
    with pytest.raises(
        ValueError, match=r"training data are cat, dog, owl.*validation data cat, owl: the"
    ):
        tw.fit(model, train, validation_data=held_out)
