"""How much faster `topwork.fit` is than `model.fit`, on a folder of photographs.

    python benchmarks/fit_vs_keras.py --data DIR --weights FILE

DIR has `train` and `validation`, each with a folder for each class. Both train the same head on the
same frozen backbone from the same data set; then both fine-tune. All times are from one run. An epoch of
`model.fit` costs the same each time, so that only `--keras-epochs` of them are run, and longer
trainings are their mean times the epochs; the table says which ones.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import _photographs
import keras

import topwork as tw


class EpochTimes(keras.callbacks.Callback):
    """Seconds of each epoch, validation included."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self._start)

    @property
    def mean(self) -> float:
        """Of all epochs but the first, in which Keras traces its functions."""
        later = self.seconds[1:] or self.seconds
        return sum(later) / len(later)


def main() -> None:
    arguments = parse()
    train, validation = _photographs.load(arguments)
    rows = [
        ["training", "model.fit", "topwork.fit", "times faster", "validation accuracy"],
        ["---"] * 5,
    ]
    keras_epoch, baseline = keras_head(arguments, train, validation)
    for epochs in arguments.epochs:
        model, seconds, accuracy = topwork_head(arguments, train, validation, epochs)
        measured = arguments.keras_epochs >= epochs
        plain = baseline if measured else keras_epoch * epochs
        mark = "" if measured else " (from its mean epoch)"
        rows.append(row(f"head, {epochs} epochs", plain, seconds, mark, accuracy))
    rows.append(fine_tuning(arguments, model, train, validation))
    print("\n".join(f"| {' | '.join(cells)} |" for cells in rows))


def parse() -> argparse.Namespace:
    parser = _photographs.parser(__doc__)
    parser.add_argument("--unfreeze-from", type=int, default=172)
    parser.add_argument("--epochs", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--keras-epochs", type=int, default=20)
    parser.add_argument("--fine-tune-epochs", type=int, default=3)
    return parser.parse_args()


def build(arguments: argparse.Namespace) -> keras.Model:
    keras.utils.set_random_seed(0)
    return tw.add_head(n_classes=1, hidden_units=256)(_photographs.frozen_backbone(arguments))


def timed(fit: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[float, EpochTimes, float]:
    """Seconds in all, of each epoch, and the last validation accuracy."""
    times = EpochTimes()
    start = time.perf_counter()
    history = fit(*args, callbacks=[times], verbose=0, **kwargs)
    return time.perf_counter() - start, times, history.history["val_accuracy"][-1]


def keras_head(arguments: argparse.Namespace, train: Any, validation: Any) -> tuple[float, float]:
    model = build(arguments)
    epochs = arguments.keras_epochs
    fit = functools.partial(model.fit, shuffle=False)  # of a data set Keras shuffles nothing anyway
    seconds, times, accuracy = timed(fit, train, validation_data=validation, epochs=epochs)
    print(f"model.fit: {epochs} epochs in {seconds:.1f} s, {times.mean:.2f} s an epoch, {accuracy:.4f}")
    return times.mean, seconds


def topwork_head(
    arguments: argparse.Namespace, train: Any, validation: Any, epochs: int
) -> tuple[keras.Model, float, float]:
    model = build(arguments)
    seconds, times, accuracy = timed(tw.fit, model, train, validation_data=validation, epochs=epochs)
    print(f"topwork.fit: {epochs} epochs in {seconds:.1f} s, {times.mean:.2f} s an epoch, {accuracy:.4f}")
    return model, seconds, accuracy


def fine_tuning(
    arguments: argparse.Namespace, model: keras.Model, train: Any, validation: Any
) -> list[str]:
    """An epoch of each, from the same weights; the first epoch, in which Keras traces, left out."""
    weights = model.get_weights()
    epochs = []
    for fit in (functools.partial(model.fit, shuffle=False), functools.partial(tw.fit, model)):
        model.set_weights(weights)
        tw.fine_tune(model, arguments.unfreeze_from)
        _, times, accuracy = timed(
            fit, train, validation_data=validation, epochs=arguments.fine_tune_epochs
        )
        epochs.append(times.mean)
    return row(f"fine-tuning from {arguments.unfreeze_from}, an epoch", *epochs, "", accuracy)


def row(name: str, plain: float, ours: float, mark: str, accuracy: float) -> list[str]:
    return [name, f"{plain:.1f} s{mark}", f"{ours:.1f} s", f"{plain / ours:.1f}", f"{accuracy:.4f}"]


if __name__ == "__main__":
    main()
