"""`transfer`: the whole way in one call."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from topwork._data.randomness import warn_of_randomness
from topwork._errors import InputError, public
from topwork._evidence.labelled import LabelledData
from topwork._evidence.networks import Weights, check_names, load_network, weights_of
from topwork._features.cache import open_cache
from topwork._names import published
from topwork._networks.arguments import check_task
from topwork._networks.variables import give_weights
from topwork._transfer.budget import Budget
from topwork._transfer.evidence import Evidence
from topwork._transfer.search import Search, measured, solved
from topwork._transfer.stages import fine_tuned

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
    fine_tuning: bool = True,
    minutes: float | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    precision: str = "float32",
    verbose: str | int = "auto",
) -> Transferred:
    """The whole way from labelled images to a model, each choice measured: no trial and error.

    Each network is run once over the images and gives the features at the ends of all its blocks. On
    those of each block, of several side by side, and with the averages of the four quarters of the
    image, a linear head is solved for, as `fit_head` does it. The features on which heads have the lowest
    loss on images that they were fitted without are taken, with more layers where the difference is
    within its standard error, and the head is solved on all training images. What the last layers have
    forgotten, earlier ones still know (Evci, Dumoulin, Larochelle and Mozer, 2022,
    https://arxiv.org/abs/2201.03529).

    Then the upper blocks are fine-tuned from that head, on four fifths of the training images, from two
    boundaries, and the fifth that is left judges the head alone, the weights after, and those half of the
    way (Wortsman et al., 2022, https://arxiv.org/abs/2109.01903). Only what gains more than the standard
    error of the gain is done on all images.

    Choices are made on the training images alone. The validation data, if there is any, measures the
    result and decides nothing, so that its figure is an honest one.

    Args:
        train: (images, labels) as arrays, a batched `tf.data.Dataset` or a `keras.utils.PyDataset`.
        validation_data: Likewise.
        names: Networks as `load_backbone` knows them, or functional models, of which copies are used;
            one or several. The cheapest should come first.
        weights: As in `load_backbone`; a dict of them by name for several networks.
        input_shape: As in `load_backbone`; None: that of the training images.
        task: What the labels are, as in `add_head`: `"classes"` (class numbers, or one-hot), `"labels"`
            (several an image, rows of 0 and 1) or `"numbers"`.
        fine_tuning: Whether it is tried. It takes many times as long as all else.
        minutes: What it may take. Networks, and fine-tuning, that do not fit any more are left out, which
            the evidence says; the first network is always tried.
        cache_dir: A folder to keep features in, as in `fit`.
        engine: As in `fit`.
        precision: As in `fit`, for networks that are compared; fine-tuning is in float32.
        verbose: As in `fit`; 0 is silent.

    Returns:
        A `Transferred`: `.model` is a compiled Keras model, and `.evidence` what was measured and
        decided, with the lines of Python that make the same by hand; it prints and draws itself.

    Raises:
        ValueError: An unknown network, or an argument or data that cannot be used.

    Example:
        >>> import numpy as np
        >>> import topwork as tw
        >>> labels = np.arange(20) % 2
        >>> images = np.random.uniform(0, 100, (20, 32, 32, 3)) + 150 * labels[:, None, None, None]
        >>> found = tw.transfer(
        ...     (images, labels), names="mobilenet", weights=None, fine_tuning=False, verbose=0
        ... )
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
        each.check_kind()
        warn_of_randomness(each.value, each.name)
    cache = open_cache("auto", cache_dir, engine, precision)
    budget = Budget(minutes)
    shape = input_shape or data[0].image_shape()
    networks = [load_network(name, (), weights_of(name, weights), shape) for name in listed]
    search = Search(data, task, cache, budget, verbose)
    search.check(networks)
    for network, name in zip(networks, listed, strict=True):
        search.try_network(own_copy(network) if network is name else network)
    found = search.found()
    given = listed[[network.name for network in networks].index(found.pooled.network.name)]
    tuned = fine_tuned(found, data[0], budget, verbose) if fine_tuning else None
    model = solved(found, data[0]) if tuned is None or tuned.model is None else tuned.model
    evidence = Evidence(
        decisions=(found.decision, *([] if tuned is None else [tuned.decision])),
        result=measured(model, found, data),
        recipe=found.recipe(given, weights_of(given, weights))
        + ("" if tuned is None else tuned.recipe()),
        left_out=tuple(budget.left_out),
        seconds=budget.spent,
    )
    return Transferred(model, evidence)


def own_copy(network: keras.Model) -> keras.Model:
    """A copy of the user's network, whose weights stay as they are."""
    copy = keras.models.clone_model(network)
    give_weights(copy, network.get_weights())
    return copy


def _check(names: list[Any], weights: Any, task: str, minutes: float | None) -> None:
    check_names(names, weights, None)
    check_task(task)
    is_number = isinstance(minutes, (int, float)) and not isinstance(minutes, bool)
    if minutes is not None and not (is_number and minutes > 0):
        raise InputError(f"minutes is a number greater than 0, or None. Received: {minutes!r}.")
