"""`fit_head`: the optimum, what counts in it, what it reports, and what it refuses."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import topwork as tw
from topwork._training import linear
from topwork._training.linear import fit_linear
from topwork._training.linear_fits import Examples

# Trained and validated on one small set of images; test_shared_images.py looks at what is said of that.
pytestmark = pytest.mark.filterwarnings("ignore:.*training data (too|itself)")

N_FEATURES = 6


def task(n_images: int = 120, n_classes: int = 3, seed: int = 0) -> tuple[Any, Any]:
    """Features of different scales and classes that depend on them."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_images, N_FEATURES)) * np.arange(1, N_FEATURES + 1) + 3
    directions = np.random.default_rng(0).normal(size=(N_FEATURES, n_classes))
    scores = (features - 3) @ directions + rng.gumbel(size=(n_images, n_classes))
    return features.astype("float32"), scores.argmax(axis=1)


def on_features(
    units: int, activation: str | None, loss: Any, metrics: Any = (), **options: Any
) -> keras.Model:
    """A model that is one Dense layer, on features that are its input."""
    inputs = keras.Input((N_FEATURES,))
    outputs = keras.layers.Dense(units, activation=activation, name="top", **options)(inputs)
    model = keras.Model(inputs, outputs, name="small")
    model.compile("sgd", loss, metrics=list(metrics))
    return model


def softmax_model(units: int = 3, **options: Any) -> keras.Model:
    return on_features(units, "softmax", "sparse_categorical_crossentropy", ["accuracy"], **options)


def on_images(n_classes: int = 3, **options: Any) -> keras.Model:
    backbone = tw.load_backbone("mobilenet", "conv_pw_3_relu", weights=None, input_shape=(32, 32, 3))
    return tw.add_head(n_classes, hidden_units=None, **options)(tw.freeze(backbone))


def images(n: int = 24, n_classes: int = 3) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % n_classes
    tints = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])[labels % 3]
    pixels = rng.normal(tints[:, None, None], 40, (n, 32, 32, 3))
    return np.clip(pixels, 0, 255).astype("float32"), labels


def scores(model: keras.Model, features: Any) -> Any:
    kernel, bias = model.get_layer("top").get_weights()
    return features @ kernel + bias


def solve(model: keras.Model, *data: Any, **options: Any) -> keras.callbacks.History:
    return tw.fit_head(model, *data, verbose=0, **options)


# The optimum


def examples(features: Any, targets: Any, weights: Any = None, n_outputs: int = 3) -> Examples:
    weights = np.ones(len(features)) if weights is None else weights
    return Examples(
        features.__getitem__, np.arange(len(features)), targets, weights, N_FEATURES, n_outputs
    )


def pareto(features: Any) -> Any:
    scaled = (features - features.mean(axis=0)) / np.sqrt(features.std(axis=0))
    return scaled / np.sqrt((scaled**2).sum(axis=1).mean())


def test_numbers_are_solved_for_by_ridge_regression() -> None:
    features, _ = task()
    targets = features @ np.arange(12.0).reshape(6, 2) * [1, 1000] + 50
    targets += np.random.default_rng(1).normal(size=targets.shape) * [1, 1000]
    solved = fit_linear(
        examples(features, targets, n_outputs=2), "squared", strengths=[0.3], tolerance=1e-7
    )
    rows, centred = pareto(features), targets - targets.mean(axis=0)
    weights = np.linalg.solve(rows.T @ rows + 0.3 * np.eye(N_FEATURES), rows.T @ centred)
    expected = rows @ weights + targets.mean(axis=0)
    np.testing.assert_allclose(solved.scores(features), expected, rtol=1e-4, atol=1e-2)


@pytest.mark.thorough
def test_sigmoid_units_with_weights_are_the_regression_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, labels = task(n_classes=2)
    whole = np.repeat(np.arange(120), 1 + labels)  # what weights stand for
    weights = (1 + labels) / (1 + labels).mean()
    solved = fit_linear(
        examples(features, labels[:, None].astype(float), 1.0 + labels, 1),
        "sigmoid",
        strengths=[0.2],
        tolerance=1e-7,
    )
    rows = (features - features[whole].mean(axis=0)) / np.sqrt(features[whole].std(axis=0))
    rows /= np.sqrt((rows[whole] ** 2).sum(axis=1).mean())
    peer = linear_model.LogisticRegression(C=5, tol=1e-8, max_iter=5000)
    peer.fit(rows, labels, sample_weight=weights)
    expected = peer.decision_function(rows)
    np.testing.assert_allclose(solved.scores(features)[:, 0], expected, atol=5e-3)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
