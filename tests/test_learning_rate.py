"""`OneCycle` and `find_learning_rate`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import topwork as tw
from topwork.callbacks import OneCycle, find_learning_rate


def model_of(optimizer: Any, **options: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **options)
    return model


class Rates(keras.callbacks.Callback):
    """The rates that steps were made with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen.append(float(self.model.optimizer.learning_rate))


X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("fit", [tw.fit, keras.Model.fit])
def test_the_rate_rises_falls_and_is_restored(fit: Any) -> None:
    model, rates = model_of(keras.optimizers.Adam(0.5)), Rates()
    fit(model, X, Y, batch_size=4, epochs=4, callbacks=[OneCycle(0.1, warmup=0.25), rates], verbose=0)
    assert len(rates.seen) == 40
    assert np.argmax(rates.seen) in (9, 10)
    assert max(rates.seen) == pytest.approx(0.1, rel=0.06)
    assert (np.diff(rates.seen[:9]) > 0).all()
    assert (np.diff(rates.seen[11:]) < 0).all()
    assert 0 < rates.seen[-1] < 1e-3
    assert float(model.optimizer.learning_rate) == 0.5


def test_the_cycle_is_that_of_the_call() -> None:
    model, rates = model_of("adam"), Rates()
    model.fit(X, Y, epochs=9, initial_epoch=6, callbacks=[OneCycle(0.1), rates], verbose=0)
    assert len(rates.seen) == 6
    assert rates.seen[0] > 0.08
    assert rates.seen[-1] < 0.01


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_steps_that_are_not_known_before() -> None:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).filter(lambda x, y: True)
    model, rates = model_of("adam"), Rates()
    model.fit(data, shuffle=False, epochs=3, callbacks=[OneCycle(0.1), rates], verbose=0)
    assert len(rates.seen) == 30
    assert len(set(rates.seen[:10])) == 1
    assert rates.seen[-1] < 1e-3


@pytest.mark.parametrize("options", [{"steps_per_execution": 5}, {"steps_per_execution": 3}])
def test_several_steps_at_once(options: Any) -> None:
    model, rates = model_of("adam", **options), Rates()
    model.fit(X, Y, batch_size=4, epochs=2, callbacks=[OneCycle(0.1), rates], verbose=0)
    assert rates.seen == sorted(rates.seen[:2]) + sorted(rates.seen[2:], reverse=True)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)


def test_gradient_accumulation_and_loss_scaling() -> None:
    inner = keras.optimizers.Adam(0.5, gradient_accumulation_steps=2)
    model = model_of(keras.optimizers.LossScaleOptimizer(inner))
    model.fit(X, Y, epochs=2, callbacks=[OneCycle(0.1)], verbose=0)
    assert float(inner.learning_rate) == 0.5


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="Keras 3.15 and later")
def test_several_optimizers_keep_their_shares() -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1, name="b")(keras.layers.Dense(2, name="a")(inputs)))
    rates = keras.optimizers.OptimizerMap(default_optimizer=keras.optimizers.SGD(0.4))
    slow = rates["a/.*"] = keras.optimizers.SGD(0.1)
    model.compile(keras.optimizers.MultiOptimizer(rates), "mse")
    seen = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(
            float(slow.learning_rate) / float(rates.default_optimizer.learning_rate)
        )
    )
    model.fit(X, Y, callbacks=[OneCycle(0.01), note], verbose=0)
    assert seen == [pytest.approx(0.25)] * 2
    assert float(slow.learning_rate) == pytest.approx(0.1)


def test_after_an_interruption_the_rate_comes_back() -> None:
    def interrupt(batch: int, logs: Any) -> None:
        raise KeyboardInterrupt

    model, cycle = model_of(keras.optimizers.Adam(0.5)), OneCycle(0.1)
    stop = keras.callbacks.LambdaCallback(on_train_batch_begin=interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, callbacks=[cycle, stop], verbose=0)
    model.fit(X, Y, callbacks=[cycle], verbose=0)
    assert float(model.optimizer.learning_rate) == 0.5


