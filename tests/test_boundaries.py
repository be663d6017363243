"""compare_boundaries: each fine-tuning starts the same, and the model is left as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from topwork._evidence.boundaries import NOT_AT_ALL, _copy, _Data, compare_boundaries
from topwork._evidence.comparison import standard_error
from topwork._networks.backbones import load_backbone
from topwork._networks.freezing import fine_tune, freeze
from topwork._networks.heads import add_head
from topwork._training.fit import fit


def coloured(n_images: int, seed: int) -> tuple[Any, Any]:
    """Noise, reddish in half of the images and bluish in the others."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_images) % 2
    tints = 30 * (2 * labels - 1)[:, None, None, None] * np.array([1, 0, -1])
    return (128 + tints + rng.normal(0, 30, (n_images, 16, 16, 3))).astype("float32"), labels


TRAIN, VALIDATION = coloured(64, seed=0), coloured(40, seed=1)


def trunk() -> keras.Model:
    inputs = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Rescaling(1 / 30, offset=-4, name="rescaling")(inputs)
    for i in range(1, 4):
        x = keras.layers.Conv2D(8, 3, padding="same", name=f"conv_{i}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{i}")(x)
        x = keras.layers.ReLU(name=f"relu_{i}")(x)
    return keras.Model(inputs, x, name="coloured")


def with_head(n_classes: int = 2) -> keras.Model:
    return add_head(n_classes, dropout=0, hidden_units=None)(freeze(trunk()))


def state(model: keras.Model) -> dict[str, Any]:
    return {
        "weights": [weight.tobytes() for weight in model.get_weights()],
        "trainable": [layer.trainable for layer in model.layers],
        "optimizer": model.optimizer,
        "optimizer state": [np.asarray(variable).tobytes() for variable in model.optimizer.variables],
        "rate": float(model.optimizer.learning_rate),
        "loss": model.loss,
        "metrics": [metric.name for metric in model.metrics],
        "configuration": model.get_compile_config(),
    }


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    """One comparison that several tests look at."""
    keras.utils.set_random_seed(0)
    model = with_head()
    fit(model, *TRAIN, epochs=2, verbose=0)
    model.layers[2].trainable = True  # Keras ignores it until the model is compiled again
    before = state(model)
    found = compare_boundaries(model, TRAIN, VALIDATION, epochs=1, learning_rate=1e-2, verbose=0)
    return {"model": model, "before": before, "after": state(model), "found": found}


def test_rows(compared: dict[str, Any]) -> None:
    model, found = compared["model"], compared["found"]
    assert [row.unfreeze_from for row in found] == [NOT_AT_ALL, "conv_3", "conv_2"]
    names = [layer.name for layer in model.layers]
    assert [row.index for row in found] == [None, names.index("conv_3"), names.index("conv_2")]
    head, conv = 9 * 2, 8 * (8 * 9 + 1)
    assert [row.trainable_parameters for row in found] == [0, head + conv, head + 2 * conv]
    for row in found:
        assert row.standard_error == standard_error(row.accuracy, 40)
    assert found[0].seconds == 0
    assert all(row.seconds > 0 for row in found.rows[1:])


def test_table_and_picture(compared: dict[str, Any]) -> None:
    found = compared["found"]
    lines = str(found).splitlines()
    assert lines[0] == "coloured after fine-tuning (epochs: 1), accuracy on 40 images"
    assert lines[2].split("  ")[0] == "unfreeze from"
    assert lines[4].startswith("not at all         -")
    assert lines[5].startswith("conv_3             8")
    axes = found.plot().axes
    labels = [tick.get_text() for tick in axes[0].get_yticklabels()]
    assert labels == ["not at all", "conv_3 (8)", "conv_2 (5)"]
    assert axes[1].get_yticklabels()[1].get_text() == "0.00 M"


def test_the_model_is_left_exactly_as_it_was(compared: dict[str, Any]) -> None:
    model = compared["model"]
    assert compared["after"] == compared["before"]
    model.layers[2].trainable = False
    model.train_on_batch(*TRAIN)  # its optimizer still knows its variables


@pytest.mark.thorough
def test_accuracies_are_those_of_fine_tune_and_fit() -> None:
    model = with_head()
    model.get_layer("head_output").kernel.assign(-model.get_layer("head_output").kernel)
    found = compare_boundaries(
        model, TRAIN, VALIDATION, boundaries=["conv_3"], epochs=5, learning_rate=0.1, verbose=0
    )
    assert found[0].accuracy == pytest.approx(model.evaluate(*VALIDATION, verbose=0)[1])
    fine_tune(model, "conv_3", learning_rate=0.1)
    history = fit(model, *TRAIN, validation_data=VALIDATION, epochs=5, verbose=0)
    assert found[1].accuracy == pytest.approx(history.history["val_accuracy"][-1], abs=0.1)
    assert found[1].accuracy > found[0].accuracy + 0.2
    assert found.best is found[1]


def test_each_fine_tuning_starts_from_the_models_weights() -> None:
    """At a learning rate of almost nothing, all are as good as the model is."""
    found = compare_boundaries(
        with_head(), TRAIN, VALIDATION, boundaries=[-5], epochs=1, learning_rate=1e-12, verbose=0
    )
    assert len({row.accuracy for row in found}) == 1
    assert found.best.unfreeze_from == NOT_AT_ALL


