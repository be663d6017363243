"""Callbacks that watch a quantity: stop when it is reached, keep the weights of its best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import keras

from topwork._errors import InputError, closest, public_as
from topwork._voice import say

Mode = Literal["auto", "min", "max"]
_LOWER_IS_BETTER = ("loss", "error", "mse", "mae", "mape", "msle", "crossentropy")


class StopAt(keras.callbacks.Callback):
    """Stop training at the end of the first epoch in which a quantity reaches a value.

    Args:
        value: What to reach, in the unit of the quantity: accuracies are fractions, 0.999 and not
            99.9.
        monitor: The quantity, as it stands in the History: ``"accuracy"``, ``"val_loss"``.
        mode: ``"max"``: reached when not below `value`; ``"min"``: when not above it; ``"auto"``:
            ``"min"`` for losses and errors, by their name, ``"max"`` for all others.

    Raises:
        ValueError: The value can never be reached or the mode is unknown; at the end of the
            first epoch: training does not measure `monitor`.

    Example:
        >>> import keras, numpy as np, topwork as tw
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> x = np.ones((4, 1))
        >>> stop = tw.callbacks.StopAt(1e3, monitor="loss")
        >>> len(model.fit(x, x, epochs=50, callbacks=[stop], verbose=0).epoch)
        1
    """

    @public_as("StopAt")
    def __init__(self, value: float, monitor: str = "accuracy", *, mode: Mode = "auto") -> None:
        super().__init__()
        self._mode = _resolved_mode(monitor, mode)
        _check_reachable(value, monitor)
        self.value = value
        self.monitor = monitor

    @public_as("StopAt")
    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Stop if the value was reached; called by Keras."""
        reached = _measured(self.monitor, logs or {})
        if _at_least_as_good(reached, self.value, self._mode):
            self.model.stop_training = True
            say(
                f"{self.monitor} reached {reached:.4g} in epoch {epoch + 1}: training stops.",
                (self.params or {}).get("verbose"),
            )


