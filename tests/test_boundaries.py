"""compare_boundaries: each fine-tuning starts the same, and the model is left as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from topwork._evidence.boundaries import NOT_AT_ALL, _copy, _Data, compare_boundaries
from topwork._evidence.scores import mean_average_precision, r2, standard_error
from topwork._networks.backbones import load_backbone
from topwork._networks.classifier import task_of
from topwork._networks.freezing import fine_tune, freeze
from topwork._networks.heads import add_head
from topwork._training.fit import fit
from topwork._training.fit_head import fit_head


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
    copy = _copy(model, task_of(model))
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
    data = _Data((), parts if len(parts) > 1 else parts[0], task_of(model), {}, 0)
    accuracy, error, n_images = data.judge(model)
    assert accuracy == pytest.approx(model.evaluate(*parts, verbose=0)[1])
    assert (error, n_images) == (standard_error(accuracy, 40), 40)


def test_logits_of_one_unit_are_counted_from_0_on() -> None:
    model = with_head(1)
    model.layers[-1].activation = keras.activations.linear
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"])
    fit(model, *TRAIN, epochs=2, verbose=0)
    found = compare_boundaries(
        model, TRAIN, VALIDATION, boundaries=["conv_3"], epochs=1, learning_rate=1e-9, verbose=0
    )
    right = (model.predict(VALIDATION[0], verbose=0)[:, 0] > 0) == VALIDATION[1]
    assert [row.accuracy for row in found] == pytest.approx([right.mean()] * 2, abs=0.03)


def with_task(n: int, task: str) -> keras.Model:
    return add_head(n, dropout=0, hidden_units=None, task=task)(freeze(trunk()))


@pytest.mark.parametrize("task", ["labels", "numbers"])
def test_several_labels_and_numbers(task: str) -> None:
    """The first of two is in the images, the other is chance; as topwork makes a head, or by hand."""
    rng = np.random.default_rng(0)

    def targets(labels: Any) -> Any:
        chance = rng.integers(0, 2, len(labels)) if task == "labels" else rng.normal(0, 9, len(labels))
        return np.stack([labels if task == "labels" else 5000.0 + 10 * labels, chance], axis=1)

    train, validation = (TRAIN[0], targets(TRAIN[1])), (VALIDATION[0], targets(VALIDATION[1]))
    model = with_task(2, task)
    fit_head(model, *train, verbose=0)
    options: dict[str, Any] = {"boundaries": ["conv_3"], "epochs": 1, "verbose": 0}
    found = compare_boundaries(model, train, validation, learning_rate=1e-9, **options)
    values = model.predict(validation[0], verbose=0)
    if task == "labels":
        metric, expected = "mean average precision", mean_average_precision(validation[1], values)
    else:
        metric, expected = "R²", r2(validation[1], values).mean()
    assert [row.metric for row in found] == [metric] * 2
    assert [row.score for row in found] == pytest.approx([expected] * 2, abs=0.02)
    assert all(0 < row.standard_error < 0.5 for row in found)
    assert all(np.isnan(row.accuracy) for row in found)
    assert f"{metric} on 40 images" in str(found)
    assert f"{expected:.3f}" in str(found)
    assert metric in found.plot().axes[0].get_xlabel()


@pytest.mark.parametrize(
    ("units", "loss", "labels", "metric"),
    [
        (2, "mse", np.eye(2), "R²"),
        (1, "mae", np.array([0.5, 1.5]), "R²"),
        (3, "binary_crossentropy", np.array([[1, 0, 1], [0, 0, 1]]), "mean average precision"),
        (2, "binary_crossentropy", np.eye(2), "mean average precision"),
    ],
)
def test_heads_of_ones_own_are_known_by_their_loss(
    units: int, loss: str, labels: Any, metric: str
) -> None:
    activation = "sigmoid" if "binary" in loss else None
    base = trunk()
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    model = keras.Model(base.inputs, keras.layers.Dense(units, activation)(pooled), name="own")
    model.compile("sgd", loss)
    train, validation = (TRAIN[0], labels[TRAIN[1]]), (VALIDATION[0], labels[VALIDATION[1]])
    options: dict[str, Any] = {"boundaries": ["conv_3"], "epochs": 1, "verbose": 0}
    assert {row.metric for row in compare_boundaries(model, train, validation, **options)} == {metric}


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


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("labels", r"labels of shape \(32,\), and the model has 3 sigmoid units, which take 0 or 1"),
        ("numbers", r"labels of shape \(32,\), and the model gives 3 numbers for each image"),
    ],
)
def test_labels_of_another_kind_than_the_model_is_for(task: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^compare_boundaries: .*{message}"):
        compare_boundaries(with_task(3, task), TRAIN, VALIDATION, verbose=0)


def test_a_model_without_one_vector_of_outputs() -> None:
    model = trunk()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"^compare_boundaries: the model must .* one output of shape"):
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
