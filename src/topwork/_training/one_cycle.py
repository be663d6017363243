"""`OneCycle`: the learning rate rises, then falls to zero, within one call of `fit`."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import keras

from topwork._errors import InputError, public_as

# A head on frozen features learns well at these peaks. Keras' defaults are made for a constant rate.
_PEAK, _PEAK_OF_SGD = 1e-3, 1e-2


class OneCycle(keras.callbacks.Callback):
    """Raise the learning rate, then let it fall to zero along a cosine, over the steps of one call.

    With a constant rate, the weights at the end depend on the last few batches. With a rate that falls to
    zero, the weights settle (Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983). The rise at
    the beginning, the warm-up, makes a higher peak possible (Smith, 2018,
    https://arxiv.org/abs/1803.09820).

    It works in `topwork.fit` and in Keras' own ``fit``. At the end, the optimizer gets its old rate back,
    and a second call begins a second cycle. `topwork.fit` gives it back after an interruption too. Keras'
    own ``fit`` does not: then call `restore()`, or train again with the same callback. If the number of
    steps is not known before the first epoch has ended, the rate is constant in that epoch.

    Args:
        peak: The highest rate. None: 1e-3, for SGD 1e-2; `find_learning_rate` finds one for your
            data. With several optimizers (`fine_tune(layer_decay=...)`) the highest of their rates
            becomes the peak, and the others keep their share of it.
        warmup: The part of the steps in which the rate rises, 0 up to, not including, 1.

    Raises:
        ValueError: An argument is out of its range; when training begins: the optimizer has a
            schedule of its own.

    Example:
        >>> import keras, numpy as np, topwork as tw
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.Adam(0.5), "mse")
        >>> cycle = tw.callbacks.OneCycle(peak=0.1)
        >>> x = np.ones((64, 1))
        >>> history = model.fit(x, x, epochs=3, callbacks=[cycle], verbose=0)
        >>> float(model.optimizer.learning_rate)
        0.5
    """

    @public_as("OneCycle")
    def __init__(self, peak: float | None = None, *, warmup: float = 0.1) -> None:
        super().__init__()
        is_number = isinstance(peak, numbers.Real) and not isinstance(peak, bool)
        if peak is not None and not (is_number and 0 < peak < math.inf):
            raise InputError(
                f"peak is a rate greater than 0, or None. Received: {peak!r}. Try 1e-3, or what "
                "find_learning_rate finds."
            )
        if not 0 <= warmup < 1:
            raise InputError(
                "warmup is the part of the steps in which the rate rises, 0 <= warmup < 1. Received: "
                f"{warmup!r}."
            )
        self.peak, self.warmup = None if peak is None else float(peak), float(warmup)
        self._before: list[tuple[Any, float]] = []
        self._first_epoch: int | None = None
        self._epoch = 0
        self._n_steps: int | None = None
        self._n_seen = 0

    @public_as("OneCycle")
    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Note the rates that the optimizer has; called by Keras."""
        self.restore()
        optimizers = simple_optimizers(self.model.optimizer)
        self._before = [(each, float(each.learning_rate)) for each in optimizers]
        self._first_epoch = None
        self._n_steps = self.params.get("steps")

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Note where in the cycle training is; called by Keras."""
        if self._first_epoch is None:
            self._first_epoch = epoch
        self._epoch, self._n_seen = epoch - self._first_epoch, 0

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Set the rate of the next steps; called by Keras."""
        within = 0.5 if not self._n_steps else min(1.0, (batch + 0.5) / self._n_steps)
        n_epochs = max(1, self.params["epochs"] - (self._first_epoch or 0))
        self._set(self.share_of_peak((self._epoch + within) / n_epochs))

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Count the steps; called by Keras."""
        self._n_seen = batch + 1

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Note how many steps an epoch has; called by Keras."""
        self._n_steps = self._n_steps or self._n_seen

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Give the optimizer its rates back; called by Keras."""
        self.restore()

    def restore(self) -> None:
        """Give the optimizer the rates that it had before training."""
        for optimizer, rate in self._before:
            optimizer.learning_rate = rate
        self._before = []

    def share_of_peak(self, progress: float) -> float:
        """The rate as a share of the peak, when `progress`, from 0 to 1, of all steps are made."""
        if progress < self.warmup:
            return progress / self.warmup
        return (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2

    def _set(self, share: float) -> None:
        highest = max(rate for _, rate in self._before)
        for optimizer, rate in self._before:
            relative = rate / highest if highest > 0 else 1.0
            optimizer.learning_rate = (self.peak or default_peak(optimizer)) * relative * share


def default_peak(optimizer: keras.optimizers.Optimizer) -> float:
    return _PEAK_OF_SGD if isinstance(optimizer, keras.optimizers.SGD) else _PEAK


def simple_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers that an optimizer is made of, each with a learning rate that can be set."""
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return simple_optimizers(inner)
    found = list(getattr(optimizer, "optimizers", None) or [optimizer])
    for each in found:
        if isinstance(each.get_config().get("learning_rate"), dict):
            raise InputError(
                f"the optimizer {each.name!r} has a schedule that sets the learning rate, which is to be "
                "set here. Compile with a number, optimizer=Adam(1e-3), or train with the schedule alone."
            )
    return found
