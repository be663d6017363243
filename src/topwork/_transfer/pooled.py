"""The features of many layers of a network from one pass over the data, for all candidates together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from topwork._data.source import Source
from topwork._features.cache import Cache
from topwork._features.computation import Computation, Run
from topwork._features.table import Table
from topwork._networks.blocks import block_ends, multiply_adds, up_to
from topwork._networks.graph import layer_outputs, steps
from topwork._networks.side_by_side import average, has_quarters, quarters
from topwork._training.linear_fits import Array
from topwork._transfer.targets import Targets, targets_of_table

_MOST_CUTS = 12
# Quarters are four times as long as averages, and are of use at the end of a network.
_MOST_QUARTERS = 5


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Features that a head could be put on.

    Attributes:
        network: Its name.
        cuts: The layers, the one to cut at last.
        pyramid: Whether the last one has the averages of the four quarters too.
    """

    network: str
    cuts: tuple[str, ...]
    pyramid: bool = False

    @property
    def has_parts(self) -> bool:
        """Whether there are several parts, each brought to unit length."""
        return len(self.cuts) > 1 or self.pyramid

    @property
    def parts(self) -> list[str]:
        """Names of the parts, in the order that a head has them."""
        return [*self.cuts, *([_quarters_of(self.cuts[-1])] if self.pyramid else [])]

    def __str__(self) -> str:
        first, *others = self.cuts
        text = first if not others else f"{first} to {self.cuts[-1]}, {len(self.cuts)} layers"
        return text + (" and quarters" if self.pyramid else "")


@dataclasses.dataclass(frozen=True)
class Pooled:
    """The features of a network, with the labels of the images in the same order.

    Attributes:
        network: The network.
        cuts: The ends of its blocks, from the input on.
        names: The parts that a row has, in order.
        tables: Of the training data, and of the validation data if there is any.
        targets: Of the training data.
        costs: Multiply-adds up to each cut, for one image.
    """

    network: keras.Model
    cuts: list[str]
    names: list[str]
    tables: list[Table]
    targets: Targets
    costs: dict[str, int]

    def has_quarters(self, cut: str) -> bool:
        return _quarters_of(cut) in self.names

    def n_features(self, candidate: Candidate) -> int:
        return sum(self.tables[0].layout.shapes[self.names.index(part)][0] for part in candidate.parts)

    def read(self, candidate: Candidate, rows: Array) -> Array:
        """The features of some training images, as the head of a candidate receives them."""
        layout, raw = self.tables[0].layout, self.tables[0].read(rows)
        vectors = [layout.vectors(raw, self.names.index(part)) for part in candidate.parts]
        if candidate.has_parts:
            vectors = [_of_unit_length(each) for each in vectors]
        return np.concatenate(vectors, axis=1)


def _quarters_of(cut: str) -> str:
    return f"{cut}, quarters"


def _of_unit_length(vectors: Array) -> Array:
    """As Keras' UnitNormalization does it."""
    squares = np.square(vectors).sum(axis=1, keepdims=True)
    return vectors / np.sqrt(np.maximum(squares, 1e-24))


def cuts_of(network: keras.Model) -> list[str]:
    """The ends of its blocks, from the input on; the stages first where there are too many."""
    return block_ends(network, _MOST_CUTS)


def pooled_features(
    network: keras.Model, sources: Sequence[Source], task: str, cache: Cache, verbose: str | int
) -> Pooled:
    """Run a network once over the training data, and the validation data if there is any."""
    outputs, whole = layer_outputs(network), steps(network)
    cuts = cuts_of(network)
    tensors = {cut: average(outputs[cut], cut, network) for cut in cuts}
    for cut in cuts[-_MOST_QUARTERS:]:
        if has_quarters(outputs[cut]):
            tensors[_quarters_of(cut)] = quarters(outputs[cut], cut)
    part = keras.Model(network.inputs, list(tensors.values()), name=f"{network.name}_pooled")
    computation = Computation(network, part, cache, verbose)
    names = ("training data", "validation data")
    runs = [
        Run(source, f"{name} ({network.name})", labelled=False)
        for source, name in zip(sources, names, strict=False)
    ]
    tables = computation.tables(*runs)
    computation.say(tables)
    costs = {cut: multiply_adds(up_to(whole, outputs[cut])) for cut in cuts}
    targets = targets_of_table(tables[0], task, names[0])
    return Pooled(network, cuts, list(tensors), tables, targets, costs)
