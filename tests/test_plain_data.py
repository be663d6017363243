"""Data sets that Keras reads, because nothing can be computed once: looked at as their batches come."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import topwork as tw

N_IMAGES = 64
IMAGES = np.random.default_rng(0).uniform(0, 255, (N_IMAGES, 4, 4, 3)).astype("float32")
LABELS = np.arange(N_IMAGES) % 3
RARE = np.array([0] * 60 + [1] * 2 + [2] * 2)


def make_model(**options: Any) -> keras.Model:
    """Without a frozen part."""
    inputs = keras.Input((4, 4, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x), name="small")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    return model


def changed(array: Any, place: int, value: Any) -> Any:
    other = array.astype("float32")
    other[place] = value
    return other


def data_set(*parts: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(parts).batch(8)


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(**options)
        self.parts = parts
        self.ended = 0

    def __len__(self) -> int:
        return len(self.parts[0]) // 8

    def __getitem__(self, index: int) -> Any:
        return tuple(part[index * 8 : index * 8 + 8] for part in self.parts)

    def on_epoch_end(self) -> None:
        self.ended += 1


def by_threads(*parts: Any) -> Batches:
    return Batches(*parts, workers=3)


KINDS = [data_set, Batches, by_threads]


def fit(*data: Any, **options: Any) -> Any:
    return tw.fit(options.pop("model", None) or make_model(), *data, verbose=0, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((IMAGES, changed(LABELS, 40, 7)), r"has the label 7.0, .* First seen in images 40 to 47"),
        ((IMAGES, changed(LABELS, 40, np.nan)), "has the label nan"),
        ((changed(IMAGES, 50, np.nan), LABELS), "has pixels that are NaN .* first in image 50 "),
        ((IMAGES, LABELS, changed(np.ones(64), 40, np.inf)), "has sample weights that are NaN"),
    ],
)
def test_what_is_wrong_after_the_first_batch(kind: Any, parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^fit: the training data {message}"):
        fit(kind(*parts))
    if "label 7" not in message:
        return
    good = kind(IMAGES, LABELS)
    with pytest.raises(ValueError, match=f"^fit: the validation data {message}"):
        fit(good, validation_data=kind(*parts))


class Unpaired(Batches):
    def __getitem__(self, index: int) -> Any:
        images, labels = super().__getitem__(index)
        return (images, np.append(labels, 0)) if index == 5 else (images, labels)


class SomeUnlabelled(Batches):
    def __getitem__(self, index: int) -> Any:
        images, labels = super().__getitem__(index)
        return (images,) if index == 5 else (images, labels)


def unpaired() -> Iterator[Any]:
    data = Unpaired(IMAGES, LABELS)
    yield from (data[i] for i in range(8))


@pytest.mark.parametrize("make", [lambda: Unpaired(IMAGES, LABELS), lambda: unpaired])
def test_images_and_labels_that_do_not_pair_up(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"^fit: batch 5 .* has 8 images, and y has 9"):
        fit(make())


def test_all_batches_have_the_same_parts() -> None:
    with pytest.raises(
        ValueError, match=r"^fit: all batches must have the same parts: the labels of batch 5"
    ):
        fit(SomeUnlabelled(IMAGES, LABELS))


@pytest.mark.parametrize(("kind", "as_list"), [(data_set, True), (Batches, True), (data_set, False)])
def test_rare_classes_are_said_after_the_first_epoch(kind: Any, as_list: bool) -> None:
    at_the_end: list[int] = []
    own: Any = keras.callbacks.LambdaCallback(lambda *_: at_the_end.append(len(said)))
    model = make_model()
    if not as_list:
        own = keras.callbacks.CallbackList([own], add_history=True, model=model)
    with pytest.warns(UserWarning, match="2 images of class 1 and 60 of class 0") as said:
        fit(kind(IMAGES, RARE), model=model, epochs=3, callbacks=own)
    assert at_the_end == [0, 1, 1]
    assert said[0].filename == __file__
    if not as_list:
        assert len(own.callbacks) == 2
    with pytest.warns(UserWarning, match="has no image of class 2, of the model's 3 classes"):
        fit(kind(IMAGES, LABELS % 2))


@pytest.mark.parametrize("kind", [data_set, Batches])
def test_images_in_both_are_said(kind: Any) -> None:
    held_out = np.concatenate([IMAGES[:8] + 0.5, IMAGES[8:16]])
    for train in ((kind(IMAGES, LABELS),), (IMAGES, LABELS)):
        with pytest.warns(UserWarning, match="8 of the 16 images of the validation data") as said:
            fit(*train, validation_data=kind(held_out, LABELS[:16]), epochs=2)
        assert len(said) == 1
        assert ("image 8 is image 8" in str(said[0].message)) == (kind is data_set)
    with pytest.warns(UserWarning, match="8 of the 16 images of the validation data"):
        fit(kind(IMAGES, LABELS), validation_data=(held_out, LABELS[:16]))


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eager", [False, True])
def test_the_numbers_are_those_of_keras(kind: Any, eager: bool) -> None:
    found = []
    weights = np.linspace(0.5, 2, N_IMAGES).astype("float32")
    for train in (keras.Model.fit, tw.fit):
        keras.utils.set_random_seed(1)
        model, data = make_model(run_eagerly=eager), kind(IMAGES, LABELS, weights)
        held_out = kind(IMAGES[:16] + 1, LABELS[:16])
        history = train(model, data, validation_data=held_out, epochs=2, shuffle=False, verbose=0)
        found.append([*model.get_weights(), *history.history.values(), getattr(data, "ended", 0)])
    # tw.fit asks a PyDataset for its epochs' end to see whether that changes it
    for a, b in zip(*(each[:-1] for each in found), strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_kinds_of_batches_are_trained_on() -> None:
    inputs = [keras.Input((None, None, 3), name="a"), keras.Input((2,), name="b")]
    x = layers.GlobalAveragePooling2D()(layers.Resizing(4, 4)(inputs[0]))
    outputs = {"one": layers.Dense(3)(layers.Concatenate()([x, inputs[1]])), "two": layers.Dense(1)(x)}
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", {"one": loss, "two": "mse"})
    x = {"a": IMAGES, "b": np.ones((N_IMAGES, 2), "float32")}
    y = {"one": LABELS, "two": np.ones(N_IMAGES, "float32")}
    assert len(fit(data_set(x, y), model=model).epoch) == 1
    with pytest.raises(ValueError, match="for the output 'one', the label 5"):
        fit(data_set(x, y | {"one": changed(LABELS, 60, 5)}), model=model)


def test_images_of_several_sizes() -> None:
    inputs = keras.Input((None, None, 3))
    x = layers.Flatten()(layers.Resizing(4, 4)(inputs))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    rows = tf.RaggedTensor.from_tensor(IMAGES, lengths=[3 + i % 2 for i in range(N_IMAGES)])
    labels = changed(LABELS, 60, 5)
    data = tf.data.Dataset.from_tensor_slices((rows, labels)).batch(8)
    with pytest.raises(ValueError, match=r"the label 5.0, .* First seen in images 56 to 63"):
        fit(data, model=model)


def test_data_without_end() -> None:
    data = data_set(IMAGES, RARE).shuffle(8).repeat()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no class counts: an epoch is not all of it
        fit(data, steps_per_epoch=2, epochs=2)
    wrong = data_set(IMAGES, changed(LABELS, 60, 5)).repeat()
    with pytest.raises(ValueError, match=r"^fit: the training data has the label 5.0"):
        fit(wrong, steps_per_epoch=5, epochs=2)


def test_a_broken_photograph() -> None:
    good = tf.io.encode_jpeg(np.zeros((4, 4, 3), "uint8")).numpy()
    files = [good] * 60 + [b"\xff\xd8\xff nothing"] * 4
    data = data_set(files, LABELS).map(lambda x, y: (tf.map_fn(decoded, x, tf.float32), y))
    with pytest.raises(ValueError, match=r"has a file that cannot be decoded: .*find_bad"):
        fit(data)


def decoded(file: Any) -> Any:
    return tf.ensure_shape(tf.cast(tf.io.decode_jpeg(file), tf.float32), (4, 4, 3))


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_augmentation_that_makes_no_numbers_later(kind: Any) -> None:
    class Divides(layers.Layer):
        def call(self, images: Any) -> Any:
            return images / keras.ops.max(images, axis=(1, 2, 3), keepdims=True)

    images = IMAGES.copy()
    images[50] = 0
    message = "^fit: (the augmented training data has|augment made) pixels .* NaN"
    with pytest.raises(ValueError, match=message):
        fit(kind(images, LABELS), augment=Divides(), cache=False)


def test_class_weights_for_some_classes() -> None:
    found = []
    for data in ((IMAGES, LABELS), (tf.data.Dataset.from_tensors((IMAGES, LABELS)),)):
        keras.utils.set_random_seed(1)
        model = make_model()
        size = {"batch_size": N_IMAGES} if len(data) > 1 else {}
        fit(*data, model=model, class_weight={1: 5.0}, shuffle=False, **size)
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.thorough
def test_more_than_one_device() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = make_model()
    fit(data_set(IMAGES, LABELS), model=model)
    with pytest.raises(ValueError, match=r"the label 7.0"):
        fit(data_set(IMAGES, changed(LABELS, 40, 7)), model=model)
