"""The data and the networks that `transfer` was given."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

from topwork._data.classes import class_numbers
from topwork._data.reading import Batch, Source, open_source
from topwork._evidence.labelled import LabelledData
from topwork._networks.variables import give_weights


def opened(data: LabelledData, network: keras.Model, task: str) -> Source:
    """The data as a network takes it; labels of classes are checked as they come."""
    source = open_source(network, data.value)
    if task != "classes":
        return source

    def batches() -> Iterator[Batch]:
        for batch in source.batches():
            class_numbers(batch.y, f"the {data.name}")
            yield batch

    return dataclasses.replace(source, batches=batches)


def own_copy(network: keras.Model, given: Any) -> keras.Model:
    """The network, or a copy if it is the user's own, whose weights stay as they are."""
    if network is not given:
        return network
    copy = keras.models.clone_model(network)
    give_weights(copy, network.get_weights())
    return copy
