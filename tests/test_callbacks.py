from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import topwork
from topwork.callbacks import KeepBest, StopAt

# Trained and validated on one small set of images; test_shared_images.py looks at what is said of that.
pytestmark = pytest.mark.filterwarnings("ignore:.*training data (too|itself)")

X = np.array([[-2.0], [-1.0], [1.0], [2.0]], dtype="float32")
Y = np.array([0, 0, 1, 1])


def classifier() -> keras.Model:
    """Knows the answer already: positive numbers are class 1."""
    inputs = keras.Input((1,))
    x = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="frozen")(inputs)
    outputs = keras.layers.Dense(1, "sigmoid", kernel_initializer="ones", name="head")(x)
    model = keras.Model(inputs, outputs, name="classifier")
    model.get_layer("frozen").trainable = False
    model.compile(
        keras.optimizers.SGD(1e-3), "binary_crossentropy", metrics=["accuracy"], run_eagerly=True
    )
    return model


def spoil(model: keras.Model, **options: Any) -> keras.callbacks.History:
    """Fine-tune the lower layer with inverted labels and a huge rate: what was learned is lost."""
    model.get_layer("frozen").trainable = True
    model.get_layer("head").trainable = False
    model.compile(
        keras.optimizers.SGD(100.0), "binary_crossentropy", metrics=["accuracy"], run_eagerly=True
    )
    return model.fit(X, 1 - Y, validation_data=(X, Y), verbose=2, **options)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of topwork, without those of Keras."""
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("topwork: ") for line in lines if line.startswith("topwork: ")]


def accuracy(model: keras.Model) -> float:
    return model.evaluate(X, Y, verbose=0, return_dict=True)["accuracy"]


class Script(keras.callbacks.Callback):
    """Stands for training: puts prepared figures into the logs and marks the weights with them."""

    def __init__(self, name: str, figures: list[float]) -> None:
        super().__init__()
        self.name, self.figures = name, figures

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        logs[self.name] = self.figures[epoch]
        self.model.set_weights([np.full_like(w, epoch) for w in self.model.get_weights()])


def play(model: keras.Model, guard: KeepBest, figures: list[float], name: str = "val_accuracy") -> None:
    model.fit(X, Y, epochs=len(figures), verbose=2, callbacks=[Script(name, figures), guard])


class TestStopAt:
    def epochs(self, *callbacks: keras.callbacks.Callback, epochs: int = 3) -> int:
        history = classifier().fit(X, Y, epochs=epochs, verbose=2, callbacks=list(callbacks))
        return len(history.epoch)

    def test_it_stops_when_the_value_is_reached(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.epochs(Script("accuracy", [0.5, 0.8, 0.9, 1.0]), StopAt(0.9), epochs=4) == 3
        assert said(capsys) == ["accuracy reached 0.9 in epoch 3: training stops."]

    def test_it_does_not_stop_before(self) -> None:
        assert self.epochs(Script("accuracy", [0.5, 0.8, 0.89]), StopAt(0.9)) == 3

    @pytest.mark.parametrize("monitor", ["loss", "val_loss", "mean_squared_error", "val_mae"])
    def test_losses_and_errors_stop_when_low_enough(self, monitor: str) -> None:
        assert self.epochs(Script(monitor, [3.0, 0.2, 0.1]), StopAt(0.2, monitor)) == 2

    def test_mode_overrules_the_name(self) -> None:
        assert self.epochs(Script("flaws", [3.0, 0.2, 0.1]), StopAt(0.2, "flaws", mode="min")) == 2

    def test_nan_is_never_good_enough(self) -> None:
        nan = float("nan")
        assert self.epochs(Script("loss", [nan, nan, nan]), StopAt(1.0, "loss")) == 3

    def test_unmeasured_quantity(self) -> None:
        message = (
            r"^StopAt: monitor='acuracy' is not measured in this training. Received from it: "
            r"'accuracy', 'loss'. Closest: 'accuracy', 'loss'. Correct monitor, or add the metric"
        )
        with pytest.raises(ValueError, match=message):
            self.epochs(StopAt(0.9, "acuracy"))

    def test_no_validation_data(self) -> None:
        with pytest.raises(ValueError, match=r"'val_accuracy'.*Give fit validation_data"):
            self.epochs(StopAt(0.9, "val_accuracy"))

    def test_percent(self) -> None:
        message = r"^StopAt: accuracy never reaches 99.9.*: write 0.999 for 99.9 %. Received"
        with pytest.raises(ValueError, match=message):
            StopAt(99.9)
        with pytest.raises(ValueError, match=r"as fractions from 0 to 1. Received: value=-3. Give"):
            StopAt(-3)

    def test_not_a_finite_number(self) -> None:
        with pytest.raises(ValueError, match=r"finite number. Received: nan. Give the loss at"):
            StopAt(float("nan"), "loss")

    def test_unknown_mode(self) -> None:
        with pytest.raises(ValueError, match=r"^StopAt: mode must be .* Received: 'more'. Use 'max'"):
            StopAt(0.9, mode="more")  # type: ignore[arg-type]


class TestKeepBest:
    def test_fine_tuning_does_no_harm(self, capsys: pytest.CaptureFixture[str]) -> None:
        model, guard = classifier(), KeepBest()
        model.fit(X, Y, validation_data=(X, Y), verbose=0, callbacks=[guard])
        good = model.get_weights()
        history = spoil(model, epochs=3, callbacks=[guard])
        assert history.history["val_accuracy"][-1] < 1
        assert accuracy(model) == 1
        for before, after in zip(good, model.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)
        line = said(capsys)[-1]
        assert line == (
            f"KeepBest: val_accuracy ended at {history.history['val_accuracy'][-1]:.4f}, worse than "
            "1.0000 before this training: those weights are back."
        )

    def test_it_sees_the_whole_model_when_only_the_tail_is_trained(self) -> None:
        model, guard = classifier(), KeepBest(verbose=False)
        topwork.fit(model, X, Y, validation_data=(X, Y), verbose=0, callbacks=[guard])
        good = model.get_weights()
        model.compile(
            keras.optimizers.SGD(100.0), "binary_crossentropy", metrics=["accuracy"], run_eagerly=True
        )
        topwork.fit(model, X, 1 - Y, validation_data=(X, Y), verbose=0, callbacks=[guard])
        assert guard.best == accuracy(model) == 1
        for before, after in zip(good, model.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)

    def test_without_it_the_harm_is_done(self) -> None:
        model = classifier()
        spoil(model, epochs=3)
        assert accuracy(model) < 1

    @pytest.mark.parametrize("as_history", [False, True])
    def test_baseline_of_a_phase_that_it_did_not_see(self, as_history: bool) -> None:
        model = classifier()
        first = model.fit(X, Y, validation_data=(X, Y), verbose=0)
        good = model.get_weights()
        spoil(model, callbacks=[KeepBest(baseline=first if as_history else accuracy(model))])
        np.testing.assert_array_equal(model.get_weights()[0], good[0])
        assert accuracy(model) == 1

    def test_the_best_epoch_wins(self, capsys: pytest.CaptureFixture[str]) -> None:
        model = classifier()
        play(model, KeepBest(), [0.5, 0.9, 0.7])
        assert model.get_weights()[0] == 1
        assert "worse than 0.9000 after epoch 2: those" in said(capsys)[-1]

    def test_of_equal_epochs_the_last_stays(self, capsys: pytest.CaptureFixture[str]) -> None:
        model = classifier()
        play(model, KeepBest(baseline=0.9), [0.5, 0.9, 0.9])
        assert model.get_weights()[0] == 2
        assert said(capsys) == []

    def test_lower_losses_are_better(self) -> None:
        model = classifier()
        play(model, KeepBest("val_loss"), [3.0, 1.0, 2.0], "val_loss")
        assert model.get_weights()[0] == 1

    def test_nan_is_worse_than_anything(self) -> None:
        model = classifier()
        play(model, KeepBest("val_loss"), [3.0, 1.0, float("nan")], "val_loss")
        assert model.get_weights()[0] == 1

    def test_nan_is_no_figure_to_beat(self) -> None:
        model = classifier()
        play(model, KeepBest("val_loss"), [float("nan"), 3.0, 4.0], "val_loss")
        assert model.get_weights()[0] == 1

    def test_a_better_second_phase_stays_and_is_remembered(self) -> None:
        model, guard = classifier(), KeepBest()
        play(model, guard, [0.5, 0.6])
        play(model, guard, [0.5, 0.6, 0.7])
        assert model.get_weights()[0] == 2
        play(model, guard, [0.6])
        assert model.get_weights()[0] == 2

    def test_it_says_that_nothing_earlier_is_known(self, capsys: pytest.CaptureFixture[str]) -> None:
        model, guard = classifier(), KeepBest()
        play(model, guard, [0.5])
        assert "KeepBest: no earlier val_accuracy is known, the best epoch" in said(capsys)[0]
        play(model, guard, [0.5])
        assert said(capsys) == []

    def test_silent(self, capsys: pytest.CaptureFixture[str]) -> None:
        model = classifier()
        play(model, KeepBest(verbose=False), [0.9, 0.5])
        assert model.get_weights()[0] == 0
        assert said(capsys) == []

    def test_training_that_measures_nothing_changes_nothing(self) -> None:
        model = classifier()
        guard = KeepBest(baseline=0.9)
        model.fit(X, Y, epochs=0, verbose=0, callbacks=[guard])
        assert accuracy(model) == 1

    def test_another_model(self) -> None:
        guard = KeepBest()
        play(classifier(), guard, [0.5])
        message = r"holds the weights of model 'classifier' .* a fit of 'classifier', a different object"
        with pytest.raises(ValueError, match=message):
            play(classifier(), guard, [0.5])

    def test_no_validation_data(self) -> None:
        message = (
            r"^KeepBest: monitor='val_accuracy' is not .* 'accuracy', 'loss'.*Give fit validation_data"
        )
        with pytest.raises(ValueError, match=message):
            classifier().fit(X, Y, verbose=0, callbacks=[KeepBest()])

    def test_unknown_mode(self) -> None:
        with pytest.raises(ValueError, match=r"^KeepBest: mode must be .* Received: 'up'"):
            KeepBest(mode="up")  # type: ignore[arg-type]

    @pytest.mark.parametrize("baseline", ["0.9", float("nan")])
    def test_baseline_that_is_no_figure(self, baseline: Any) -> None:
        message = rf"a finite number or the History .* Received: {baseline!r}. Give the val_acc"
        with pytest.raises(ValueError, match=message):
            KeepBest(baseline=baseline)

    def test_history_without_the_quantity(self) -> None:
        history = classifier().fit(X, Y, verbose=0)
        with pytest.raises(ValueError, match=r"^KeepBest: monitor='val_accuracy'"):
            KeepBest(baseline=history)
