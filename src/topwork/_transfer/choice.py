"""Which features: candidates judged by cross-validation on the training images alone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from topwork._features.memory import memory_for_features
from topwork._training.linear import HeldOut, LinearModel, cross_validate, fit_linear
from topwork._training.linear_fits import Array, Examples
from topwork._transfer.evidence import Decision, Option
from topwork._transfer.pooled import Candidate, Pooled
from topwork._transfer.targets import Targets

# So many images tell the candidates apart. More would take longer and decide the same.
_MOST_IMAGES = 4000
_MOST_UP_TO = 3


@dataclasses.dataclass(frozen=True)
class Judged:
    """A way to make a model, and what was found of it on images that it did not see.

    Attributes:
        name: For people.
        candidate: Its features.
        held_out: What cross-validation found.
        right: Of each image held out how right it was, as `Targets.right` has it.
        seconds: That it took.
        note: What it costs.
    """

    name: str
    candidate: Candidate
    held_out: HeldOut
    right: Array
    seconds: float
    note: str

    @property
    def loss(self) -> float:
        return float(self.held_out.losses.mean())


def single_cuts(pooled: Pooled) -> list[Candidate]:
    return [Candidate(pooled.network.name, (cut,)) for cut in pooled.cuts]


def several_cuts(pooled: Pooled, best: str) -> list[Candidate]:
    """Layers side by side: a few up to the best single one, all up to it, and all."""
    end = pooled.cuts.index(best) + 1
    chains = [pooled.cuts[max(0, end - _MOST_UP_TO) : end], pooled.cuts[:end], pooled.cuts]
    found = [
        Candidate(pooled.network.name, tuple(chain), pyramid)
        for pyramid in (False, True)
        for chain in chains
        if not pyramid or pooled.has_quarters(chain[-1])
    ]
    return [each for each in dict.fromkeys(found) if each.has_parts]


def images_to_judge_on(targets: Targets) -> Array:
    """The numbers of the training images that candidates are judged on."""
    rows = np.flatnonzero(targets.weights > 0)
    if len(rows) <= _MOST_IMAGES:
        return rows
    return np.sort(np.random.default_rng(0).permutation(rows)[:_MOST_IMAGES])


def judge(pooled: Pooled, candidate: Candidate) -> Judged:
    """A linear head on the features of a candidate, by cross-validation."""
    start, targets = time.perf_counter(), pooled.targets
    examples = _examples(pooled, candidate, images_to_judge_on(targets))
    held_out = cross_validate(examples, targets.loss, memory=memory_for_features())
    right = targets.right(held_out.scores, held_out.rows)
    cost = pooled.costs[candidate.cuts[-1]]
    note = f"{examples.n_features:,} features, {cost / 1e6:,.0f} M multiply-adds"
    return Judged(str(candidate), candidate, held_out, right, time.perf_counter() - start, note)


def solve(pooled: Pooled, candidate: Candidate) -> LinearModel:
    """The linear head on all training images."""
    rows = np.flatnonzero(pooled.targets.weights > 0)
    examples = _examples(pooled, candidate, rows)
    return fit_linear(examples, pooled.targets.loss, memory=memory_for_features())


def _examples(pooled: Pooled, candidate: Candidate, rows: Array) -> Examples:
    return pooled.targets.examples(
        rows, lambda numbers: pooled.read(candidate, numbers), pooled.n_features(candidate)
    )


def lowest(judged: Sequence[Judged]) -> Judged:
    return min(judged, key=lambda each: each.loss)


def taken(judged: Sequence[Judged]) -> Judged:
    """Of the network with the lowest loss the most layers that are not worse by more than the error.

    Where the images do not tell them apart, more layers are the safer choice: what images are like that
    differ from those at hand, the last layers alone do not know.
    """
    best = lowest(judged)
    near = [each for each in judged if each.candidate.network == best.candidate.network]
    differences = [gain(each.held_out, best.held_out) for each in near]
    near = [each for each, (worse, error) in zip(near, differences, strict=True) if worse <= error]
    return max(near, key=lambda each: (len(each.candidate.cuts), -each.loss))


def decision(
    question: str,
    judged_on: str,
    judged: Sequence[Judged],
    chosen: Judged,
    figure_name: str,
    reason: str,
) -> Decision:
    """What was judged, as a table: errors are those of the difference to the one that was chosen."""
    networks = {each.candidate.network for each in judged}
    return Decision(
        question=question,
        judged_on=judged_on,
        options=tuple(_option(each, chosen, len(networks) > 1) for each in judged),
        chosen=list(judged).index(chosen),
        reason=reason,
        figure_name=figure_name,
    )


def _option(judged: Judged, chosen: Judged, with_network: bool) -> Option:
    return Option(
        name=f"{judged.candidate.network}: {judged.name}" if with_network else judged.name,
        loss=judged.loss,
        loss_error=gain(judged.held_out, chosen.held_out)[1],
        figure=float(judged.right.mean()),
        figure_error=mean_error(judged.right),
        seconds=judged.seconds,
        note=judged.note,
    )


def mean_error(values: Array) -> float:
    """The standard error of a mean."""
    return float(values.std() / max(len(values) - 1, 1) ** 0.5)


def gain(before: HeldOut, after: HeldOut) -> tuple[float, float]:
    """How much lower the loss is after than before on the same images, and its standard error."""
    _, i, j = np.intersect1d(before.rows, after.rows, return_indices=True)
    differences = before.losses[i] - after.losses[j]
    return float(differences.mean()), mean_error(differences)
