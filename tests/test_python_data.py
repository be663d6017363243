"""Data that comes from Python code, of which nothing can be read, only tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import topwork as tw
from topwork._data.randomness import python_in, randomness_in

IMAGES = np.random.default_rng(0).uniform(0, 255, (24, 4, 4, 3)).astype("float32")
LABELS = np.arange(24) % 2


def make_model() -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(4, 1, trainable=False)(layers.Rescaling(1 / 255)(inputs))
    outputs = layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs, name="small")
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


class Photos(keras.utils.PyDataset):
    n_read = 0

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        self.n_read += 1
        return IMAGES[index * 8 : index * 8 + 8], LABELS[index * 8 : index * 8 + 8]


def photos() -> Photos:
    return Photos()


def py_function() -> tf.data.Dataset:
    def read(number: Any) -> Any:
        image = tf.numpy_function(lambda i: IMAGES[i], [number], tf.float32)
        return tf.ensure_shape(image, (4, 4, 3)), number % 2

    return tf.data.Dataset.range(24).map(read).batch(8)


def from_generator() -> tf.data.Dataset:
    spec = (tf.TensorSpec((4, 4, 3), tf.float32), tf.TensorSpec((), tf.int64))
    make = lambda: zip(IMAGES, LABELS, strict=True)  # noqa: E731
    return tf.data.Dataset.from_generator(make, output_signature=spec).batch(8)


def batches() -> Any:
    def generator() -> Iterator[Any]:
        for start in range(0, 24, 8):
            yield IMAGES[start : start + 8], LABELS[start : start + 8]

    return generator


ALL = [photos, py_function, from_generator, batches]


def fit(data: Any, verbose: Any = 2) -> Any:
    return tw.fit(make_model(), data, verbose=verbose, epochs=2)


def fit_head(data: Any, verbose: Any = 2) -> Any:
    return tw.fit_head(make_model(), data, verbose=verbose)


def find_learning_rate(data: Any, verbose: Any = 2) -> Any:
    return tw.callbacks.find_learning_rate(make_model(), data, verbose=verbose)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if "Python code" in line]


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("verb", [fit, fit_head, find_learning_rate])
def test_it_is_said_in_one_line(
    verb: Callable[..., Any], make: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    verb(make())
    (line,) = said(capsys)
    assert line.startswith("topwork: the training data (")
    assert "cannot be known" in line
    assert "data.is_constant = True" in line


def test_training_and_validation_data_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    tw.fit(make_model(), from_generator(), validation_data=(IMAGES + 1, LABELS), verbose=2)
    assert "the training data (" in said(capsys)[0]
    other = (lambda data: data.map(lambda x, y: (x + 1, y)))(py_function())
    tw.fit(make_model(), photos(), validation_data=other, verbose=2)
    (line,) = said(capsys)
    assert line.startswith("topwork: the training data (Photos) and the validation data (")


@pytest.mark.parametrize("make", ALL)
def test_it_stays_away_where_it_is_known(
    make: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    data = make()
    data.is_constant = True
    fit(data)
    fit(make(), verbose=0)
    if isinstance(data, tf.data.Dataset):
        fit(make().cache())
        fit(data.map(lambda x, y: (x * 0.5, y)).prefetch(1))  # what stands above it can be read
    assert said(capsys) == []


def test_precompute_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tw.precompute(make_model(), photos(), cache_dir=tmp_path, verbose=2) == 24
    assert len(said(capsys)) == 1


def test_what_reads_no_python_is_not_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number, image in enumerate(IMAGES):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        keras.utils.save_img(path, image, scale=False)
    fit(tw.data.read_folder(tmp_path, (4, 4)))
    fit(keras.utils.image_dataset_from_directory(tmp_path, image_size=(4, 4), verbose=False))
    fit(tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8))
    tw.fit(make_model(), IMAGES, LABELS, verbose=2)
    assert said(capsys) == []


def test_the_word_for_it_spares_the_trial() -> None:
    data = photos()
    data.is_constant = True
    fit(data)
    assert data.n_read <= 6  # once to look, once to compute, and what is read ahead


def test_the_word_holds_for_python_alone() -> None:
    data = py_function()
    data.is_constant = True
    flipped = data.map(lambda x, y: (tf.image.random_flip_left_right(x), y))
    assert randomness_in(flipped) is not None
    assert python_in(flipped) is None


def shuffled(order: Any) -> Any:
    def generator() -> Iterator[Any]:
        for number in order():
            yield IMAGES[number][None], LABELS[number][None]

    return generator


@pytest.mark.parametrize("repeats", [1, 4], ids=["few", "many"])
def test_python_that_shuffles_gives_the_same_images(repeats: int) -> None:
    random = np.random.default_rng(0)
    data = shuffled(lambda: random.permutation(np.tile(np.arange(24), repeats)))
    tw.fit(make_model(), data, verbose=0)  # no warning


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras, of generators
def test_python_that_draws_images_does_not() -> None:
    random = np.random.default_rng(0)
    with pytest.warns(
        UserWarning, match="it has Python code, and images that differ when it is read twice"
    ):
        tw.fit(make_model(), shuffled(lambda: random.choice(24, 12, replace=False)), verbose=0)
    held_out = shuffled(lambda: random.choice(24, 12, replace=False))
    with pytest.warns(
        UserWarning, match="the validation data is augmented at random: it has Python code"
    ):
        tw.fit(make_model(), IMAGES + 1, LABELS, validation_data=held_out, verbose=0)
