"""The data and the networks that `transfer` was given."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

from topwork._data.classes import class_numbers
from topwork._data.randomness import randomness_in
from topwork._data.reading import Batch, Source, open_source
from topwork._errors import warn
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


def warn_of_randomness(data: LabelledData) -> None:
    randomness = randomness_in(data.value)
    if randomness is not None:
        warn(
            f"the {data.name} is augmented at random: it has {randomness}. Each image is used once, as "
            "it happens to come, and not found again in a cache_dir. Pass the images as they are."
        )


def own_copy(network: keras.Model, given: Any) -> keras.Model:
    """The network, or a copy if it is the user's own, whose weights stay as they are."""
    if network is not given:
        return network
    copy = keras.models.clone_model(network)
    give_weights(copy, network.get_weights())
    return copy
