"""The features of many layers from one pass over the data, averaged over height and width."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from topwork._errors import warn
from topwork._evidence.labelled import LabelledData
from topwork._evidence.tasks import SeenLabels, TargetPair
from topwork._features.cache import Cache
from topwork._features.computation import Computation, Run
from topwork._features.table import Table
from topwork._networks.graph import layer_outputs
from topwork._networks.side_by_side import average
from topwork._networks.tokens import class_token, has_class_token

# Rows are read in blocks: one by one is slow, and all at once may not fit into memory.
_ROWS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class AverageFeatures:
    """The features of two data sets at some layers of a network.

    Attributes:
        network: The network.
        parts: The layers, each with how its features become a vector: `"avg"`, or `"cls"` for the class
            token of a transformer.
        tables: By the name of the data set; a row has the vectors of all layers.
        targets: The labels of both.
    """

    network: keras.Model
    parts: list[tuple[str, str]]
    tables: dict[str, Table]
    targets: TargetPair

    def at(self, part: tuple[str, str], data: str) -> npt.NDArray[np.float32]:
        """The features at one of the layers, (images, features)."""
        return _read(self.tables[data], self.parts.index(part))


def average_features(
    network: keras.Model,
    cuts: list[str],
    data: list[LabelledData],
    seen: SeenLabels,
    cache: Cache,
    verbose: str | int,
) -> AverageFeatures:
    """Run a network once over each of two data sets, the one to train on first."""
    parts = _parts(network, cuts)
    computation = Computation(network, _averages(network, parts), cache, verbose)
    runs = [
        Run(each.open(network, seen), f"{each.name} ({network.name})", labelled=False) for each in data
    ]
    tables = computation.tables(*runs)
    computation.say(tables)
    if any(table.sample_weight is not None for table in tables):
        warn(
            "the data has sample weights, and a probe does not use them: each image counts "
            "the same. Leave them out, or leave out the images that should not count."
        )
    by_name = {each.name: table for each, table in zip(data, tables, strict=True)}
    return AverageFeatures(network, parts, by_name, seen.targets(*(table.y for table in tables)))


def _parts(network: keras.Model, cuts: list[str]) -> list[tuple[str, str]]:
    """The cuts; those of a transformer twice, averaged over its patches and by the class token."""
    outputs = layer_outputs(network)
    return [
        (cut, pooling)
        for cut in cuts
        for pooling in ("avg", "cls")
        if pooling == "avg" or has_class_token(network, outputs[cut])
    ]


def _averages(network: keras.Model, parts: list[tuple[str, str]]) -> keras.Model:
    """A model that gives a vector for each cut."""
    outputs = layer_outputs(network)
    vectors = [
        _average(outputs[cut], cut, network)
        if pooling == "avg"
        else class_token(outputs[cut], f"class_token_{cut}", dtype="float32")
        for cut, pooling in parts
    ]
    return keras.Model(network.inputs, vectors, name=f"{network.name}_averages")


def _average(output: Any, cut: str, network: keras.Model) -> Any:
    vector = average(output, cut, network)
    return keras.layers.Identity(dtype="float32")(vector) if vector is output else vector


def _read(table: Table, i: int) -> npt.NDArray[np.float32]:
    """The i-th vector of all rows, (images, features)."""
    (n_features,) = table.layout.shapes[i]
    features = np.empty((len(table), n_features), np.float32)
    for first in range(0, len(table), _ROWS_AT_ONCE):
        rows = table.read(np.arange(first, min(first + _ROWS_AT_ONCE, len(table))))
        features[first : first + len(rows)] = table.layout.vectors(rows, i)
    return features
