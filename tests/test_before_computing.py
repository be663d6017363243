"""What lies in memory is looked through, by every function, before an image goes through the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import topwork as tw
from topwork._data.checks import Guard
from topwork._features.frozen_part import FrozenPart

IMAGES = np.random.default_rng(0).uniform(0, 255, (100, 4, 4, 3)).astype("float32")
LABELS = np.arange(100) % 2
OTHERS = IMAGES[:60] + 0.5, LABELS[:60]


def make_model(**options: Any) -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(4, 1, trainable=False, name="cut")(layers.Rescaling(1 / 255)(inputs))
    outputs = layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs, name="small")
    model.compile("sgd", "sparse_categorical_crossentropy", **options)
    return model


def backbone() -> keras.Model:
    model = make_model()
    return keras.Model(model.inputs, model.get_layer("cut").output, name="backbone")


def fit(train: Any, validation: Any, folder: Path) -> Any:
    return tw.fit(make_model(), *train, validation_data=validation, verbose=0)


def fit_with_store(train: Any, validation: Any, folder: Path) -> Any:
    return tw.fit(make_model(), *train, validation_data=validation, cache_dir=folder, verbose=0)


def fit_plainly(train: Any, validation: Any, folder: Path) -> Any:
    return tw.fit(make_model(), *train, validation_data=validation, cache=False, verbose=0)


def fit_head(train: Any, validation: Any, folder: Path) -> Any:
    return tw.fit_head(make_model(), *train, validation_data=validation, verbose=0)


def compare_cuts(train: Any, validation: Any, folder: Path) -> Any:
    return tw.compare_cuts(backbone(), train, validation, cut_layers=["cut"], verbose=0)


def compare_boundaries(train: Any, validation: Any, folder: Path) -> Any:
    return tw.compare_boundaries(make_model(), train, validation, boundaries=[1], epochs=1, verbose=0)


def find_learning_rate(train: Any, validation: Any, folder: Path) -> Any:
    return tw.callbacks.find_learning_rate(make_model(), *train, verbose=0)


def precompute(train: Any, validation: Any, folder: Path) -> Any:
    return tw.precompute(make_model(), train[0], cache_dir=folder, verbose=0)


def features(train: Any, validation: Any, folder: Path) -> Any:
    return tw.features(make_model(), train[0], verbose=0)


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise AssertionError("an image went through the network")

    monkeypatch.setattr(FrozenPart, "rows", run)
    monkeypatch.setattr(keras.Model, "fit", run)


def last_is(value: Any, array: Any) -> Any:
    changed = array.copy()
    changed[-1] = value
    return changed


BOTH = [fit, fit_with_store, fit_plainly, fit_head, compare_cuts, compare_boundaries]


@pytest.mark.parametrize("verb", [*BOTH, find_learning_rate, precompute, features])
def test_the_last_pixels(verb: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pixels that are NaN or infinite, .* first in image 99"):
        verb((last_is(np.inf, IMAGES), LABELS), OTHERS, tmp_path)


@pytest.mark.parametrize("verb", BOTH)
def test_the_last_pixels_of_the_validation_data(verb: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the validation data.* has pixels that are NaN or infinite"):
        verb((IMAGES, LABELS), (last_is(np.nan, OTHERS[0]), OTHERS[1]), tmp_path)


@pytest.mark.parametrize("verb", [*BOTH, find_learning_rate])
@pytest.mark.parametrize("wrong", [-1, 7, 0.5, np.nan])
def test_the_last_label(verb: Callable[..., Any], wrong: float, tmp_path: Path) -> None:
    if verb is compare_cuts and wrong in (-1, 7):
        pytest.skip("a comparison takes any whole numbers")
    with pytest.raises(ValueError, match=r"the training data has .*label|labels must be class numbers"):
        verb((IMAGES, last_is(wrong, LABELS.astype("float32"))), OTHERS, tmp_path)


@pytest.mark.parametrize("verb", BOTH)
@pytest.mark.parametrize("wrong", [7, np.nan])
def test_the_last_label_of_the_validation_data(
    verb: Callable[..., Any], wrong: float, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"the validation data has .*label"):
        verb((IMAGES, LABELS), (OTHERS[0], last_is(wrong, OTHERS[1].astype("float32"))), tmp_path)


@pytest.mark.parametrize("verb", [fit, fit_head])
def test_the_last_weight(verb: Callable[..., Any], tmp_path: Path) -> None:
    weights = last_is(np.nan, np.ones(100, "float32"))
    with_weights = {"sample_weight": weights, "verbose": 0}
    with pytest.raises(ValueError, match="sample weights that are NaN or infinite, first at image"):
        (tw.fit if verb is fit else tw.fit_head)(make_model(), IMAGES, LABELS, **with_weights)
    with pytest.raises(ValueError, match="the validation data has sample weights that are NaN"):
        verb((IMAGES, LABELS), (*OTHERS, weights[-60:]), tmp_path)


def test_pixels_are_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    seen: list[int] = []
    look = Guard._check_finite
    monkeypatch.setattr(
        Guard,
        "_check_finite",
        lambda guard, name, array: (seen.append(len(array)), look(guard, name, array)),
    )
    for verb in (fit, fit_head):
        seen.clear()
        verb((IMAGES, LABELS), OTHERS, Path())
        assert sum(seen) == 160
