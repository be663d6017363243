"""The first stage of `transfer`: which network, cut where, by heads that are solved."""

from __future__ import annotations

import dataclasses
import time

import keras
import numpy as np

from topwork._data.imbalance import warn_of_counts
from topwork._errors import InputError
from topwork._evidence.labelled import LabelledData
from topwork._evidence.networks import Weights, by_hand, check_network
from topwork._evidence.tasks import SeenLabels
from topwork._features.cache import Cache
from topwork._networks.blocks import multiply_adds
from topwork._networks.graph import steps
from topwork._private_keras import predict_on_batch
from topwork._training.data_arguments import check_alike
from topwork._transfer import choice
from topwork._transfer.budget import Budget, duration
from topwork._transfer.choice import Judged
from topwork._transfer.evidence import Decision
from topwork._transfer.model import build, recipe, write_solution
from topwork._transfer.pooled import Candidate, Pooled, cuts_of, pooled_features
from topwork._transfer.targets import scores_from_outputs, targets_of, targets_of_table
from topwork._voice import progress, say

# Multiply-adds of one reading of the images, up to which heads on several layers are tried: with hundreds
# of classes they would take hours, and gigabytes.
_MOST_WORK = 2e10


@dataclasses.dataclass(frozen=True)
class Found:
    """The features that were taken.

    Attributes:
        judged: The candidate, and what was found of it.
        pooled: Its network's features, and the labels of the images.
        decision: What it was chosen from.
        seconds_per_multiply_add: As the pass took them; None if all features were found in a store.
    """

    judged: Judged
    pooled: Pooled
    decision: Decision
    seconds_per_multiply_add: float | None

    def recipe(self, given: str | keras.Model, weights: Weights) -> str:
        """The lines that make the same by hand, of the network as the user gave it."""
        candidate, pooled = self.judged.candidate, self.pooled
        backbone = by_hand(given, candidate.cuts[-1], weights, pooled.network.inputs[0].shape[1:])
        return recipe(candidate, pooled.targets, backbone, is_measured=len(pooled.tables) > 1)


class Search:
    """Goes through the networks, and keeps the best that was found."""

    def __init__(
        self, data: list[LabelledData], task: str, cache: Cache, budget: Budget, verbose: str | int
    ) -> None:
        self._data, self._task, self._cache = data, task, cache
        self._budget, self._verbose = budget, verbose
        self._judged: list[Judged] = []
        self._best: tuple[Judged, Pooled] | None = None
        self._speed: float | None = None

    def check(self, networks: list[keras.Model]) -> None:
        """Raise for a network that cannot be used, before the first one runs."""
        names = [network.name for network in networks]
        for number, network in enumerate(networks):
            check_network(network, names[:number])
            if not cuts_of(network):
                raise InputError(
                    f"no feature map of {network.name!r} is a clean cut, so that there is nothing to put "
                    "a head on. Name a network of convolutions or of tokens; list_backbones() lists some."
                )
            for each in self._data:
                each.open(network, SeenLabels(self._task))

    def try_network(self, network: keras.Model) -> None:
        """Run a network over the data, and judge what could be made of its features."""
        work = multiply_adds(steps(network))
        is_first = self._best is None
        n_images = 0 if self._best is None else sum(map(len, self._best[1].tables))
        expected = (self._speed or 0) * work * n_images
        if not is_first and not self._budget.allows(f"the network {network.name}", expected):
            return
        if expected:
            say(f"transfer: features of {network.name}, about {duration(expected)}", self._verbose)
        start = time.perf_counter()
        sources = [each.open(network, SeenLabels(self._task)) for each in self._data]
        if len(sources) > 1:
            check_alike(network, *sources)
        pooled = pooled_features(network, sources, self._task, self._cache, self._verbose)
        n_computed = sum(table.n_computed for table in pooled.tables)
        if n_computed:
            self._speed = (time.perf_counter() - start) / max(work * n_computed, 1)
        if is_first:
            self._check_labels(pooled, sources[0].class_names)
        self._judge(pooled)

    def _check_labels(self, pooled: Pooled, class_names: tuple[str, ...] | None) -> None:
        targets = pooled.targets
        for table, each in zip(pooled.tables[1:], self._data[1:], strict=True):
            targets_of_table(table, self._task, each.name, targets.n_outputs)
        if self._task == "classes":
            counts = np.bincount(targets.values, minlength=targets.n_outputs)
            warn_of_counts(counts, class_names, bool((targets.weights != 1).any()))

    def _judge(self, pooled: Pooled) -> None:
        name = pooled.network.name
        with progress(f"heads on {name}", None, "head", self._verbose) as count:
            judged = []
            for candidate in choice.single_cuts(pooled):
                judged.append(choice.judge(pooled, candidate))
                count()
            best = choice.lowest(judged)
            for candidate in choice.several_cuts(pooled, best.candidate.cuts[-1]):
                if self._is_worth_it(candidate, best, pooled):
                    judged.append(choice.judge(pooled, candidate))
                    count()
        found = choice.taken(judged)
        self._judged += judged
        say(f"transfer: best of {name}: {found.candidate}, loss {found.loss:.4f}", self._verbose)
        if self._best is None or found.loss < self._best[0].loss:
            self._best = found, pooled

    def _is_worth_it(self, candidate: Candidate, best: Judged, pooled: Pooled) -> bool:
        """Whether there is memory and time for the heads on several layers."""
        n_columns = pooled.n_features(candidate)
        work = n_columns * pooled.targets.n_outputs * len(best.held_out.rows)
        what = f"heads on {candidate} of {candidate.network}"
        if work > _MOST_WORK:
            self._budget.left_out.append(f"{what}, {n_columns:,} features, which are too many here.")
            return False
        return self._budget.allows(what, best.seconds * n_columns / pooled.n_features(best.candidate))

    def found(self) -> Found:
        """The best, after at least one network was tried."""
        assert self._best is not None
        judged, pooled = self._best
        n_images = len(judged.held_out.rows)
        decision = choice.decision(
            "Which network, cut where?",
            f"{n_images:,} training images, each by heads fitted without it",
            self._judged,
            judged,
            pooled.targets.figure,
            f"Taken: {judged.name} of {judged.candidate.network}. Its loss is the lowest, or not higher "
            "by more than the standard error of the difference, and then it has the most layers.",
        )
        return Found(judged, pooled, decision, self._speed)


def solved(found: Found, train: LabelledData) -> keras.Model:
    """The model with the head solved on all training images."""
    model = build(found.pooled, found.judged.candidate, train.value)
    write_solution(model, choice.solve(found.pooled, found.judged.candidate))
    return model


def measured(model: keras.Model, found: Found, data: list[LabelledData]) -> str:
    """What the model reaches on the validation data, in a sentence."""
    if len(data) == 1:
        return "There was no validation data: measure the model on images that are not in it."
    targets, parts = found.pooled.targets, []
    for batch in data[1].open(model, SeenLabels(targets.task)).batches():
        outputs, equal = predict_on_batch(model, batch.inputs[0]), np.ones(len(batch))
        shown = targets_of(batch.y, equal, targets.task, data[1].name, targets.n_outputs)
        parts.append(shown.right(scores_from_outputs(outputs, targets.task), np.arange(len(batch))))
    right = np.concatenate(parts)
    value, error = float(right.mean()), choice.mean_error(right)
    on = f"on {len(right):,} validation images"
    if targets.figure == "accuracy":
        return f"Accuracy {on}: {100 * value:.2f} % (± {100 * error:.2f} %)."
    return f"Mean absolute error {on}: {value:.4g} (± {error:.2g})."
