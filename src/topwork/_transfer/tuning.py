"""Fine-tuning, decided by measuring: a fifth of the training images is held out, and judges.

From a solved head gradients are tiny, and Adam makes steps of full size of the smallest ones, which undo
what was pretrained where the rate is high. A larger epsilon keeps small steps small. On four sets of
photographs it was neither better nor worse than the usual one by more than the error, and at a peak of
3e-4 neither destroyed anything (docs/fine-tuning-without-harm.md). The weights that are kept may lie
between those before and those after (Wortsman et al., 2022, https://arxiv.org/abs/2109.01903).
"""

from __future__ import annotations

import dataclasses
import time

import keras
import numpy as np
import tensorflow as tf

from topwork._data.source import Source
from topwork._features.cache import open_cache
from topwork._features.computation import Computation, Run
from topwork._features.memory import memory_for_features
from topwork._features.rows import layout_of
from topwork._features.split import split
from topwork._features.table import Table
from topwork._networks.blocks import multiply_adds, up_to
from topwork._networks.freezing import fine_tune
from topwork._networks.graph import steps
from topwork._store.shards import Bytes
from topwork._training.linear import HeldOut, fit_linear, fold_of
from topwork._training.linear_fits import Array
from topwork._training.one_cycle import OneCycle
from topwork._training.step import takes_features
from topwork._transfer import choice
from topwork._transfer.budget import Budget
from topwork._transfer.choice import Judged
from topwork._transfer.model import write_solution
from topwork._transfer.pooled import Candidate, Pooled
from topwork._transfer.targets import scores_from_outputs, targets_of_table

EPOCHS = 8
PEAK, EPSILON = 3e-4, 1e-3
SHARES = (0.5, 1.0)
_BATCH_SIZE = 32
_N_PARTS = 5
# A step forwards and its gradients, in passes forwards.
_COST_OF_TRAINING = 3


@dataclasses.dataclass(frozen=True)
class Trial:
    """A boundary, how far to go from the weights before to those after, and what was found of it.

    Attributes:
        boundary: The first layer that is trained; None for the head alone.
        share: Of the way.
        judged: As other candidates.
    """

    boundary: str | None
    share: float
    judged: Judged


