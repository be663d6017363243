"""Images of every kind in `predict`, images of several sizes everywhere, and losses of one's own."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import topwork as tw

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 255, (8, 6, 6, 3)).astype("float32")
LABELS = np.arange(8) % 2


def probe(channels: int = 3, size: int | None = 6) -> keras.Model:
    """Tells images apart by the mean of their first channel: its answer is known."""
    inputs = keras.Input((size, size, channels))
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(inputs))
    outputs = layers.Dense(1, "sigmoid", kernel_initializer="ones")(x)
    return keras.Model(inputs, outputs)


def answers(model: keras.Model, images: Any) -> list[float]:
    return [dict(found)["1"] for found in tw.predict(model, images)]


# What `predict` takes


PIL = pytest.importorskip("PIL.Image")


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1", "LA", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_pillow_is_read_as_its_file_is(mode: str, channels: int, tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 255, (9, 12, 3), dtype="uint8")
    image = PIL.fromarray(pixels)
    image = (
        PIL.fromarray(pixels[..., 0].astype("uint16") * 256) if mode == "I;16" else image.convert(mode)
    )
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image.save(path)
    model = probe(channels)
    assert answers(model, image) == pytest.approx(answers(model, path), abs=1e-3)
    assert tw.interpret.grad_cam(with_map(channels), image).heatmap.shape == (6, 6)


def with_map(channels: int) -> keras.Model:
    inputs = keras.Input((6, 6, channels))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(inputs))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def test_an_image_of_pillow_that_lies_on_its_side_is_turned() -> None:
    pixels = np.zeros((8, 4, 3), "uint8")
    pixels[:4] = 200
    stored = io.BytesIO()
    exif = PIL.Exif()
    exif[0x0112] = 6
    PIL.fromarray(pixels).save(stored, "png", exif=exif)
    inputs = keras.Input((4, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Cropping2D(((0, 0), (0, 4)))(inputs) / 255)
    left = keras.Model(inputs, layers.Dense(1, "sigmoid", kernel_initializer="ones")(x))
    assert answers(left, PIL.open(stored)) == [0.5]  # what was above is on the right now


def test_an_image_of_pillow_without_a_range() -> None:
    image = PIL.fromarray(np.zeros((9, 9), "int32"))
    with pytest.raises(
        ValueError, match=r"^predict: the image .* cannot be read: it has pixels of 32-bit"
    ):
        tw.predict(probe(), image)


data_set = tf.data.Dataset.from_tensor_slices
KINDS: dict[str, Callable[[], Any]] = {
    "array": lambda: IMAGES,
    "tensor": lambda: tf.constant(IMAGES),
    "list": lambda: list(IMAGES),
    "iterator": lambda: iter(IMAGES),
    "images and labels": lambda: (IMAGES, LABELS),
    "a dict": lambda: {"image": IMAGES, "label": LABELS},
    "data set": lambda: tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(3),
    "data set of images": lambda: tf.data.Dataset.from_tensor_slices(IMAGES).batch(3),
    "data set of dicts": lambda: tf.data.Dataset.from_tensor_slices(
        {"image": IMAGES, "label": LABELS}
    ).batch(3),
    "PyDataset": lambda: Batches(),
    "generator function": lambda: lambda_of_batches,
}


class Batches(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return IMAGES[4 * index : 4 * index + 4], LABELS[4 * index : 4 * index + 4]


def lambda_of_batches() -> Iterator[Any]:
    yield IMAGES[:5], LABELS[:5]
    yield IMAGES[5:], LABELS[5:]


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_every_kind(kind: str) -> None:
    model = probe()
    np.testing.assert_allclose(
        answers(model, KINDS[kind]()), model.predict(IMAGES, verbose=0)[:, 0], atol=1e-6
    )


def test_grey_arrays() -> None:
    grey = IMAGES[..., 0]
    colours = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_allclose(answers(probe(), list(grey)), answers(probe(), colours), atol=1e-6)
    for model in (probe(1), probe(1, None)):
        expected = model.predict(grey[..., None], verbose=0)[:, 0]
        for images in (grey, grey[..., None], list(grey), list(grey[..., None])):
            np.testing.assert_allclose(answers(model, images), expected, atol=1e-6)
        np.testing.assert_allclose(answers(model, grey[0]), expected[:1], atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((9, 9, 4)), r"shape \(9, 9, 4\).*alpha channel: leave it out, image\[..., :3\]"),
        (np.zeros((3, 9, 9)), r"channels come first: move them to the end, np.moveaxis\(image, 0, -1\)"),
        (np.zeros((9, 9, 2)), r"It has 2 channels, and the model takes 3: convert it"),
        ([IMAGES, IMAGES], r"Batches of images are arrays of 4 dimensions"),
        (tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)), "the dataset is not batched"),
        (tf.data.Dataset.from_tensor_slices(IMAGES[:, :4]).batch(2), "Resize the images"),
        (tf.data.Dataset.from_tensor_slices(IMAGES).batch(2).take(0), "the data has no images"),
    ],
)  # fmt: skip
def test_images_that_do_not_fit(images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^predict: .*{message}"):
        tw.predict(probe(), images)


# A file in a data set that is broken


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    for number in range(12):
        path = tmp_path / "ab"[number % 2] / f"{number:02}.jpg"
        path.parent.mkdir(exist_ok=True)
        pixels = RANDOM.integers(0, 255, (40, 40, 3))
        keras.utils.save_img(path, pixels, scale=False)
    path.write_bytes(path.read_bytes()[:300])
    return tmp_path


VERBS: dict[str, Callable[[Any, Any, Path], Any]] = {
    "fit": lambda model, data, _: tw.fit(model, data, verbose=0),
    "fit plainly": lambda model, data, _: tw.fit(model, data, cache=False, verbose=0),
    "fit_head": lambda model, data, _: tw.fit_head(model, data, verbose=0),
    "precompute": lambda model, data, tmp: tw.precompute(model, data, cache_dir=tmp / "store", verbose=0),
    "features": lambda model, data, _: tw.features(model, data, verbose=0),
    "predict": lambda model, data, _: tw.predict(model, data),
    "report": lambda model, data, _: tw.interpret.report(model, data),
    "suspects": lambda model, data, _: tw.interpret.suspects(model, data, verbose=0),
}


def trainable(*first: Any, size: int | None = 6) -> keras.Model:
    inputs = keras.Input((size, size, 3))
    x = inputs
    for layer in (*first, layers.Rescaling(1 / 255)):
        x = layer(x)
    x = layers.Conv2D(4, 3, trainable=False, name="cut")(x)
    outputs = layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize("verb", VERBS)
def test_a_broken_photograph_names_find_bad_images(verb: str, broken: Path) -> None:
    read = keras.utils.image_dataset_from_directory
    data = read(broken, image_size=(6, 6), shuffle=False, batch_size=2, verbose=False)
    if verb == "fit plainly":  # Keras reads it: only the first batch is topwork's
        data = read(broken, image_size=(6, 6), shuffle=False, batch_size=12, verbose=False)
    message = r": the data set has a file that cannot be decoded: .*find_bad_images\(folder\) names all"
    with pytest.raises(ValueError, match=verb.split()[0] + message):
        VERBS[verb](trainable(), data, broken)


# Images of several sizes


SIZES = [(7 + i, 9) for i in range(5)] + [(8, 8)] * 3
UNEVEN = [RANDOM.integers(0, 255, (*size, 3)).astype("float32") for size in SIZES]


def ragged() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((tf.ragged.stack(UNEVEN), LABELS)).batch(3)


def one_by_one() -> Any:
    def generator() -> Iterator[Any]:
        for image, label in zip(UNEVEN, LABELS, strict=True):
            yield image[None], label[None]

    generator.is_constant = True  # type: ignore[attr-defined]
    return generator


def resizing() -> keras.Model:
    return trainable(layers.Resizing(6, 6), size=None)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "suspects"])
def test_images_of_several_sizes(verb: str, tmp_path: Path) -> None:
    VERBS[verb](resizing(), ragged(), tmp_path)


def test_each_image_has_its_own_features(tmp_path: Path) -> None:
    model = resizing()
    cut = keras.Model(model.inputs[0], model.get_layer("cut").output)
    expected = np.concatenate([cut(image[None]).numpy() for image in UNEVEN])
    for data in (ragged(), one_by_one()):
        found = tw.features(model, data, layer="cut", verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    for _ in range(2):
        found = tw.features(model, ragged(), layer="cut", cache_dir=tmp_path, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    seen = tw.predict(model, ragged())
    alone = [tw.predict(model, image)[0] for image in UNEVEN]
    assert [a.name for a in seen] == [b.name for b in alone]


def test_images_of_several_sizes_train_as_in_keras() -> None:
    one, other = resizing(), resizing()
    other.set_weights(one.get_weights())
    one.fit(ragged(), epochs=2, shuffle=False, verbose=0)
    tw.fit(other, ragged(), epochs=2, shuffle=False, verbose=0)
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)
    tw.fit(other, ragged(), augment=lambda images: images[:, ::-1], views=2, verbose=0)
    tw.fit(other, ragged(), validation_data=ragged().map(lambda x, y: (x * 0.5, y)), verbose=0)


def test_images_of_several_sizes_for_a_model_of_one() -> None:
    with pytest.raises(ValueError, match=r"^fit: the input .* \(1, 7, 9, 3\). Resize the images"):
        tw.fit(trainable(), ragged(), verbose=0)


# Losses of another kind, and heads on other models


def squared(y: Any, predicted: Any) -> Any:
    return keras.ops.mean((y - predicted) ** 2, axis=-1)


class Squared(keras.losses.Loss):
    def call(self, y_true: Any, y_pred: Any) -> Any:
        return squared(y_true, y_pred)


def with_loss(loss: Any, n_units: int = 3) -> keras.Model:
    model = trainable()
    outputs = layers.Dense(n_units)(model.layers[-2].output)
    model = keras.Model(model.inputs, outputs)
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize(
    "loss", [squared, Squared(), "cosine_similarity", keras.losses.CategoricalHinge()]
)
@pytest.mark.parametrize("labels", [np.zeros((8, 2)), np.zeros((8, 4, 2)), np.array(["a"] * 8)])
def test_labels_that_a_loss_of_ones_own_cannot_take(loss: Any, labels: Any) -> None:
    model = with_loss(loss)
    model.predict_step = None  # nothing is computed
    for x, y in ((IMAGES, labels), (tf.data.Dataset.from_tensor_slices((IMAGES, labels)).batch(8), None)):
        with pytest.raises(ValueError, match=r"^fit: the training data has labels of (shape|type) "):
            tw.fit(model, x, y, verbose=0)


@pytest.mark.parametrize("loss", [squared, Squared(), "cosine_similarity", "kl_divergence"])
@pytest.mark.parametrize("labels", [np.ones((8, 3)), np.ones((8, 3), "int64"), np.ones((8, 3), bool)])
def test_labels_that_it_takes(loss: Any, labels: Any) -> None:
    tw.fit(with_loss(loss), IMAGES, labels, verbose=0)
    tw.fit(with_loss(squared, 1), IMAGES, LABELS, verbose=0)


def test_a_head_on_a_sequential_backbone() -> None:
    backbone = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3), layers.Conv2D(4, 3)])
    model = tw.add_head(2, hidden_units=4)(tw.freeze(backbone))
    assert len(tw.fit(model, IMAGES, LABELS, epochs=2, verbose=0).epoch) == 2
    with pytest.raises(ValueError, match=r"^add_head: the graph of the model is read.*keras.Input first"):
        tw.add_head(2)(keras.Sequential([layers.Conv2D(4, 3)]))
    for wrong in (None, "mobilenet", tw.add_head(2), layers.Dense(2)):
        with pytest.raises(ValueError, match=r"^add_head: the model must be a keras.Model. Received"):
            tw.add_head(2)(wrong)
