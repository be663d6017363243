"""Numbers of NumPy and Python alike, and names of classes in every order that they come in."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import topwork as tw
from topwork._networks.class_names import names_in_order

IMAGES = np.random.default_rng(0).uniform(0, 255, (12, 8, 8, 3)).astype("float32")
LABELS = np.arange(12) % 2
OTHERS = IMAGES + 0.5, LABELS


def backbone() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(2, 3, name="a")(layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, layers.Conv2D(2, 3, name="b")(x), name="small")


def model(**options: Any) -> keras.Model:
    return tw.add_head(2, **{"hidden_units": 2, **options})(tw.freeze(backbone()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, image in enumerate(IMAGES):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        keras.utils.save_img(path, image, scale=False)
    return tmp_path


def fit(**options: Any) -> Any:
    return tw.fit(model(), IMAGES, LABELS, validation_data=OTHERS, **{"verbose": 0, **options})


def twice(images: Any) -> Any:
    return images + 1


# Every argument of the public functions that is a whole number, as a function of that number.
WHOLE: dict[str, tuple[int, Callable[[Any, Path], Any]]] = {
    "add_head n_classes": (2, lambda n, _: tw.add_head(n)(backbone())),
    "add_head hidden_units": (4, lambda n, _: tw.add_head(2, hidden_units=n)(backbone())),
    "load_backbone input_shape": (
        32,
        lambda n, _: tw.load_backbone("mobilenet", weights=None, alpha=0.25, input_shape=(n, n, 3)),
    ),
    "freeze until": (4, lambda n, _: tw.freeze(backbone(), until=n)),
    "fine_tune unfreeze_from": (2, lambda n, _: tw.fine_tune(model(), n)),
    "fit epochs": (2, lambda n, _: fit(epochs=n)),
    "fit initial_epoch": (1, lambda n, _: fit(initial_epoch=n, epochs=2)),
    "fit batch_size": (4, lambda n, _: fit(batch_size=n)),
    "fit batch_size, plainly": (4, lambda n, _: fit(batch_size=n, cache=False)),
    "fit views": (2, lambda n, _: fit(views=n, augment=twice)),
    "fit steps_per_epoch": (1, lambda n, _: fit(steps_per_epoch=n)),
    "fit validation_steps": (1, lambda n, _: fit(validation_steps=n)),
    "fit validation_batch_size": (4, lambda n, _: fit(validation_batch_size=n)),
    "fit validation_freq": (1, lambda n, _: fit(validation_freq=n)),
    "fit validation_freq, listed": (1, lambda n, _: fit(validation_freq=[n])),
    "precompute views": (
        2,
        lambda n, folder: tw.precompute(
            model(), IMAGES, cache_dir=folder / "store", views=n, augment=twice, verbose=0
        ),
    ),
    "compare_boundaries boundaries": (
        2,
        lambda n, _: tw.compare_boundaries(
            model(), (IMAGES, LABELS), OTHERS, boundaries=[n], epochs=1, verbose=0
        ),
    ),
    "compare_boundaries epochs": (
        1,
        lambda n, _: tw.compare_boundaries(
            model(), (IMAGES, LABELS), OTHERS, boundaries=[2], epochs=n, verbose=0
        ),
    ),
    "find_learning_rate steps": (
        10,
        lambda n, _: tw.callbacks.find_learning_rate(model(), IMAGES, LABELS, steps=n, verbose=0),
    ),
    "find_learning_rate batch_size": (
        4,
        lambda n, _: tw.callbacks.find_learning_rate(
            model(), IMAGES, LABELS, steps=10, batch_size=n, verbose=0
        ),
    ),
    "predict top": (1, lambda n, _: tw.predict(model(), IMAGES[0], top=n)),
    "report n_mistakes": (1, lambda n, _: tw.interpret.report(model(), OTHERS, n_mistakes=n)),
    "grad_cam class_index": (1, lambda n, _: tw.interpret.grad_cam(model(), IMAGES[0], class_index=n)),
    "suspects n": (3, lambda n, _: tw.interpret.suspects(backbone(), OTHERS, n=n, verbose=0)),
    "read_folder size": (8, lambda n, folder: tw.data.read_folder(folder, n)),
    "read_folder sizes": (8, lambda n, folder: tw.data.read_folder(folder, (n, n))),
    "read_folder batch_size": (4, lambda n, folder: tw.data.read_folder(folder, 8, batch_size=n)),
}


@pytest.mark.parametrize("argument", WHOLE)
@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array])
@pytest.mark.filterwarnings("ignore:.*too few|.*too little")
def test_whole_numbers_of_any_type(argument: str, kind: Callable[[int], Any], folder: Path) -> None:
    number, call = WHOLE[argument]
    call(kind(number), folder)


@pytest.mark.parametrize("argument", WHOLE)
@pytest.mark.parametrize("kind", [float, str, bool, datetime.timedelta])
def test_what_is_no_whole_number_is_refused_in_words(
    argument: str, kind: Callable[[int], Any], folder: Path
) -> None:
    number, call = WHOLE[argument]
    verb, name = argument.replace(",", "").split()[:2]
    words = {"sizes": "size", "initial_epoch": "epochs"}.get(name, name)
    if kind is str and name in ("until", "unfreeze_from", "boundaries"):  # names of layers
        words = "no layer named"
    with pytest.raises(ValueError, match=rf"{verb}(\(\))?:?.*({words}|index)"):
        call(kind(number), folder)


@pytest.mark.parametrize("zero", [-1, 0])
@pytest.mark.parametrize(
    "argument", ["predict top", "fit epochs", "fit batch_size", "find_learning_rate steps", "fit views"]
)
def test_too_small(argument: str, zero: int, folder: Path) -> None:
    with pytest.raises(ValueError, match="whole number"):
        WHOLE[argument][1](np.int64(zero), folder)


def test_numbers_that_are_no_whole_ones() -> None:
    numbers = {"rotation": np.int64(40), "shear": np.float32(10), "zoom": np.float64(0.1)}
    augmentation = tw.data.augmentation(
        width_shift=np.float32(0.2), height_shift=np.array(0.1), horizontal_flip=np.bool_(True), **numbers
    )
    assert augmentation(IMAGES, training=True).shape == IMAGES.shape
    fit(callbacks=tw.callbacks.OneCycle(np.float32(0.01)), class_weight={np.int64(0): np.float32(2)})
    fit(validation_freq=np.array([1, 2]), epochs=2, verbose=np.int64(0))
    tw.data.augmentation(rotation=15)
    with pytest.raises(ValueError, match=r"^augmentation: zoom is a number as a fraction, 0 to below 1"):
        tw.data.augmentation(zoom=np.float32(1.5))


# Names of classes

ORDERED = {
    "list": ["ant", "bee"],
    "tuple": ("ant", "bee"),
    "array": np.array(["ant", "bee"]),
    "keys": {"ant": None, "bee": None}.keys(),
    "by number": {1: "bee", 0: "ant"},
    "by NumPy's number": {np.int64(1): "bee", np.int64(0): "ant"},
    "by name": {"bee": 1, "ant": 0},
}


@pytest.mark.parametrize("kind", ORDERED)
def test_names_come_in_their_order(kind: str, folder: Path) -> None:
    names = ORDERED[kind]
    assert names_in_order(names) == ("ant", "bee")
    (prediction,) = tw.predict(model(), IMAGES[0], class_names=names)
    assert {name for name, _ in prediction} == {"ant", "bee"}
    assert tw.interpret.report(model(), OTHERS, names).class_names == ("ant", "bee")
    assert tw.interpret.grad_cam(model(), IMAGES[0], class_index=1, class_names=names).class_name == "bee"


def test_read_folder_takes_them_too(folder: Path) -> None:
    assert tw.data.read_folder(folder, 8, class_names={1: "a", 0: "b"}).class_names == ["b", "a"]
    table = {"path": [str(path) for path in sorted(folder.glob("*/*.png"))], "x": [1] * 12, "y": [0] * 12}
    found = tw.data.read_folder(table, 8, class_names={0: "y", 1: "x"})
    assert found.class_names == ["y", "x"]


WRONG = {
    "a set": ({"ant", "bee"}, "a list of names in the order .* Received: set of 2"),
    "a frozenset": (frozenset({"ant", "bee"}), "a list of names in the order"),
    "a string": ("ant", "a list of names in the order .* Received: str, 'ant'"),
    "a number": (2, "a list of names in the order"),
    "a table": (np.array([["ant"], ["bee"]]), "a list of names in the order .* shape \\(2, 1\\)"),
    "from 1 on": ({1: "ant", 2: "bee"}, "by their numbers, from 0 on, each once"),
    "one left out": ({0: "ant", 2: "bee"}, "by their numbers, from 0 on, each once"),
    "neither": ({"ant": "x", "bee": "y"}, "by their numbers, from 0 on, each once"),
    "one twice": ({"ant": 0, "bee": 0}, "by their numbers, from 0 on, each once"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_has_no_order_is_refused(kind: str, folder: Path) -> None:
    names, message = WRONG[kind]
    for verb, call in {
        "predict": lambda: tw.predict(model(), IMAGES[0], class_names=names),
        "report": lambda: tw.interpret.report(model(), OTHERS, names),
        "grad_cam": lambda: tw.interpret.grad_cam(model(), IMAGES[0], class_names=names),
        "suspects": lambda: tw.interpret.suspects(backbone(), OTHERS, class_names=names, verbose=0),
        "read_folder": lambda: tw.data.read_folder(folder, 8, class_names=names),
    }.items():
        with pytest.raises(ValueError, match=f"^{verb}: class_names .*{message}"):
            call()
