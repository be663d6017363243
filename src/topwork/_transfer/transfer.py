"""`transfer`: the whole way in one call."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from topwork._errors import InputError, public
from topwork._evidence.cuts import Weights, _check_names, _load, _weights_of
from topwork._evidence.labelled import LabelledData
from topwork._features.computation import Cache, open_cache
from topwork._names import published
from topwork._networks.blocks import multiply_adds
from topwork._networks.graph import steps
from topwork._training.linear import LinearModel
from topwork._transfer import choice
from topwork._transfer.budget import Budget, duration
from topwork._transfer.choice import Judged
from topwork._transfer.evidence import Decision, Evidence
from topwork._transfer.model import build, recipe, scores_of, write_solution
from topwork._transfer.pooled import Pooled, pooled_features
from topwork._transfer.sources import opened, own_copy, warn_of_randomness
from topwork._transfer.targets import TASKS, Targets, targets_of_table
from topwork._voice import say

DEFAULT_NAMES = ("mobilenet", "efficientnet_v2_b0")


@published
@dataclasses.dataclass(frozen=True)
class Transferred:
    """What `transfer` found.

    Attributes:
        model: A compiled `keras.Model`, images in, probabilities or numbers out. It saves and loads
            without topwork.
        evidence: What was measured, and what was decided by it; prints as tables, `.plot()` draws it.
    """

    model: keras.Model
    evidence: Evidence

    def __str__(self) -> str:
        return str(self.evidence)

    def _repr_html_(self) -> str:
        return self.evidence._repr_html_()


@public
def transfer(
    train: Any,
    validation_data: Any = None,
    *,
    names: str | keras.Model | Sequence[str | keras.Model] = DEFAULT_NAMES,
    weights: Weights | Mapping[str, Weights] = "imagenet",
    input_shape: tuple[int, int, int] | None = None,
    task: str = "classes",
    minutes: float | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    verbose: str | int = "auto",
) -> Transferred:
    """The whole way from labelled images to a model, each choice measured: no trial and error.

    Each network is run once over the images and gives the features at the ends of all its blocks. On
    those of each block, of several side by side, and with the averages of the four quarters of the
    image, a linear head is solved for, as `fit_head` does it. The features on which heads have the lowest
    loss on images that they were fitted without are taken, and the head is solved on all training images.
    What the last layers have forgotten, earlier ones still know (Evci, Dumoulin, Larochelle and Mozer,
    2022, https://arxiv.org/abs/2201.03529).

    Choices are made by cross-validation on the training images alone. The validation data, if there is
    any, measures the result and decides nothing.

    Args:
        train: (images, labels) as arrays, a batched `tf.data.Dataset` or a `keras.utils.PyDataset`.
        validation_data: Likewise.
        names: Networks as `load_backbone` knows them, or functional models, of which copies are used;
            one or several. The cheapest should come first.
        weights: As in `load_backbone`; a dict of them by name for several networks.
        input_shape: As in `load_backbone`; None: that of the training images.
        task: What the labels are, as in `add_head`: `"classes"` (class numbers, or one-hot), `"labels"`
            (several an image, rows of 0 and 1) or `"numbers"`.
        minutes: What it may take. Networks that do not fit any more are left out, which the evidence
            says; the first one is always tried.
        cache_dir: A folder to keep features in, as in `fit`.
        verbose: As in `fit`; 0 is silent.

    Returns:
        A `Transferred`: `.model` is a compiled Keras model, frozen but for its head, and `.evidence` what
        was measured and decided; both print.

    Raises:
        ValueError: An unknown network, or an argument or data that cannot be used.

    Example:
        >>> import numpy as np
        >>> import topwork as tw
        >>> labels = np.arange(20) % 2
        >>> images = np.random.uniform(0, 100, (20, 32, 32, 3)) + 150 * labels[:, None, None, None]
        >>> found = tw.transfer((images, labels), names="mobilenet", weights=None, verbose=0)
        >>> found.model.predict(images, verbose=0).shape
        (20, 2)
        >>> found.evidence[0].question
        'Which network, cut where?'
    """
    data = [LabelledData(train, "training data")]
    if validation_data is not None:
        data.append(LabelledData(validation_data, "validation data"))
    listed = list(names) if isinstance(names, (list, tuple)) else [names]
    _check(listed, weights, task, minutes)
    for each in data:
        warn_of_randomness(each)
    search = _Search(data, task, open_cache("auto", cache_dir), Budget(minutes), verbose)
    for name in listed:
        shape = input_shape or data[0].image_shape()
        network = _load(name, (), _weights_of(name, weights), shape)
        search.try_network(own_copy(network, name))
    return search.finish()


def _check(names: list[Any], weights: Any, task: str, minutes: float | None) -> None:
    _check_names(names, weights, None)
    if task not in TASKS:
        raise InputError(f"task must be one of {', '.join(map(repr, TASKS))}. Received: {task!r}.")
    is_number = isinstance(minutes, (int, float)) and not isinstance(minutes, bool)
    if minutes is not None and not (is_number and minutes > 0):
        raise InputError(f"minutes is a number greater than 0, or None. Received: {minutes!r}.")


class _Search:
    """Goes through the networks, and keeps the best that was found."""

    def __init__(
        self, data: list[LabelledData], task: str, cache: Cache, budget: Budget, verbose: str | int
    ) -> None:
        self._data, self._task, self._cache = data, task, cache
        self._budget, self._verbose = budget, verbose
        self._judged: list[Judged] = []
        self._best: tuple[Judged, Pooled] | None = None
        self._targets: list[Targets] = []
        self._seconds_per_work: float | None = None

    def try_network(self, network: keras.Model) -> None:
        """Run a network over the data, and judge what could be made of its features."""
        work = multiply_adds(steps(network))
        expected = (self._seconds_per_work or 0) * work
        is_first = self._best is None
        if not is_first and not self._budget.allows(f"the network {network.name}", expected):
            return
        if expected:
            self._say(f"features of {network.name}, about {duration(expected)}")
        start = time.perf_counter()
        sources = [opened(each, network, self._task) for each in self._data]
        pooled = pooled_features(network, sources, self._cache, self._verbose)
        if any(table.n_computed for table in pooled.tables):
            self._seconds_per_work = (time.perf_counter() - start) / work
        self._targets = self._read_targets(pooled)
        self._judge(pooled)

    def _read_targets(self, pooled: Pooled) -> list[Targets]:
        first = targets_of_table(pooled.tables[0], self._task, self._data[0].name)
        others = [
            targets_of_table(table, self._task, each.name, first.n_outputs)
            for table, each in zip(pooled.tables[1:], self._data[1:], strict=True)
        ]
        return [first, *others]

    def _judge(self, pooled: Pooled) -> None:
        targets = self._targets[0]
        single = [choice.judge(pooled, each, targets) for each in choice.single_cuts(pooled)]
        best = choice.lowest(single).candidate.cuts[-1]
        several = [choice.judge(pooled, each, targets) for each in choice.several_cuts(pooled, best)]
        found = choice.lowest([*single, *several])
        self._judged += [*single, *several]
        self._say(f"best of {pooled.network.name}: {found.candidate}, loss {found.loss:.4f}")
        if self._best is None or found.loss < self._best[0].loss:
            self._best = found, pooled

    def finish(self) -> Transferred:
        assert self._best is not None
        judged, pooled = self._best
        solved = choice.solve(pooled, judged.candidate, self._targets[0])
        model = build(pooled, judged.candidate, self._targets[0], self._data[0].value)
        write_solution(model, solved)
        shape = pooled.network.inputs[0].shape[1:]
        evidence = Evidence(
            decisions=(self._features_decision(judged),),
            result=self._result(judged, pooled, solved),
            recipe=recipe(judged.candidate, self._targets[0], shape),
            left_out=tuple(self._budget.left_out),
            seconds=self._budget.spent,
        )
        return Transferred(model, evidence)

    def _features_decision(self, chosen: Judged) -> Decision:
        reason = f"Taken: {chosen.name}, the lowest loss on images that the head was fitted without."
        return choice.decision(
            "Which network, cut where?", self._judged, chosen, self._targets[0], reason
        )

    def _result(self, judged: Judged, pooled: Pooled, solved: LinearModel) -> str:
        if len(self._targets) == 1:
            return "There was no validation data: measure the model on images that are not in it."
        scores = scores_of(pooled, judged.candidate, solved, pooled.tables[1])
        right = self._targets[1].right(scores, np.arange(len(scores)))
        value, error = float(right.mean()), choice.mean_error(right)
        figure = self._targets[1].figure
        if figure == "accuracy":
            return (
                f"Accuracy on {len(scores):,} validation images: {100 * value:.2f} % "
                f"(± {100 * error:.2f} %)."
            )
        return f"Mean absolute error on {len(scores):,} validation images: {value:.4g} (± {error:.2g})."

    def _say(self, text: str) -> None:
        say(f"transfer: {text}", self._verbose)