@pytest.mark.parametrize(("optimizer", "peak"), [("sgd", 1e-2), ("rmsprop", 1e-3)])
def test_the_default_peak(optimizer: str, peak: float) -> None:
    model, rates = model_of(optimizer), Rates()
    model.fit(X, Y, batch_size=1, epochs=2, callbacks=[OneCycle(), rates], verbose=0)
    assert max(rates.seen) == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize("peak", [0, -1.0, float("nan"), float("inf"), "high", True])
def test_a_peak_that_is_none(peak: Any) -> None:
    with pytest.raises(ValueError, match=r"^OneCycle: peak is a rate greater than 0, or None\. Rec"):
        OneCycle(peak)


def test_a_warmup_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"^OneCycle: warmup is the part of the steps .* Received: 1\."):
        OneCycle(warmup=1)


def test_a_schedule_is_refused_in_words() -> None:
    model = model_of(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)))
    with pytest.raises(ValueError, match=r"^OneCycle: the optimizer .* has a schedule"):
        model.fit(X, Y, callbacks=[OneCycle()], verbose=0)


# The range test


def with_backbone(optimizer: Any = "adam") -> keras.Model:
    inputs = keras.Input((3,))
    frozen = keras.layers.Dense(8, "relu", name="frozen", trainable=False)(inputs)
    hidden = keras.layers.BatchNormalization()(keras.layers.Dropout(0.5)(frozen))
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(optimizer, "mse", metrics=["mae", keras.metrics.MeanSquaredError()])
    return model


def test_everything_is_as_it_was() -> None:
    model = with_backbone()
    model.fit(X, Y, verbose=0)
    metrics = [v for metric in model.metrics for v in metric.variables]
    variables = [*model.variables, *model.optimizer.variables, *metrics]
    before, state = [np.array(v) for v in variables], np.random.get_state()[1].copy()
    found = find_learning_rate(model, X, Y, verbose=0)
    assert all(np.array_equal(a, v) for a, v in zip(before, variables, strict=True))
    np.testing.assert_array_equal(state, np.random.get_state()[1])
    assert 1e-6 < found.best < 1
    assert "best: " in str(found)


def test_the_best_rate_is_below_the_edge_of_divergence() -> None:
    inputs = keras.Input((3,))
    frozen = keras.layers.Dense(3, name="frozen", use_bias=False, trainable=False)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(frozen))
    model.get_layer("frozen").set_weights([np.eye(3)])
    model.compile("sgd", "mse")
    found = find_learning_rate(model, X, Y, highest=100.0, verbose=0)
    # For this loss, gradient descent diverges from about 1 / variance = 1 on.
    assert 0.01 < found.best < 0.5
    assert len(found.rates) < 100
    pytest.importorskip("matplotlib")
    assert found.plot().axes[0].get_xlabel() == "learning rate"


def test_what_the_range_test_refuses() -> None:
    with pytest.raises(ValueError, match=r"^find_learning_rate: nothing of .* can be computed once"):
        find_learning_rate(model_of("sgd"), X, Y)
    with pytest.raises(ValueError, match=r"rates go from lowest to highest, .* lowest=1, highest=0\.1"):
        find_learning_rate(with_backbone(), X, Y, lowest=1, highest=0.1)
    with pytest.raises(ValueError, match=r"steps must be a whole number of at least 10\. Received: 3"):
        find_learning_rate(with_backbone(), X, Y, steps=3)
    compiled = with_backbone()
    model = keras.Model(compiled.inputs, compiled.outputs)
    with pytest.raises(ValueError, match=r"^find_learning_rate: .* was not compiled"):
        find_learning_rate(model, X, Y)
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    with pytest.raises(ValueError, match=r"^find_learning_rate: the optimizer .* has a schedule"):
        find_learning_rate(with_backbone(keras.optimizers.SGD(schedule)), X, Y, verbose=0)