def test_features_read_in_blocks_have_the_same_solution(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = task()
    data = examples(features, labels if loss == "softmax" else np.eye(3)[labels])
    whole = fit_linear(data, loss)
    monkeypatch.setattr("topwork._training.linear_fits._BLOCK_SIZE", 300)
    blocks = fit_linear(data, loss, memory=0)
    assert blocks.strengths == whole.strengths
    np.testing.assert_allclose(blocks.scores(features), whole.scores(features), rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize("loss", ["sigmoid", "squared"])
def test_each_label_and_each_number_has_a_penalty_of_its_own(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "fold_of", lambda targets, n_folds: np.arange(len(targets)) % n_folds)
    features, _ = task(200)
    scores = (features - 3) @ np.arange(N_FEATURES)
    noise = scores.std() * np.random.default_rng(1).normal(size=200)
    targets = np.stack([scores + 0.3 * noise, noise, scores + 2 * noise], axis=1)
    targets = (targets > 0).astype(float) if loss == "sigmoid" else targets
    together = fit_linear(examples(features, targets), loss)
    assert together.strengths[0] < together.strengths[2] < together.strengths[1]
    for place in range(3):
        alone = fit_linear(examples(features, targets[:, [place]], n_outputs=1), loss)
        assert (together.strengths[place],) == alone.strengths
        assert together.losses[place].keys() == alone.losses[0].keys()
        found, expected = together.scores(features)[:, place], alone.scores(features)[:, 0]
        np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
@pytest.mark.parametrize("intercept", [True, False])
def test_of_fewer_images_than_features_the_solution_is_the_same(
    loss: str, intercept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(1, np.arange(1, 101), size=(40, 100)).astype("float32")
    features[7] = features[3]  # rows that do not span as many dimensions as there are
    labels = (features[:, :3] / np.arange(1, 4)).argmax(axis=1)
    targets = labels if loss == "softmax" else np.eye(3)[labels]
    data = dataclasses.replace(examples(features, targets), n_features=100)
    options: dict[str, Any] = {"intercept": intercept, "strengths": (0.1,), "tolerance": 1e-6}
    found = fit_linear(data, loss, **options)
    monkeypatch.setattr("topwork._training.linear_fits._MOST_ROWS", 0)
    plain = fit_linear(data, loss, **options)
    scale = np.abs(plain.kernel).max()
    np.testing.assert_allclose(found.kernel / scale, plain.kernel / scale, atol=1e-3)
    np.testing.assert_allclose(found.scores(features), plain.scores(features), rtol=1e-3, atol=1e-3)


def test_of_much_data_a_part_chooses_the_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = task(2000)
    exact = fit_linear(examples(features, labels), "softmax")
    monkeypatch.setattr(linear, "_FOLDS_WORK", 0)
    monkeypatch.setattr(linear, "_CHOICE_WORK", 0)
    with_less = fit_linear(examples(features, labels), "softmax")
    assert with_less.losses[0].keys() >= set(with_less.strengths)
    difference = np.abs(with_less.scores(features) - exact.scores(features))
    assert difference.max() < 0.1 * np.abs(exact.scores(features)).max()


# Each kind of head


def test_softmax_is_near_what_long_training_ends_at() -> None:
    features, labels = task(400)
    model = softmax_model()
    solve(model, features, labels)
    other = task(1000, seed=1)
    accuracy = model.evaluate(*other, verbose=0)[1]
    best = ((other[0] - 3) @ np.random.default_rng(0).normal(size=(N_FEATURES, 3))).argmax(1) == other[1]
    assert accuracy > best.mean() - 0.02


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_sigmoid_unit(shape: tuple[int, ...]) -> None:
    features, labels = task(n_classes=2)
    model = on_features(1, "sigmoid", "binary_crossentropy", ["accuracy"])
    history = solve(model, features, labels.reshape(shape))
    assert history.history["accuracy"][0] > 0.85


def test_several_labels_an_image() -> None:
    features, _ = task()
    labels = (features - 3) @ np.random.default_rng(5).normal(size=(N_FEATURES, 4)) > 0
    model = on_features(4, "sigmoid", "binary_crossentropy", [keras.metrics.BinaryAccuracy()])
    history = solve(model, features, labels.astype("float32"))
    assert history.history["binary_accuracy"][0] > 0.95


def test_numbers_in_units_of_their_own() -> None:
    features, _ = task()
    targets = 1000 + features @ np.arange(6.0)
    inputs = keras.Input((N_FEATURES,))
    outputs = keras.layers.Rescaling(7.0, 900.0)(keras.layers.Dense(1)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", metrics=["mae"])
    assert solve(model, features, targets).history["mae"][0] < 0.1


def test_the_activation_may_be_a_layer_or_in_the_loss() -> None:
    features, labels = task()
    inputs = keras.Input((N_FEATURES,))
    results = []
    for end, from_logits in (("layer", False), ("softmax", False), (None, True)):
        outputs = keras.layers.Dense(3, name="top")(inputs)
        if end:
            layer = keras.layers.Softmax() if end == "softmax" else keras.layers.Activation("softmax")
            outputs = layer(outputs)
        model = keras.Model(inputs, outputs)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits))
        solve(model, features, labels)
        results.append(scores(model, features))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_one_hot_and_class_numbers_are_the_same() -> None:
    features, labels = task()
    model, other = softmax_model(), on_features(3, "softmax", "categorical_crossentropy")
    solve(model, features, labels)
    solve(other, features, np.eye(3)[labels].astype("float32"))
    np.testing.assert_allclose(scores(model, features), scores(other, features), atol=1e-4)


def test_label_smoothing_keeps_the_probabilities_apart_from_0_and_1() -> None:
    features, labels = task()
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.3)
    model = on_features(3, "softmax", loss)
    history = solve(model, features, np.eye(3)[labels].astype("float32"))
    expected = model.evaluate(features, np.eye(3)[labels], verbose=0)
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-5)
    plain = softmax_model()
    solve(plain, features, labels)
    sure = [each.predict(features, verbose=0).max(axis=1).mean() for each in (model, plain)]
    assert sure[0] < sure[1] - 0.05