class Tuning:
    """Fine-tunes one model, on features at the first boundary that do not change.

    What its head receives before is computed in the same reading, and labels are taken from it, because
    data may have another order in each.
    """

    def __init__(
        self,
        model: keras.Model,
        names: list[str],
        candidate: Candidate,
        source: Source,
        task: str,
        verbose: str | int,
    ) -> None:
        self._model, self._names, self._candidate = model, names, candidate
        self._prepare(names[0])
        halves = split(model)
        whole = with_vector_of_head(model, halves.prefix)
        computation = Computation(model, whole, open_cache("auto", None), verbose)
        (self._table,) = computation.tables(Run(source, "training data", labelled=False))
        self._targets = targets_of_table(self._table, task, "training data")
        self._frontier, self._tail = layout_of(halves.prefix.outputs), halves.tail
        self._start = [np.array(variable) for variable in model.variables]

    def trials(self, budget: Budget) -> list[Trial]:
        """The head alone, and what fine-tuning from each boundary makes of images held out."""
        rows = choice.images_to_judge_on(self._targets)
        parts = fold_of(self._targets.values[rows], _N_PARTS)
        held_out, rest = rows[parts == 0], rows[parts != 0]
        found: list[Trial] = []
        for boundary in self._names:
            # What lies nearer to the head takes no longer than what was tried before it.
            expected = found[-1].judged.seconds if found else 0.0
            if not budget.allows(f"fine-tuning from {boundary}", expected):
                break
            begin = time.perf_counter()
            self._begin_at(boundary, rest)
            if not found:
                found.append(Trial(None, 0.0, self._judge("the head alone", held_out, begin, "")))
            before = self._values()
            self._train(rest)
            after = self._values()
            for share in SHARES:
                self._go(before, after, share)
                name = f"from {boundary}" + ("" if share == 1 else f", {share:.0%} of the way")
                found.append(Trial(boundary, share, self._judge(name, held_out, begin, self._size())))
        return found

    def apply(self, trial: Trial) -> None:
        """Fine-tune on all images as a trial did on four fifths of them."""
        assert trial.boundary is not None
        rows = np.flatnonzero(self._targets.weights > 0)
        self._begin_at(trial.boundary, rows)
        before = self._values()
        self._train(rows)
        self._go(before, self._values(), trial.share)

    def restore(self) -> None:
        """The weights of the trunk as they were."""
        for variable, value in zip(self._model.variables, self._start, strict=True):
            variable.assign(value)

    def _prepare(self, boundary: str) -> None:
        fine_tune(self._model, boundary, optimizer=keras.optimizers.Adam(PEAK, epsilon=EPSILON))

    def _begin_at(self, boundary: str, rows: Array) -> None:
        self.restore()
        self._prepare(boundary)
        n_features = self._table.layout.shapes[0][0]
        examples = self._targets.examples(rows, self._vectors, n_features)
        write_solution(
            self._model, fit_linear(examples, self._targets.loss, memory=memory_for_features())
        )

    def _train(self, rows: Array) -> None:
        part = self._part(rows)  # has to live as long as it is read
        data = part.dataset(_BATCH_SIZE, shuffle=True)
        with takes_features(self._model, self._tail):
            # The data has an order of its own in each epoch; told to shuffle it, Keras warns.
            self._model.fit(data, epochs=EPOCHS, callbacks=[OneCycle(PEAK)], shuffle=False, verbose=0)

    def _part(self, rows: Array) -> Table:
        """Some of the images, with their labels."""
        lengths = [min(_BATCH_SIZE, len(rows) - i) for i in range(0, len(rows), _BATCH_SIZE)]
        return dataclasses.replace(
            self._table,
            layout=self._frontier,
            read=lambda numbers: self._features(rows[numbers]),
            y=self._targets.values[rows],
            sample_weight=self._targets.weights[rows].astype("float32"),
            batch_lengths=lengths,
        )

    def _vectors(self, rows: Array) -> Array:
        """What the head receives of some images while the trunk is as it was."""
        return self._table.layout.vectors(self._table.read(rows), 0)

    def _features(self, rows: Array) -> Bytes:
        """What the tail receives of them."""
        return self._table.read(rows)[:, -self._frontier.row_bytes :]

    def _values(self) -> list[Array]:
        return [np.array(variable) for variable in self._model.trainable_variables]

    def _go(self, before: list[Array], after: list[Array], share: float) -> None:
        for variable, a, b in zip(self._model.trainable_variables, before, after, strict=True):
            variable.assign(a + share * (b - a))

    def _judge(self, name: str, rows: Array, begin: float, note: str) -> Judged:
        outputs = []
        for first in range(0, len(rows), _BATCH_SIZE):
            raw = self._features(rows[first : first + _BATCH_SIZE])
            features = self._frontier.unpack(tf.constant(raw))
            given = self._tail(features[0] if len(features) == 1 else features, training=False)
            outputs.append(np.asarray(given))
        scores = scores_from_outputs(np.concatenate(outputs), self._targets.task)
        held_out = HeldOut(rows, scores, self._targets.losses(scores, rows))
        right = self._targets.right(scores, rows)
        return Judged(name, self._candidate, held_out, right, time.perf_counter() - begin, note)

    def _size(self) -> str:
        n = sum(int(np.prod(variable.shape)) for variable in self._model.trainable_variables)
        return f"{n / 1e6:.2f} M trained"


def with_vector_of_head(model: keras.Model, prefix: keras.Model) -> keras.Model:
    """The prefix of a model, with what the head of the model receives as its first output."""
    vector = keras.Model(model.inputs, model.get_layer("head_output").input)(prefix.inputs)
    return keras.Model(prefix.inputs, [keras.layers.Identity(dtype="float32")(vector), *prefix.outputs])


def boundaries(model: keras.Model, pooled: Pooled, candidate: Candidate) -> list[str]:
    """The beginnings of the second half and of the last quarter of the blocks, if there are any."""
    cuts = pooled.cuts[: pooled.cuts.index(candidate.cuts[-1]) + 1]
    names = [layer.name for layer in model.layers]
    ends = [cuts[len(cuts) // 2 - 1], cuts[len(cuts) * 3 // 4 - 1]] if len(cuts) > 1 else []
    found = dict.fromkeys(names[names.index(end) + 1] for end in ends if end != cuts[-1])
    return list(found)


def chosen(trials: list[Trial]) -> Trial:
    """The lowest loss of those that gain more over the head alone than the standard error of the gain."""
    alone, *others = trials
    gains = [choice.gain(alone.judged.held_out, each.judged.held_out) for each in others]
    found = [each for each, (gained, error) in zip(others, gains, strict=True) if gained > error]
    return min(found, key=lambda each: each.judged.loss, default=alone)


def expected_seconds(
    model: keras.Model, names: list[str], n_images: int, seconds_per_multiply_add: float
) -> float:
    """About how long the trials take, and the training on all images after them."""
    whole = steps(model)
    total = multiply_adds(whole)
    before = [multiply_adds(up_to(whole, model.get_layer(name).input)) for name in names]
    trained = sum(total - each for each in before) + (total - before[0])
    work = EPOCHS * _COST_OF_TRAINING * trained + total
    return work * n_images * seconds_per_multiply_add
