"""Did training end where it settled, or where a constant rate happened to throw the weights?"""

from __future__ import annotations

import contextlib
import itertools
import statistics
from collections.abc import Iterator
from typing import Any

import keras

from topwork._training.one_cycle import OneCycle
from topwork._voice import say

# The last epochs are judged by. If a call has fewer, nothing is said.
_LAST = 5
# If the training loss still falls by this part in an epoch, training is nowhere near its end.
_STILL_FALLING = 0.03

_SETS_THE_RATE = (
    OneCycle,
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
)


@contextlib.contextmanager
def rates_restored(callbacks: Any) -> Iterator[None]:
    """Have `OneCycle` give the optimizer its rates back if training is interrupted."""
    try:
        yield
    except BaseException:
        for each in _listed(callbacks):
            if isinstance(each, OneCycle):
                each.restore()
        raise


def say_if_not_converged(
    model: keras.Model,
    history: keras.callbacks.History,
    callbacks: Any,
    n_validation: int | None,
    verbose: str | int,
) -> None:
    """One line where a constant rate ended far from converged.

    Args:
        model: That was trained.
        history: Of this call.
        callbacks: Of this call.
        n_validation: How many validation images there were; None: not known.
        verbose: As the user gave it.
    """
    epochs = getattr(history, "epoch", [])  # a model's own `fit` may give back anything
    if len(epochs) < _LAST or model.stop_training or not _is_constant(model, callbacks):
        return
    signs = [_falling(history.history), _swinging(history.history, n_validation)]
    found = [sign for sign in signs if sign]
    if found:
        say(
            f"at a constant learning rate, {' and '.join(found)}: where training ended is partly chance. "
            "callbacks=[topwork.callbacks.OneCycle()] lets it settle; fit_head solves a head without a "
            "hidden layer.",
            verbose,
        )


def _is_constant(model: keras.Model, callbacks: Any) -> bool:
    optimizer = model.optimizer
    parts = [optimizer, *getattr(optimizer, "optimizers", [])]
    has_schedule = any(isinstance(each.get_config().get("learning_rate"), dict) for each in parts)
    return not has_schedule and not any(isinstance(each, _SETS_THE_RATE) for each in _listed(callbacks))


def _listed(callbacks: Any) -> list[Any]:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return [] if callbacks is None else keras.tree.flatten(callbacks)


def _falling(measured: dict[str, list[float]]) -> str:
    losses = measured["loss"][-_LAST:]
    if not all(loss > 0 for loss in losses):
        return ""
    # The median over the epochs, so that one jump decides nothing.
    fall = statistics.median(1 - after / before for before, after in itertools.pairwise(losses))
    if fall < _STILL_FALLING:
        return ""
    return f"the training loss was still falling by {100 * fall:.0f} % an epoch"


def _swinging(measured: dict[str, list[float]], n_images: int | None) -> str:
    last = measured.get("val_accuracy", [])[-_LAST:]
    if len(last) < _LAST or not n_images:
        return ""
    swing, middle = max(last) - min(last), statistics.mean(last)
    error = (middle * (1 - middle) / n_images) ** 0.5
    if swing <= error or swing * n_images < 2:  # one image more or less is no swing
        return ""
    return (
        f"val_accuracy swung by {100 * swing:.1f} points in the last {_LAST} epochs (standard error: "
        f"{100 * error:.1f})"
    )