def test_without_bias() -> None:
    features, labels = task()
    model = softmax_model(use_bias=False)
    history = solve(model, features, labels)
    (kernel,) = model.get_layer("top").get_weights()
    expected = ((features @ kernel).argmax(axis=1) == labels).mean()
    assert history.history["accuracy"][0] == pytest.approx(expected)
    assert history.history["accuracy"][0] > 0.7


def test_a_class_without_an_image_is_never_answered() -> None:
    features, labels = task()
    model = softmax_model(4)
    with pytest.warns(UserWarning, match="fit_head: the training data has no image of class 3, "):
        solve(model, features, labels)
    assert model.predict(features, verbose=0)[:, 3].max() < 0.02


def test_a_class_that_the_loss_ignores_does_not_count() -> None:
    features, labels = task()
    model = on_features(3, "softmax", keras.losses.SparseCategoricalCrossentropy(ignore_class=-1))
    solve(model, features, np.where(np.arange(120) < 60, -1, labels))
    half = softmax_model()
    solve(half, features[60:], labels[60:])
    np.testing.assert_allclose(scores(model, features), scores(half, features), atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_other_precisions(policy: str) -> None:
    features, labels = task()
    history = solve(softmax_model(dtype=policy), features, labels)
    assert history.history["accuracy"][0] > 0.7


# What counts


def test_a_weight_of_two_is_an_image_twice() -> None:
    features, labels = task()
    twice = np.repeat(np.arange(120), 1 + (labels == 1))
    options = {"strengths": [0.1], "tolerance": 1e-6}
    weighted = fit_linear(examples(features, labels, 1.0 + (labels == 1)), "softmax", **options)
    # Weights are relative, and a penalty is to be seen beside all images.
    repeated = fit_linear(
        examples(features[twice], labels[twice]),
        "softmax",
        strengths=[0.1 * len(twice) / 120],
        tolerance=1e-6,
    )
    np.testing.assert_allclose(weighted.scores(features), repeated.scores(features), atol=5e-3)


def test_an_image_of_weight_0_does_not_count() -> None:
    features, labels = task()
    spoilt, weights = features.copy(), np.ones(120)
    spoilt[:30], weights[:30] = 1e6, 0
    model, half = softmax_model(), softmax_model()
    solve(model, spoilt, labels, sample_weight=weights)
    solve(half, features[30:], labels[30:])
    np.testing.assert_allclose(scores(model, features), scores(half, features), atol=1e-4)


@pytest.mark.parametrize("one_unit", [True, False])
def test_balanced_classes_count_the_same(one_unit: bool) -> None:
    features, labels = task(n_classes=2)
    keep = np.flatnonzero((labels == 0) | (np.arange(120) % 6 == 0))
    features, labels = features[keep], labels[keep]
    counts = np.bincount(labels)
    by_hand = (len(labels) / 2 / counts)[labels]
    solutions = []
    for options in ({"class_weight": "balanced"}, {"sample_weight": by_hand}, {"class_weight": {0: 1.0}}):
        model = on_features(1, "sigmoid", "binary_crossentropy") if one_unit else softmax_model(2)
        solve(model, features, labels, **options)
        solutions.append(scores(model, features))
    np.testing.assert_allclose(solutions[0], solutions[1], atol=1e-5)
    assert np.abs(solutions[0] - solutions[2]).max() > 0.1


@pytest.mark.parametrize("given", [{1: 3.0}, [1, 3, 1], np.array([1.0, 3.0, 1.0])])
def test_class_weights_by_number(given: Any) -> None:
    features, labels = task()
    first, second = softmax_model(), softmax_model()
    solve(first, features, labels, class_weight=given)
    solve(second, features, labels, sample_weight=np.where(labels == 1, 3.0, 1.0))
    np.testing.assert_allclose(scores(first, features), scores(second, features), atol=1e-5)


def test_it_is_the_same_every_time() -> None:
    features, labels = task()
    first, second = softmax_model(), softmax_model()
    solve(first, features, labels)
    keras.utils.set_random_seed(99)
    solve(second, features, labels)
    np.testing.assert_array_equal(scores(first, features), scores(second, features))


# On images


def test_the_history_is_what_evaluate_gives() -> None:
    model = on_images()
    model.compile(
        "adam",
        "sparse_categorical_crossentropy",
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)],
        weighted_metrics=["accuracy"],
    )
    x, y = images()
    weights = 1.0 + np.arange(24)
    validation = (x[::2], y[::2], weights[::2])
    history = solve(model, x, y, sample_weight=weights, validation_data=validation)
    expected = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    on_validation = model.evaluate(
        *validation[:2], sample_weight=validation[2], verbose=0, return_dict=True
    )
    expected |= {f"val_{name}": value for name, value in on_validation.items()}
    assert history.history.keys() == expected.keys()
    for name, value in expected.items():
        assert history.history[name] == [pytest.approx(value, rel=1e-5)]
    assert isinstance(history, keras.callbacks.History)
    assert history is model.history
    assert history.model is model
    assert history.epoch == [0]
    assert history.params["epochs"] == 1
    assert history.params["strength"] in linear.STRENGTHS


