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


# What the model was compiled with


@pytest.mark.parametrize(
    "verb", [fit, fit_with_store, fit_plainly, fit_head, compare_boundaries, find_learning_rate]
)
def test_a_model_without_a_loss(
    verb: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_model()
    bare = keras.Model(made.inputs, made.outputs, name="small")
    bare.compile("sgd")
    monkeypatch.setitem(globals(), "make_model", lambda: bare)
    with pytest.raises(ValueError, match=r"^\w+: 'small' was compiled without a loss, .* loss=None"):
        verb((IMAGES, LABELS), OTHERS, tmp_path)


def two_outputs(*arguments: Any, **options: Any) -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1, trainable=False)(inputs / 255.0))
    outputs = [layers.Dense(2, activation="softmax", name="a")(x), layers.Dense(1, name="b")(x)]
    model = keras.Model(inputs, outputs, name="two")
    model.compile("sgd", *arguments, **options)
    return model


SPARSE = "sparse_categorical_crossentropy"
BOTH_LABELS = {"a": LABELS, "b": LABELS.astype("float32")}


@pytest.mark.parametrize("cache", ["memory", False])
@pytest.mark.parametrize(
    ("compiled", "y", "message"),
    [
        (({"a": SPARSE},), BOTH_LABELS, r"losses cannot be computed .* Expected keys .*'a', 'b'"),
        (({"a": SPARSE, "c": "mse"},), BOTH_LABELS, r"losses cannot .*found loss.keys.*'c'"),
        (([SPARSE, "mse"], [1.0]), BOTH_LABELS, "losses cannot .*`loss_weights` must match"),
        (({"a": SPARSE, "b": "mse"}, {"c": 1.0}), BOTH_LABELS, "losses cannot .*no such key: a"),
        (([SPARSE, "mse"], None, ["accuracy"]), BOTH_LABELS, "metrics .* cannot .*`metrics`"),
        (([SPARSE, "mse"],), {"a": LABELS}, "labels of shape .*losses cannot .* different structures"),
        (([None, None],), BOTH_LABELS, "'two' was compiled without a loss"),
        (({},), BOTH_LABELS, "'two' was compiled without a loss"),
    ],
)
def test_what_does_not_fit_the_outputs(compiled: Any, y: Any, message: str, cache: Any) -> None:
    with pytest.raises(ValueError, match=rf"^fit: .*{message}") as error:
        tw.fit(two_outputs(*compiled), IMAGES, y, cache=cache, verbose=0)
    assert "compiled without" in str(error.value) or "outputs, a, b, or lists" in str(error.value)


def test_labels_in_a_dict_for_one_output() -> None:
    model = make_model()
    with pytest.raises(ValueError, match=r"^fit: .* cannot be computed .* Give labels .* as one array"):
        tw.fit(model, IMAGES, {model.output_names[0]: LABELS}, verbose=0)


def test_an_output_without_a_loss_needs_no_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = []
    for y in ([LABELS, None], [LABELS, LABELS]):
        keras.utils.set_random_seed(1)
        model = two_outputs([SPARSE, None])
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            tw.fit(model, IMAGES, y, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_losses_that_layers_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    class Activity(layers.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(keras.ops.mean(x**2))
            return x

    def model(last: Any, **options: Any) -> keras.Model:
        inputs = keras.Input((4, 4, 3))
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1, trainable=False)(inputs / 255.0))
        made = keras.Model(inputs, last(layers.Dense(2, **options)(x)))
        made.compile("sgd")
        return made

    assert tw.fit(model(Activity()), IMAGES, verbose=0).history["loss"]
    penalty = {"kernel_regularizer": "l2"}
    with pytest.raises(ValueError, match="compiled without a loss"):
        tw.fit(model(layers.ReLU(), **penalty), IMAGES, verbose=0)