def test_the_model_is_left_as_it_was_when_it_fails() -> None:
    model = with_head()
    before = state(model)
    wrong = (VALIDATION[0], VALIDATION[1] + 1)
    with pytest.raises(
        ValueError, match=r"validation data has the label 2, and the training data has only 0, 1"
    ):
        compare_boundaries(model, TRAIN, wrong, boundaries=["conv_3"], verbose=0)
    assert state(model) == before


def test_a_backbone_is_copied_with_its_preprocessing() -> None:
    model = add_head(n_classes=3)(freeze(load_backbone("vgg16", weights=None, input_shape=(32, 32, 3))))
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    copy = _copy(model)
    copy.set_weights(model.get_weights())
    np.testing.assert_allclose(
        copy.predict(images, verbose=0), model.predict(images, verbose=0), rtol=1e-5
    )
    assert not {id(variable) for variable in copy.variables} & {id(each) for each in model.variables}


@pytest.mark.thorough
def test_what_is_frozen_is_computed_once_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = with_head()
    options: dict[str, Any] = {"boundaries": ["conv_3"], "epochs": 1, "cache_dir": tmp_path}
    compare_boundaries(model, TRAIN, VALIDATION, verbose=0, **options)
    assert capsys.readouterr().out == ""
    compare_boundaries(model, TRAIN, VALIDATION, **options)
    printed = capsys.readouterr().out
    assert "0 computed and 104 found" in printed
    assert "fine-tuning from layer 8, 'conv_3' (1 of 1)" in printed


@pytest.mark.parametrize("kind", ["one sigmoid unit", "one-hot", "floats in a dataset"])
def test_the_accuracy_of_the_model_as_it_is(kind: str) -> None:
    model = with_head(1 if kind == "one sigmoid unit" else 2)
    parts: tuple[Any, ...] = VALIDATION
    if kind == "one-hot":
        model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
        parts = (VALIDATION[0], np.eye(2)[VALIDATION[1]])
    if kind == "floats in a dataset":
        labels = VALIDATION[1][:, None].astype("float32")
        parts = (tf.data.Dataset.from_tensor_slices((VALIDATION[0], labels)).batch(16),)
    row, n_images = _Data((), parts if len(parts) > 1 else parts[0], None, 0).evaluate(model)
    assert row.accuracy == pytest.approx(model.evaluate(*parts, verbose=0)[1])
    assert n_images == 40


def test_not_at_all_is_nothing_that_fine_tune_takes_by_mistake() -> None:
    with pytest.raises(ValueError, match="has no layer named 'not at all'"):
        fine_tune(with_head(), NOT_AT_ALL)


# What cannot be


def test_a_model_that_was_not_compiled() -> None:
    with pytest.raises(ValueError, match=r"compare_boundaries: 'coloured' was not compiled\..*add_head"):
        compare_boundaries(trunk(), TRAIN, VALIDATION)


def test_something_else_than_a_model() -> None:
    with pytest.raises(ValueError, match=r"compare_boundaries: the model must be a keras\.Model"):
        compare_boundaries("inception_v3", TRAIN, VALIDATION)  # type: ignore[arg-type]


@pytest.mark.parametrize(("units", "loss"), [(2, "mse"), (3, "binary_crossentropy")])
def test_a_model_that_is_no_classifier(units: int, loss: str) -> None:
    model = add_head(units)(trunk())
    model.compile("sgd", loss)
    with pytest.raises(ValueError, match=rf"gives \(None, {units}\), and its loss is '{loss}'\. Compile"):
        compare_boundaries(model, TRAIN, VALIDATION)


@pytest.mark.parametrize(
    ("boundaries", "message"),
    [
        (172, r"boundaries must be a list of indices.*Received: 172"),
        ("conv_3", r"boundaries must be a list of indices.*Received: 'conv_3'"),
        ([], r"boundaries must be a list of indices.*Received: \[\]"),
        (["convv_3"], r"no layer named 'convv_3'\. Closest: 'conv_3'"),
        ([99], r"unfreeze_from=99 is out of range"),
    ],
)
def test_boundaries_that_cannot_be(boundaries: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_boundaries(with_head(), TRAIN, VALIDATION, boundaries=boundaries)


def test_a_model_without_blocks() -> None:
    inputs = keras.Input((16, 16, 3))
    model = add_head(2)(keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs), name="bare"))
    with pytest.raises(ValueError, match=r"'bare' has no block with weights to train behind a clean cut"):
        compare_boundaries(model, TRAIN, VALIDATION)


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (TRAIN[0], VALIDATION, r"the training data must be \(images, labels\) .*array of shape \(64, 16"),
        (TRAIN, None, r"the validation data must be \(images, labels\) .*Received: NoneType"),
    ],
)
def test_data_that_cannot_be(train: Any, validation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"compare_boundaries: {message}"):
        compare_boundaries(with_head(), train, validation)


def test_learning_rate_and_epochs_are_checked_before_anything_is_computed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = with_head()
    with pytest.raises(ValueError, match="learning_rate must be greater than 0"):
        compare_boundaries(model, TRAIN, VALIDATION, learning_rate=0)
    with pytest.raises(ValueError, match="epochs is the number of the last epoch"):
        compare_boundaries(model, TRAIN, VALIDATION, epochs=0)
    assert "frozen part" not in capsys.readouterr().out