def test_data_sets_give_the_same_as_arrays() -> None:
    import tensorflow as tf

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, i: int) -> Any:
            return x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8]

    x, y = images()
    kernels = []
    for data in ((x, y), (tf.data.Dataset.from_tensor_slices((x, y)).batch(7),), (Batches(),)):
        model = on_images()
        model.get_layer("conv1").set_weights([np.full((3, 3, 3, 32), 0.01)])
        for layer in model.layers:
            if layer.weights and not layer.name.startswith(("conv1", "head")):
                layer.set_weights([np.full(w.shape, 0.1) for w in layer.get_weights()])
        solve(model, *data)
        kernels.append(model.get_layer("head_output").get_weights()[0])
    np.testing.assert_allclose(kernels[0], kernels[1], atol=1e-5)
    np.testing.assert_allclose(kernels[0], kernels[2], atol=1e-5)


def test_fit_finds_the_features_that_it_stored(tmp_path: Path) -> None:
    model, (x, y) = on_images(), images()
    solve(model, x, y, cache_dir=tmp_path)
    assert tw.precompute(model, x, cache_dir=tmp_path, verbose=0) == 0


def test_only_the_dense_layer_changes_and_the_file_is_plain(tmp_path: Path) -> None:
    model, (x, y) = on_images(), images()
    before = {w.path: w.numpy() for w in model.variables}
    solve(model, x, y)
    after = {w.path: w.numpy() for w in model.variables}
    changed = [path for path in before if not np.array_equal(before[path], after[path])]
    assert sorted(changed) == ["head_output/bias", "head_output/kernel"]
    model.save(tmp_path / "solved.keras")
    loaded = keras.saving.load_model(tmp_path / "solved.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


def test_augmentation_and_dropout_layers_have_no_part_in_it() -> None:
    x, y = images()
    plain = on_images(dropout=0.0)
    inputs = keras.Input((32, 32, 3))
    features = plain.get_layer("head_pooling").output
    backbone = keras.Model(plain.input, features)
    turned = keras.layers.RandomFlip()(keras.layers.RandomRotation(0.5)(inputs))
    outputs = keras.layers.Dense(3, "softmax", name="top")(
        keras.layers.GaussianNoise(0.9)(backbone(turned))
    )
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    solve(plain, x, y)
    solve(model, x, y)
    np.testing.assert_allclose(
        model.get_layer("top").kernel, plain.get_layer("head_output").kernel, atol=1e-4
    )


def test_fine_tuning_starts_from_it_under_guard() -> None:
    model, (x, y) = on_images(), images()
    head = solve(model, x, y, validation_data=(x, y))
    solved = model.get_layer("head_output").get_weights()
    tw.fine_tune(model, "conv_dw_3", optimizer=keras.optimizers.SGD(1e9))
    guard = tw.callbacks.KeepBest("val_loss", baseline=head, verbose=False)
    tuned = tw.fit(model, x, y, validation_data=(x, y), epochs=1, callbacks=[guard], verbose=0)
    np.testing.assert_array_equal(model.get_layer("head_output").get_weights()[0], solved[0])
    pytest.importorskip("matplotlib")
    tw.interpret.plot_history(head, tuned)


def test_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    features, labels = task()
    tw.fit_head(softmax_model(), features, labels, validation_data=(features, labels))
    printed = capsys.readouterr().out
    assert re.search(r"topwork: head solved in \d+\.\d s, penalty [\d.e+-]+ of \d+ tried by", printed)
    assert "val_accuracy: " in printed
    solve(softmax_model(), features, labels)
    assert capsys.readouterr().out == ""


# What it refuses


def dense_twice() -> keras.Model:
    inputs = keras.Input((N_FEATURES,))
    layer = keras.layers.Dense(N_FEATURES, name="top")
    model = keras.Model(inputs, layer(layer(inputs)), name="small")
    model.compile("sgd", "mse")
    return model


def on_maps() -> keras.Model:
    inputs = keras.Input((4, 4, N_FEATURES))
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Dense(3, name="top")(inputs))
    model = keras.Model(inputs, outputs, name="small")
    model.compile("sgd", "mse")
    return model


