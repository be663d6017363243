"""The second stage of `transfer`: fine-tuning, where there is time for it and it gains."""

from __future__ import annotations

import dataclasses
import time

import keras

from topwork._data.source import Source
from topwork._evidence.labelled import LabelledData
from topwork._evidence.tasks import SeenLabels
from topwork._networks.blocks import multiply_adds
from topwork._networks.graph import steps
from topwork._private_keras import predict_on_batch
from topwork._transfer import choice
from topwork._transfer.budget import Budget, duration
from topwork._transfer.evidence import Decision
from topwork._transfer.model import build
from topwork._transfer.search import Found
from topwork._transfer.tuning import (
    EPOCHS,
    EPSILON,
    PEAK,
    Trial,
    Tuning,
    boundaries,
    chosen,
    expected_seconds,
)
from topwork._voice import say


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What was found of fine-tuning.

    Attributes:
        model: Fine-tuned on all training images; None where the head alone was as good.
        trial: What was taken.
        decision: What it was chosen from.
    """

    model: keras.Model | None
    trial: Trial
    decision: Decision

    def recipe(self) -> str:
        """The lines that fine-tune by hand; none if that was not done."""
        if self.model is None:
            return ""
        back = "" if self.trial.share == 1 else f"  # and {1 - self.trial.share:.0%} of the way back"
        return "\n" + "\n".join(
            [
                f'tw.fine_tune(model, "{self.trial.boundary}", '
                f"optimizer=keras.optimizers.Adam({PEAK}, epsilon={EPSILON}))",
                f"tw.fit(model, train, epochs={EPOCHS}, callbacks=[tw.callbacks.OneCycle({PEAK})])"
                + back,
            ]
        )


def fine_tuned(found: Found, train: LabelledData, budget: Budget, verbose: str | int) -> Tuned | None:
    """Try it from some boundaries, and do it on all images if it gains; None: nothing was tried."""
    task, candidate = found.pooled.targets.task, found.judged.candidate
    model = build(found.pooled, candidate, train.value)
    names = boundaries(model, found.pooled, candidate)
    source = train.open(model, SeenLabels(task))
    if not names or not _is_time(model, names, source, found, budget, verbose):
        return None
    tuning = Tuning(model, names, candidate, source, task, verbose)
    trials = tuning.trials(budget)
    best = chosen(trials)
    reason = _reason(trials[0], best)
    # Training on all images takes a quarter longer than on four fifths of them.
    on_all = f"fine-tuning {best.judged.name} on all training images"
    if best.boundary and not budget.allows(on_all, 1.25 * best.judged.seconds):
        reason = f"Taken: the head alone. There was no time for {on_all}, which gained."
        best = trials[0]
    if best.boundary is None:
        tuning.restore()
    else:
        say(f"transfer: {on_all}", verbose)
        tuning.apply(best)
    decision = choice.decision(
        "Fine-tune, from where on?",
        f"{len(best.judged.held_out.rows):,} training images held out",
        [each.judged for each in trials],
        best.judged,
        found.pooled.targets.figure,
        reason,
    )
    return Tuned(None if best.boundary is None else model, best, decision)


def _reason(alone: Trial, best: Trial) -> str:
    if best.boundary is None:
        return "Taken: the head alone. Nothing gained more than the standard error of the gain."
    gained, error = choice.gain(alone.judged.held_out, best.judged.held_out)
    return (
        f"Taken: {best.judged.name}: the loss is {gained:.4f} lower than with the head alone, with a "
        f"standard error of {error:.4f}."
    )


def _is_time(
    model: keras.Model,
    names: list[str],
    source: Source,
    found: Found,
    budget: Budget,
    verbose: str | int,
) -> bool:
    speed = found.seconds_per_multiply_add or _speed(model, source)
    seconds = expected_seconds(model, names, len(found.pooled.targets.values), speed)
    if not budget.allows("fine-tuning", seconds):
        return False
    say(f"transfer: trying to fine-tune from {' and '.join(names)}, about {duration(seconds)}", verbose)
    return True


def _speed(model: keras.Model, source: Source) -> float:
    """Seconds for a multiply-add, measured on a batch."""
    images = next(source.batches()).inputs[0]
    predict_on_batch(model, images)  # compiles
    start = time.perf_counter()
    predict_on_batch(model, images)
    return (time.perf_counter() - start) / max(len(images) * multiply_adds(steps(model)), 1)