class KeepBest(keras.callbacks.Callback):
    """Keep the best weights: fine-tuning can then do no harm.

    It remembers the weights with the best value that it has seen. If the value of the last epoch is
    worse, these weights come back when training ends, and one line says so. The state of the optimizer
    does not change.

    Fine-tuning has to be better than the phase before. So let **one** guard see both phases: give the
    same object to both calls of ``fit``, with the same validation data. If the first phase ran without
    the guard, give its value as `baseline`. A guard that knows neither says so, and then chooses only
    among the epochs of this training.

    Args:
        monitor: The quantity, as it stands in the History. One measured on validation data: what
            a model reaches on its own training data says nothing about harm.
        mode: ``"max"``: more is better; ``"min"``: less is better; ``"auto"``: ``"min"`` for
            losses and errors, by their name, ``"max"`` for all others.
        baseline: The value for the weights with which training begins: a number (from
            ``model.evaluate``), or the History of the phase before, whose last epoch counts.
        verbose: Whether it says its lines; where `fit` is silent, so is it.

    Attributes:
        best: The best value so far; None before the first.

    Raises:
        ValueError: The mode is unknown, the baseline has no such value, the guard is used on a
            second model, or, at the end of an epoch: training does not measure `monitor`.

    Example:
        >>> import keras, numpy as np, topwork as tw
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> x, guard = np.ones((4, 1)), tw.callbacks.KeepBest("val_loss", verbose=False)
        >>> model.compile("sgd", "mse")
        >>> _ = model.fit(x, x, validation_data=(x, x), callbacks=[guard], verbose=0)
        >>> model.compile(keras.optimizers.SGD(1e6), "mse")
        >>> _ = model.fit(x, x, validation_data=(x, x), callbacks=[guard], verbose=0)
        >>> abs(model.evaluate(x, x, verbose=0) - guard.best) < 1e-6
        True
    """

    @public_as("KeepBest")
    def __init__(
        self,
        monitor: str = "val_accuracy",
        *,
        mode: Mode = "auto",
        baseline: float | keras.callbacks.History | None = None,
        verbose: bool = True,
    ) -> None:
        super().__init__()
        self._mode = _resolved_mode(monitor, mode)
        self._baseline = None if baseline is None else _baseline_value(baseline, monitor)
        self._verbose = verbose
        self._guarded: keras.Model | None = None
        self._best_weights: list[Any] = []
        self._best_from = "before this training"
        self._last: float | None = None
        self.monitor = monitor
        self.best: float | None = None

    @public_as("KeepBest")
    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Note what has to be beaten; called by Keras."""
        self._check_same_model()
        self._last = None
        self._best_from = "before this training"
        if self.best is None and self._baseline is not None:
            self._remember(self._baseline, self._best_from)
        elif self.best is None:
            self._say(
                f"KeepBest: no earlier {self.monitor} is known, the best epoch of this training "
                "will be kept. To guard a phase against the one before, give both the same KeepBest."
            )

    @public_as("KeepBest")
    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Remember the weights if they are the best so far; called by Keras."""
        self._last = _measured(self.monitor, logs or {})
        if self.best is None or _at_least_as_good(self._last, self.best, self._mode):
            self._remember(self._last, f"after epoch {epoch + 1}")

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Bring the best weights back if the last are worse; called by Keras."""
        if self.best is None or self._last is None:
            return
        if not _at_least_as_good(self._last, self.best, self._mode):
            self.model.set_weights(self._best_weights)
            self._say(
                f"KeepBest: {self.monitor} ended at {self._last:.4f}, worse than {self.best:.4f} "
                f"{self._best_from}: those weights are back."
            )

    def _remember(self, value: float, where: str) -> None:
        self.best, self._best_from = value, where
        self._best_weights = self.model.get_weights()

    def _check_same_model(self) -> None:
        if self._guarded is not None and self._guarded is not self.model:
            raise InputError(
                f"this KeepBest holds the weights of model {self._guarded.name!r} and cannot guard "
                f"another one. Received: a fit of {self.model.name!r}, a different object. Make a "
                "new KeepBest() for each model; for a model that was saved and loaded again, give it "
                "baseline=, the value reached before."
            )
        self._guarded = self.model

    def _say(self, line: str) -> None:
        if self._verbose:
            say(line, (self.params or {}).get("verbose"))


def _resolved_mode(monitor: str, mode: Mode) -> Mode:
    if mode not in ("auto", "min", "max"):
        raise InputError(
            f"mode must be 'auto', 'min' or 'max'. Received: {mode!r}. Use 'max' where more is better "
            "and 'min' where less is; 'auto' decides by the name of the quantity."
        )
    if mode != "auto":
        return mode
    return "min" if any(word in monitor for word in _LOWER_IS_BETTER) else "max"


def _check_reachable(value: float, monitor: str) -> None:
    if not math.isfinite(value):
        raise InputError(
            f"value must be a finite number. Received: {value!r}. Give the {monitor} at which training "
            "may stop."
        )
    if monitor.endswith(("accuracy", "acc")) and not 0 <= value <= 1:
        percent = f": write {value / 100:g} for {value:g} %" if 1 < value <= 100 else ""
        raise InputError(
            f"{monitor} never reaches {value:g}: Keras measures accuracies as fractions from 0 to 1"
            f"{percent}. Received: value={value!r}. Give a value in that range."
        )


def _measured(monitor: str, logs: Mapping[str, float]) -> float:
    if monitor in logs:
        return float(logs[monitor])
    raise InputError(
        f"monitor={monitor!r} is not measured in this training. Received from it: "
        f"{', '.join(map(repr, logs)) or 'nothing'}. Closest: {closest(monitor, logs) or 'none'}. "
        + _next_step(monitor, logs)
    )


def _next_step(monitor: str, logs: Mapping[str, float]) -> str:
    if monitor.startswith("val_") and not any(name.startswith("val_") for name in logs):
        return "Give fit validation_data, to be measured in every epoch."
    return "Correct monitor, or add the metric when compiling the model."


def _baseline_value(baseline: float | keras.callbacks.History, monitor: str) -> float:
    if isinstance(baseline, keras.callbacks.History):
        last = {name: values[-1] for name, values in baseline.history.items() if values}
        return _measured(monitor, last)
    if isinstance(baseline, (int, float)) and math.isfinite(baseline):
        return float(baseline)
    raise InputError(
        f"baseline must be a finite number or the History that fit returned. Received: {baseline!r}. "
        f"Give the {monitor} that the model has reached so far."
    )


def _at_least_as_good(value: float, other: float, mode: Mode) -> bool:
    """Anything is as good as NaN, and NaN is not as good as a number."""
    if math.isnan(other):
        return True
    return value >= other if mode == "max" else value <= other