def two_outputs() -> keras.Model:
    inputs = keras.Input((N_FEATURES,))
    outputs = keras.layers.Dense(2, name="top")(inputs)
    model = keras.Model(inputs, [outputs, keras.layers.Softmax()(outputs)], name="small")
    model.compile("sgd", "mse")
    return model


def squashed() -> keras.Model:
    inputs = keras.Input((N_FEATURES,))
    outputs = keras.ops.square(keras.layers.Dense(2, name="top")(inputs))
    model = keras.Model(inputs, outputs, name="small")
    model.compile("sgd", "mse")
    return model


def with_lora() -> keras.Model:
    model = softmax_model()
    model.get_layer("top").enable_lora(2)
    model.get_layer("top")._kernel.trainable = True
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def not_compiled() -> keras.Model:
    inputs = keras.Input((N_FEATURES,))
    return keras.Model(inputs, keras.layers.Dense(2)(inputs), name="small")


def frozen() -> keras.Model:
    return tw.freeze(softmax_model())


REFUSED: list[tuple[Callable[[], keras.Model], str]] = [
    (
        lambda: tw.add_head(2, hidden_units=4)(tw.freeze(on_features(3, "relu", "mse"))),
        r"one Dense layer on frozen features, .*\. Trainable in 'small': 'head_hidden' \(Dense\), 'hea",
    ),
    (frozen, r"Trainable in 'small': nothing\. Train it with fit, or make a head that can be solved"),
    (dense_twice, r"the layer 'top' is called 2 times"),
    (on_maps, r"on one vector an image, .*'top' is called on \(None, 4, 4, 6\)"),
    (lambda: softmax_model(kernel_regularizer="l2"), r"'top' has a kernel_regularizer, and fit_head"),
    (lambda: softmax_model(bias_constraint="non_neg"), r"'top' has a bias_constraint"),
    (with_lora, r"kernel of 'top' is quantized or has a low-rank adapter"),
    (two_outputs, r"as its only output\. Received: a model with 2 outputs"),
    (
        lambda: on_features(3, "softmax", "mse"),
        r"activation 'softmax' and .* the loss 'mean_squared_error'",
    ),
    (lambda: on_features(3, None, "mae"), r"activation 'linear' and .* the loss 'mean_absolute_error'"),
    (
        lambda: on_features(3, None, "sparse_categorical_crossentropy"),
        r"activation 'linear' and is compiled with the loss 'sparse_categorical_crossentropy'",
    ),
    (lambda: on_features(3, "relu", "mse"), r"activation 'relu' and is compiled with the loss 'mean_squ"),
    (
        lambda: on_features(1, "sigmoid", keras.losses.BinaryFocalCrossentropy()),
        r"the loss 'binary_focal_crossentropy': that has no optimum",
    ),
    (squashed, r"what follows the Dense layer 'top' must only scale and shift"),
    (not_compiled, r"'small' was not compiled. Call model.compile"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_heads_that_it_cannot_solve(make: Callable[[], keras.Model], message: str) -> None:
    with pytest.raises(ValueError, match=f"^fit_head: .*{message}"):
        solve(make(), *task())


@pytest.mark.parametrize("weights", [{3: 1.0}, {0: -1}, {0: float("nan")}, [1, 2], "even", {"cat": 1}])
def test_class_weights_that_are_none(weights: Any) -> None:
    with pytest.raises(ValueError, match=r"^fit_head: class_weight "):
        solve(softmax_model(), *task(), class_weight=weights)


def test_class_weights_for_labels_that_have_no_class() -> None:
    features, labels = task()
    model = on_features(3, "sigmoid", "binary_crossentropy")
    with pytest.raises(ValueError, match=r"class_weight='balanced' needs labels of one class"):
        solve(model, features, np.eye(3)[labels], class_weight="balanced")


def test_sample_weights_that_are_none() -> None:
    with pytest.raises(
        ValueError, match=r"sample weights are finite numbers of at least 0, .* -1\.0 to "
    ):
        solve(softmax_model(), *task(), sample_weight=np.r_[-1, np.ones(119)])
    with pytest.raises(ValueError, match="no image of the training data has a weight greater than 0"):
        solve(softmax_model(), *task(), sample_weight=np.zeros(120))


def test_numbers_that_do_not_fit() -> None:
    features, _ = task()
    with pytest.raises(
        ValueError, match=r"fit_head: .*labels of shape \(32, 2\), and the model gives 3 numbers"
    ):
        solve(on_features(3, None, "mse"), features, np.ones((120, 2)))
    targets = np.ones((120, 3))
    targets[7] = np.nan
    with pytest.raises(ValueError, match=r"labels that are NaN or infinite"):
        solve(on_features(3, None, "mse"), features, targets)


def test_features_that_are_not_finite() -> None:
    inputs = keras.Input((N_FEATURES,))
    outputs = keras.layers.Dense(3, "softmax", name="top")(
        keras.layers.Rescaling(1e30, dtype="float64")(inputs)
    )
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy")
    features, labels = task()
    features[5] = 1e30
    with pytest.raises(
        ValueError, match=r"the features of image 5 of the training data are NaN or infin"
    ):
        solve(model, features, labels)


def test_random_data_is_said() -> None:
    import tensorflow as tf

    x, y = images()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    data = data.map(lambda a, b: (tf.image.random_flip_left_right(a), b))
    with pytest.warns(UserWarning, match=r"fit_head: the training data is augmented at random: .* once"):
        solve(on_images(), data)
