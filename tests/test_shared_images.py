"""Images that are in the training data and in the validation data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import topwork as tw

RANDOM = np.random.default_rng(0)
TRAIN = RANDOM.uniform(0, 255, (20, 4, 4, 3)).astype("float32")
OTHERS = RANDOM.uniform(0, 255, (10, 4, 4, 3)).astype("float32")
# The images 3 and 7 of the validation data are the images 17 and 2 of the training data.
MIXED = OTHERS.copy()
MIXED[3], MIXED[7] = TRAIN[17], TRAIN[2]
LABELS, FEWER = np.arange(20) % 2, np.arange(10) % 2
SAID = (
    r": 2 of the 10 images of the validation data are in the training data too, byte for byte, image 3 "
    r"is image 17, image 7 is image 2 \(of the validation and of the training data\)\. What is measured"
)


def make_model(**layer: Any) -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 1, **layer)(x)
    x = layers.Conv2D(4, 1, name="second", **layer)(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x), name="small")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fit(train: Any, validation: Any, **options: Any) -> Any:
    train = train if isinstance(train, tuple) else (train,)
    return tw.fit(make_model(trainable=False), *train, validation_data=validation, verbose=0, **options)


def fit_plainly(train: Any, validation: Any) -> Any:
    train = train if isinstance(train, tuple) else (train,)
    return tw.fit(make_model(), *train, validation_data=validation, verbose=0)


def fit_head(train: Any, validation: Any, **options: Any) -> Any:
    train = train if isinstance(train, tuple) else (train,)
    model = make_model(trainable=False)
    return tw.fit_head(model, *train, validation_data=validation, verbose=0, **options)


def compare_cuts(train: Any, validation: Any, **options: Any) -> Any:
    model = make_model(trainable=False)
    backbone = keras.Model(model.inputs, model.layers[-3].output)
    cuts = [backbone.layers[-1].name]
    return tw.compare_cuts(backbone, train, validation, cut_layers=cuts, verbose=0, **options)


def compare_boundaries(train: Any, validation: Any, **options: Any) -> Any:
    model = make_model(trainable=False)
    return tw.compare_boundaries(
        model, train, validation, boundaries=["second"], epochs=1, verbose=0, **options
    )


VERBS = [fit, fit_head, compare_cuts, compare_boundaries]
ALL_VERBS = [*VERBS, fit_plainly]


def arrays(*data: Any) -> Any:
    return data


def data_set(*data: Any) -> Any:
    return tf.data.Dataset.from_tensor_slices(data).batch(8)


class PyDataset(keras.utils.PyDataset):
    def __init__(self, *data: Any) -> None:
        super().__init__()
        self.data = data

    def __len__(self) -> int:
        return -(-len(self.data[0]) // 8)

    def __getitem__(self, index: int) -> Any:
        return tuple(each[index * 8 : index * 8 + 8] for each in self.data)


@pytest.mark.parametrize("kind", [arrays, data_set, PyDataset])
@pytest.mark.parametrize("verb", VERBS)
def test_images_in_both_are_said_once(verb: Callable[..., Any], kind: Callable[..., Any]) -> None:
    with pytest.warns(UserWarning, match=verb.__name__ + SAID) as record:
        verb(kind(TRAIN, LABELS), kind(MIXED, FEWER))
    assert len(record) == 1


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_other_images_are_none_to_speak_of(verb: Callable[..., Any]) -> None:
    verb((TRAIN, LABELS), (OTHERS, FEWER))


@pytest.mark.parametrize("kind", [arrays, data_set, PyDataset])
@pytest.mark.parametrize("verb", ALL_VERBS)
def test_the_same_object_is_said_at_once(verb: Callable[..., Any], kind: Callable[..., Any]) -> None:
    data = kind(TRAIN, LABELS)
    with pytest.warns(UserWarning, match="validation_data is the training data itself") as record:
        verb(data, data)
    assert len(record) == 1


def test_where_nothing_is_computed_once() -> None:
    with pytest.warns(UserWarning, match="fit" + SAID) as record:
        fit_plainly((TRAIN, LABELS), (MIXED, FEWER))
    assert len(record) == 1


@pytest.mark.parametrize("verb", [fit, fit_head, compare_cuts, compare_boundaries])
def test_with_a_store(verb: Callable[..., Any], tmp_path: Path) -> None:
    for _ in range(2):  # the second time all is found
        with pytest.warns(UserWarning, match=verb.__name__ + SAID):
            verb((TRAIN, LABELS), (MIXED, FEWER), cache_dir=tmp_path)


def test_augmented_images_are_known_as_they_were() -> None:
    with pytest.warns(UserWarning, match="fit" + SAID):
        fit((TRAIN, LABELS), (MIXED, FEWER), augment=lambda images: images + 1, views=2)


def test_a_copy_in_another_type_and_a_split() -> None:
    whole = np.round(TRAIN)
    with pytest.warns(UserWarning, match="20 of the 20 images .* image 0 is image 0, .*, \\.\\.\\."):
        fit((whole, LABELS), (whole.astype("uint8"), LABELS))
    double = np.concatenate([TRAIN, MIXED])
    labels = np.concatenate([LABELS, FEWER])
    with pytest.warns(UserWarning, match="fit" + SAID):
        fit((double, labels), None, validation_split=1 / 3)


def test_shuffled_images_have_no_numbers() -> None:
    shuffled = data_set(TRAIN, LABELS).unbatch().shuffle(20).batch(4)
    with pytest.warns(UserWarning, match=r"2 of the 10 .* byte for byte\. What"):
        fit(shuffled, (MIXED, FEWER))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for folder, images in (("train", TRAIN), ("validation", MIXED)):
        for number, image in enumerate(images):
            path = tmp_path / folder / "ab"[number % 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(path, image, scale=False)
    return tmp_path / "train", tmp_path / "validation"


@pytest.mark.parametrize("reader", ["topwork", "keras"])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("verb", [fit, fit_plainly])
def test_files_are_named(
    folders: tuple[Path, Path], reader: str, shuffle: bool, verb: Callable[..., Any]
) -> None:
    if reader == "topwork":
        data = [tw.data.read_folder(folder, (4, 4), shuffle=shuffle) for folder in folders]
    else:
        read = keras.utils.image_dataset_from_directory
        data = [read(folder, image_size=(4, 4), shuffle=shuffle, verbose=False) for folder in folders]
    with pytest.warns(UserWarning, match="2 of the 10 images") as record:
        verb(*data)
    text = str(record[0].message)
    train, validation = folders
    for one, other in (("03", "17"), ("07", "02")):
        folder = "ab"[int(other) % 2]
        assert f"{str(validation / 'b' / one)!r}"[:-1] + ".png' is " in text
        assert f" is {str(train / folder / other)!r}"[:-1] + ".png'" in text


def test_several_inputs_are_one_image() -> None:
    inputs = [keras.Input((4, 4, 3), name="one"), keras.Input((2,), name="two")]
    x = layers.Conv2D(2, 1, trainable=False)(layers.Rescaling(1 / 255)(inputs[0]))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), inputs[1]])
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    numbers = RANDOM.uniform(size=(20, 2)).astype("float32")
    tw.fit(model, [TRAIN, numbers], LABELS, validation_data=([TRAIN, numbers + 1], LABELS), verbose=0)
    both = {"one": TRAIN.copy(), "two": numbers.copy()}
    with pytest.warns(UserWarning, match="20 of the 20 images of the validation data"):
        tw.fit(model, [TRAIN, numbers], LABELS, validation_data=(both, LABELS), verbose=0)
