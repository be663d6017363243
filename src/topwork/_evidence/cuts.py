"""`compare_cuts`: one pass over the data tells where to cut."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from topwork._errors import InputError, closest, public
from topwork._evidence.comparison import Comparison, score_cells
from topwork._evidence.cut_features import AverageFeatures, average_features
from topwork._evidence.labelled import LabelledData, check_data
from topwork._evidence.networks import Weights, check_names, check_network, load_network, weights_of
from topwork._evidence.probe import fit_probe
from topwork._evidence.scores import SCORES, judged
from topwork._evidence.tasks import SeenLabels
from topwork._features.cache import open_cache
from topwork._names import published
from topwork._networks.blocks import block_ends, multiply_adds, parameters, up_to
from topwork._networks.graph import layer_outputs, steps
from topwork._voice import progress, say

_MOST_CUTS = 12


@published
@dataclasses.dataclass(frozen=True)
class CutRow:
    """One cut layer, as `compare_cuts` found it.

    Attributes:
        backbone: The network's name.
        cut_layer: The layer to cut at.
        score: Of the linear probe on the validation images: what `metric` says.
        standard_error: Of the score.
        n_features: Length of the globally averaged features.
        parameters: Of the network up to there.
        multiply_adds: Of the convolutions and dense layers up to there, for one image.
        cost_share: What fraction that is of the whole network's.
        metric: `"accuracy"`; of several labels an image `"mean average precision"`; of numbers `"R²"`.
        pooling: How the features become a vector, as `add_head(pooling=)` has it: `"avg"`, or `"cls"`.
    """

    backbone: str
    cut_layer: str
    score: float
    standard_error: float
    n_features: int
    parameters: int
    multiply_adds: int
    cost_share: float
    metric: str = "accuracy"
    pooling: str = "avg"

    @property
    def accuracy(self) -> float:
        """The score, if it is an accuracy; else NaN."""
        return self.score if self.metric == "accuracy" else math.nan

    @property
    def name(self) -> str:
        return f"{self.cut_layer} (cls)" if self.pooling == "cls" else self.cut_layer

    @property
    def group(self) -> str:
        return self.backbone

    @property
    def cost(self) -> float:
        return self.multiply_adds

    @property
    def note(self) -> str:
        return f"{_millions(self.multiply_adds)}, {100 * self.cost_share:.0f} %"

    def cells(self) -> dict[str, str]:
        return {
            "backbone": self.backbone,
            "cut layer": self.name,
            **score_cells(self),
            "features": f"{self.n_features:,}",
            "parameters": f"{self.parameters:,}",
            "multiply-adds": _millions(self.multiply_adds),
            "cost": f"{100 * self.cost_share:.0f} %",
        }


def _millions(count: int) -> str:
    return f"{count / 1e6:,.{0 if count >= 1e7 else 2}f} M"


@public
def compare_cuts(
    name: str | keras.Model | Sequence[str | keras.Model],
    train: Any,
    validation_data: Any,
    *,
    cut_layers: Sequence[str] | None = None,
    weights: Weights | Mapping[str, Weights] = "imagenet",
    input_shape: tuple[int, int, int] | None = None,
    task: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    precision: str = "float32",
    verbose: str | int = "auto",
) -> Comparison[CutRow]:
    """Find the cut layer that suits the data, in one pass over it.

    The network runs once over each data set. This gives the features of all cuts, averaged over height
    and width. (Those of a transformer are averaged over its patches, with the class token beside them.)
    On the features of each cut a linear probe is trained: a logistic regression on scaled features, or a
    ridge regression for numbers. Cross-validation on the training images chooses its L2 penalty
    (Kornblith, Shlens and Le, 2019, https://arxiv.org/abs/1805.08974). Features from the middle of a
    network often transfer better than its last ones (Yosinski et al., 2014,
    https://arxiv.org/abs/1411.1792).

    Args:
        name: An application as `load_backbone` knows it, any functional model, or several of them.
        train: (images, labels) as arrays, a batched `tf.data.Dataset` or a `keras.utils.PyDataset`.
            Labels are class numbers, or one-hot; rows of 0 and 1 for several labels an image; or
            numbers.
        validation_data: Likewise; the scores are measured on it: the accuracy of classes, the mean
            average precision of several labels an image, R² of numbers.
        cut_layers: Layers to compare. None: the ends of blocks, at most 12, at which the network can
            be cut cleanly. With several networks, each is compared at those that it has.
        weights: As in `load_backbone`; a dict of them by name for several networks. A model that is
            passed has its own.
        input_shape: As in `load_backbone`; None: that of the training images.
        task: What the labels are: `"classes"`, `"labels"` (several an image) or `"numbers"`. None: what
            they look like, where whole numbers are classes.
        cache_dir: A folder to keep features in, as in `fit`.
        engine: As in `fit`.
        precision: As in `fit`.
        verbose: As in `fit`; 0 is silent.

    Returns:
        A row for each cut, with its score and its cost. `.best` is the cheapest cut within one
        standard error of the top one. `load_backbone` takes `.best.cut_layer`. The result prints as
        a table; `.plot()` draws it.

    Raises:
        ValueError: An unknown network or layer, or data that cannot be used.

    Example:
        >>> import numpy as np
        >>> import topwork as tw
        >>> images, labels = np.random.uniform(0, 255, (40, 32, 32, 3)), np.arange(40) % 2
        >>> cuts = tw.compare_cuts(
        ...     "mobilenet",
        ...     (images[:20], labels[:20]),
        ...     (images[20:], labels[20:]),
        ...     cut_layers=["conv_pw_3_relu", "conv_pw_12_relu"],
        ...     weights=None,
        ...     verbose=0,
        ... )
        >>> [row.n_features for row in cuts]
        [128, 1024]
    """
    data = [LabelledData(train, "training data"), LabelledData(validation_data, "validation data")]
    seen = check_data(data[0], data[1], task)
    cache = open_cache("auto", cache_dir, engine, precision)
    names = list(name) if isinstance(name, (list, tuple)) else [name]
    check_names(names, weights, cut_layers)
    shape = data[0].image_shape() if input_shape is None else input_shape
    networks = [load_network(each, cut_layers or (), weights_of(each, weights), shape) for each in names]
    candidates = _candidates(networks, cut_layers)
    _check_networks(networks, data, seen)
    rows: list[CutRow] = []
    for network, cuts in zip(networks, candidates, strict=True):
        features = average_features(network, cuts, data, seen, cache, verbose)
        rows += _compare(network, cuts, features, verbose)
    return Comparison(_title(features), tuple(rows), "multiply-adds")


def _check_networks(networks: list[keras.Model], data: list[LabelledData], seen: SeenLabels) -> None:
    names = [network.name for network in networks]
    for number, network in enumerate(networks):
        check_network(network, names[:number])
    # What does not fit the first network is reported when that one runs; the others are checked here.
    for network in networks[1:]:
        for each in data:
            each.open(network, seen)


def _candidates(networks: list[keras.Model], cut_layers: Sequence[str] | None) -> list[list[str]]:
    """The cut layers of each network."""
    if cut_layers is None:
        candidates = [block_ends(network, _MOST_CUTS) for network in networks]
    else:
        layers = [list(layer_outputs(network)) for network in networks]
        _check_known(cut_layers, [name for names in layers for name in names], networks)
        candidates = [[name for name in names if name in cut_layers] for names in layers]
    for network, cuts in zip(networks, candidates, strict=True):
        if not cuts:
            why = "none of cut_layers is one of its" if cut_layers else "no feature map is a clean cut"
            raise InputError(
                f"{network.name!r} has no layer to compare: {why}. Name some of its layers "
                "in cut_layers; describe(model) lists them."
            )
    return candidates


def _check_known(cut_layers: Sequence[str], names: list[str], networks: list[keras.Model]) -> None:
    unknown = [layer for layer in cut_layers if layer not in names]
    if unknown:
        raise InputError(
            f"there is no layer {unknown[0]!r} in {_quoted(networks)}. Closest: "
            f"{closest(unknown[0], names)}. cut_points(name) lists those that everything flows through."
        )


def _quoted(networks: list[keras.Model]) -> str:
    return " or ".join(repr(network.name) for network in networks)


def _compare(
    network: keras.Model, cuts: list[str], features: AverageFeatures, verbose: str | int
) -> list[CutRow]:
    """Train a probe at each cut."""
    start, rows = time.perf_counter(), []
    with progress(f"probes ({network.name})", len(features.parts), "cut", verbose) as count:
        for cut, pooling in features.parts:
            rows.append(_row(network, cut, pooling, features))
            count()
    n_cuts = f"{len(cuts)} cut{'' if len(cuts) == 1 else 's'}"
    say(f"{n_cuts} of {network.name} probed in {time.perf_counter() - start:.1f} s.", verbose)
    return rows


def _row(network: keras.Model, cut: str, pooling: str, features: AverageFeatures) -> CutRow:
    whole = steps(network)
    part = up_to(whole, layer_outputs(network)[cut])
    score, error, n_features = _probe(features, (cut, pooling))
    return CutRow(
        backbone=network.name,
        cut_layer=cut,
        score=score,
        standard_error=error,
        n_features=n_features,
        parameters=parameters(part),
        multiply_adds=multiply_adds(part),
        cost_share=multiply_adds(part) / max(multiply_adds(whole), 1),
        metric=SCORES[features.targets.task],
        pooling=pooling,
    )


def _probe(features: AverageFeatures, part: tuple[str, str]) -> tuple[float, float, int]:
    """The score of a probe on the validation images, its error, and how many features it has."""
    train, targets = features.at(part, "training data"), features.targets
    probe = fit_probe(train, targets.train, targets.task)
    scores = probe.scores(features.at(part, "validation data"))
    return *judged(targets.task, targets.validation, scores), train.shape[1]


def _title(features: AverageFeatures) -> str:
    targets = features.targets
    is_classes = targets.train.ndim == 1
    n = int(targets.train.max()) + 1 if is_classes else targets.train.shape[1]
    what = f"{n} {targets.task if n > 1 else targets.task.rstrip('s')}"
    return (
        f"Linear probes on {len(targets.train):,} images {'of' if is_classes else 'with'} {what}, their "
        f"{SCORES[targets.task]} on {len(targets.validation):,} others"
    )
