"""What `fit` says of training that has not settled; an interruption leaves the rate as it was."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import topwork as tw
from topwork._training.convergence import say_if_not_converged

SETTLED = [1.0, 0.5, 0.3, 0.3, 0.3, 0.299, 0.299, 0.299]
FALLING = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]


def model(optimizer: Any = "sgd") -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    frozen = keras.layers.Conv2D(4, 3, trainable=False)(inputs)
    pooled = keras.layers.GlobalAveragePooling2D()(frozen)
    found = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(pooled))
    found.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return found


def said(
    capsys: Any,
    figures: dict[str, list[float]],
    *,
    of: keras.Model | None = None,
    callbacks: Any = None,
    n: int | None = 100,
    verbose: int = 2,
) -> str:
    history = keras.callbacks.History()
    history.history, history.epoch = figures, list(range(len(figures["loss"])))
    trained = of or model()
    trained.stop_training = False
    capsys.readouterr()
    say_if_not_converged(trained, history, callbacks, n, verbose)
    return str(capsys.readouterr().out)


def test_a_loss_that_still_falls_is_said(capsys: Any) -> None:
    text = said(capsys, {"loss": FALLING})
    assert text.count("\n") == 1
    assert "at a constant learning rate, the training loss was still falling by 13 % an epoch" in text
    assert "OneCycle()] lets it settle; fit_head solves a head without a hidden layer." in text


def test_an_accuracy_that_swings_is_said(capsys: Any) -> None:
    text = said(capsys, {"loss": SETTLED, "val_accuracy": [0.5, 0.5, 0.5, 0.5, 0.6, 0.5, 0.65, 0.55]})
    assert "val_accuracy swung by 15.0 points in the last 5 epochs (standard error: 5.0)" in text
    assert "falling" not in text


@pytest.mark.parametrize(
    ("figures", "options"),
    [
        ({"loss": SETTLED}, {}),
        ({"loss": FALLING[:4]}, {}),
        ({"loss": [-each for each in SETTLED]}, {}),
        ({"loss": SETTLED, "val_accuracy": [0.5, 0.51] * 4}, {}),
        ({"loss": SETTLED, "val_accuracy": [0.5, 1.0] * 4}, {"n": 2}),
        ({"loss": SETTLED, "val_accuracy": [0.5, 0.9] * 4}, {"n": None}),
        ({"loss": FALLING}, {"callbacks": tw.callbacks.OneCycle()}),
        ({"loss": FALLING}, {"callbacks": [keras.callbacks.ReduceLROnPlateau()]}),
        ({"loss": FALLING}, {"verbose": 0}),
    ],
)
def test_what_has_settled_or_is_annealed_is_not_mentioned(
    figures: dict[str, list[float]], options: dict[str, Any], capsys: Any
) -> None:
    assert said(capsys, figures, **options) == ""


def test_a_schedule_and_an_early_stop_are_not_mentioned(capsys: Any) -> None:
    decay = keras.optimizers.schedules.CosineDecay(1e-3, 100)
    assert said(capsys, {"loss": FALLING}, of=model(keras.optimizers.Adam(decay))) == ""
    stopped, history = model(), keras.callbacks.History()
    history.history, history.epoch = {"loss": FALLING}, list(range(6))
    stopped.stop_training = True
    say_if_not_converged(stopped, history, None, None, 2)
    assert capsys.readouterr().out == ""


DATA = np.random.default_rng(0).uniform(0, 255, (32, 8, 8, 3)).astype("float32"), np.arange(32) % 2


@pytest.mark.parametrize("cache", ["auto", False])
def test_fit_says_it_once(cache: Any, capsys: Any) -> None:
    images, labels = DATA
    images = images / 255 + labels[:, None, None, None]
    learning = model(keras.optimizers.SGD(0.3))
    learning.layers[1].set_weights([np.full((3, 3, 3, 4), 1 / 27), np.zeros(4)])
    start = [np.zeros((4, 2)), np.zeros(2)]
    for callbacks, n_times in (([], 1), ([tw.callbacks.OneCycle(0.5)], 0)):
        learning.layers[-1].set_weights(start)
        tw.fit(learning, images, labels, epochs=6, cache=cache, callbacks=callbacks, verbose=2)
        assert capsys.readouterr().out.count("at a constant learning rate, the training loss") == n_times


class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("cache", ["auto", False])
def test_an_interruption_leaves_the_rate_as_it_was(cache: Any) -> None:
    interrupted = model(keras.optimizers.SGD(0.125))
    with pytest.raises(KeyboardInterrupt):
        tw.fit(
            interrupted,
            *DATA,
            epochs=5,
            cache=cache,
            callbacks=[tw.callbacks.OneCycle(0.5), Interrupt()],
            verbose=0,
        )
    assert float(interrupted.optimizer.learning_rate) == 0.125
