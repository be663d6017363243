"""`precompute`: only what is frozen, into a store."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import keras

from topwork._data.augmenting import PASS_AUGMENT, check_augment
from topwork._data.randomness import about_randomness
from topwork._data.reading import build_sequential, open_source
from topwork._errors import InputError, public
from topwork._features.cache import open_cache
from topwork._features.computation import Computation, Run
from topwork._features.split import require_split
from topwork._networks.graph import require_functional
from topwork._networks.thawed import freeze_again


@public
def precompute(
    model: keras.Model,
    x: Any,
    *,
    cache_dir: str | os.PathLike[str],
    augment: Callable[[Any], Any] | None = None,
    views: int = 1,
    engine: str = "auto",
    precision: str = "float32",
    verbose: str | int = "auto",
) -> int:
    """Compute only the features of the frozen part, and store them for `fit(..., cache_dir=...)`.

    Any number of processes may do this at the same time, on one machine or on several that share the
    folder. Give each a part of the data, for example `dataset.shard(n, i)`.

    Args:
        model: The model that will be trained, or its frozen backbone with a trainable head.
        x: Images, as `fit` takes them; labels beside them are not used.
        cache_dir: The folder of the store; made if it is not there.
        augment: As in `fit`. The copies are found again if `augment` draws the same again.
        views: As in `fit`.
        engine: As in `fit`.
        precision: As in `fit`.
        verbose: 0 is silent.

    Returns:
        How many rows of features were computed; the others were in the store.

    Raises:
        ValueError: Nothing of the model can be computed once, or the data cannot be used.
        OSError: The folder cannot be written, or its disk is full.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import topwork as tw
        >>> backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(32, 32, 3))
        >>> model = tw.add_head(n_classes=2, hidden_units=8)(tw.freeze(backbone))
        >>> images = np.random.uniform(0, 255, (8, 32, 32, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [tw.precompute(model, images, cache_dir=folder, verbose=0) for _ in range(2)]
        [8, 0]
    """
    build_sequential(model, x)
    require_functional(model)
    freeze_again(model)
    if cache_dir is None:
        raise InputError(
            "cache_dir is the folder that features are kept in. Received: None, with which "
            "they would be computed and thrown away."
        )
    views = check_augment(augment, views)
    cache = open_cache("disk", cache_dir, engine, precision)
    source = open_source(model, x)
    told = about_randomness(source.given[0], "data set")
    if told is not None:
        raise InputError(f"{told} Stored, each would be the same in every epoch. {PASS_AUGMENT}")
    halves = require_split(model, source.sample)
    computation = Computation(model, halves.prefix, cache, verbose)
    (table,) = computation.tables(
        Run(source, "images", augment, views, labelled=False, may_be_empty=True)
    )
    computation.say([table])
    return table.n_computed
