"""`fit`: Keras' `model.fit`, with what is frozen computed once."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from topwork._data.augmenting import augmented_anew, check_augment, on_arrays, warn_of_one_view
from topwork._data.checks import Guard
from topwork._data.randomness import randomness_in
from topwork._data.reading import Source, as_arrays, open_source
from topwork._errors import warn
from topwork._features.computation import Computation, open_cache
from topwork._features.frozen_part import FrozenPart
from topwork._features.split import NotSplittable, Split, split
from topwork._features.table import Table
from topwork._features.unknown_code import unknown_code
from topwork._networks.compilation import build_optimizer, compile_arguments
from topwork._networks.graph import require_functional

_PASS_AUGMENT = "Pass the images as they are, and the augmentation as augment=..., views=10."


def fit(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    validation_data: Any = None,
    epochs: int = 1,
    batch_size: int | None = None,
    augment: Callable[[Any], Any] | None = None,
    views: int = 1,
    cache: str | bool = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None = None,
    class_weight: dict[int, float] | None = None,
    sample_weight: Any = None,
    shuffle: bool = True,
    initial_epoch: int = 0,
    verbose: str | int = "auto",
) -> keras.callbacks.History:
    """Train a model as `model.fit` does, computing what is frozen once.

    The part of the model that cannot change is run once over the data, and the rest is trained on
    what it gave: the same variables, the same numbers, a fraction of the time. Where that is not
    possible, it says so once and trains as `model.fit`.

    Args:
        model: A compiled functional or Sequential model.
        x: Images as NumPy arrays (a list or dict of them for several inputs), a batched
            `tf.data.Dataset` or a `keras.utils.PyDataset` of (images, labels[, weights]).
        y: Labels, if `x` is arrays.
        validation_data: (images, labels[, weights]) or a data set; never augmented.
        epochs: The epoch to end with, as in `model.fit`.
        batch_size: Images in a training step; in one of validation too, if that is on arrays. None:
            32 for arrays, the data set's own else.
        augment: A Keras model or layer, called with `training=True`, or any callable from a batch of
            images to a batch of the same shape. `data.augmentation()` is one.
        views: How many augmented copies of each image are computed; every epoch draws one of them
            for each image, at random.
        cache: Where features are kept while training: `"memory"`, `"disk"` (a temporary file that is
            removed at the end), `"auto"` (in memory if they take at most half of what is free), or
            False: nothing is computed once, and each epoch is augmented anew.
        cache_dir: A folder to keep features in for later runs: an image is computed once, ever.
        callbacks: Keras callbacks; they see `model`.
        class_weight: As in `model.fit`.
        sample_weight: As in `model.fit`, if `x` is arrays.
        shuffle: Whether each epoch has an order of its own, for data sets too. False: the order, and
            the batches, that the data comes in.
        initial_epoch: As in `model.fit`.
        verbose: As in `model.fit`; 0 is silent.

    Returns:
        What `model.fit` returns: the losses and metrics of each epoch.

    Raises:
        ValueError: An argument or the data cannot be right; raised before anything is trained.

    Example:
        >>> import numpy as np
        >>> import topwork as tw
        >>> backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(32, 32, 3))
        >>> model = tw.add_head(n_classes=2, hidden_units=8)(tw.freeze(backbone))
        >>> images, labels = np.random.uniform(0, 255, (8, 32, 32, 3)), np.arange(8) % 2
        >>> history = tw.fit(model, images, labels, epochs=3, verbose=0)
        >>> len(history.history["loss"])
        3
    """
    _check_model(model)
    _check_numbers(epochs, initial_epoch, batch_size)
    check_augment(augment, views)
    place = open_cache(cache, cache_dir)
    data = _Data(x, y, sample_weight, validation_data)
    train, validation = data.open(model)
    schedule = _Schedule(epochs, initial_epoch, batch_size, shuffle, callbacks, class_weight, verbose)
    halves = None if cache is False else _split(model, data, train, verbose)
    if halves is None:
        _check_before(model, train, validation, augment)
        return _fit_plainly(model, data, augment, schedule)
    warn_of_one_view(augment, views)
    computation = Computation(model, FrozenPart(halves.prefix), place, verbose)
    tables = [computation.table(train, "training data", augment, views)]
    batch_sizes = [batch_size]
    if validation is not None:
        tables.append(computation.table(validation, "validation data"))
        batch_sizes.append(batch_size if validation.is_in_memory else None)
    computation.say(tables)
    return _train_tail(model, halves.tail, tables, batch_sizes, schedule)


def precompute(
    model: keras.Model,
    x: Any,
    *,
    cache_dir: str | os.PathLike[str],
    augment: Callable[[Any], Any] | None = None,
    views: int = 1,
    verbose: str | int = "auto",
) -> int:
    """Compute only what is frozen, into a store that `fit(..., cache_dir=...)` finds it in.

    Any number of processes, on one machine or on several that share the folder, may do so at once,
    each with its part of the data, `dataset.shard(n, i)` for example.

    Args:
        model: The model that will be trained, or its frozen backbone with a trainable head.
        x: Images, as `fit` takes them; labels beside them are not used.
        cache_dir: The folder of the store; made if it is not there.
        augment: As in `fit`. The copies are found again if `augment` draws the same again.
        views: As in `fit`.
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
    require_functional(model, "precompute")
    check_augment(augment, views, "precompute")
    cache = open_cache("disk", cache_dir)
    randomness = randomness_in(x)
    if randomness is not None:
        raise ValueError(
            f"precompute: the data set is augmented at random: it has {randomness}. {_PASS_AUGMENT}"
        )
    try:
        halves = split(model)
    except NotSplittable as reason:
        raise ValueError(
            f"precompute: nothing of {model.name!r} can be computed once, because {reason}. Freeze the "
            "backbone, freeze(backbone), before the head is added."
        ) from reason
    computation = Computation(model, FrozenPart(halves.prefix), cache, verbose)
    table = computation.table(open_source(model, x), "images", augment, views, labelled=False)
    computation.say([table])
    return table.n_computed


@dataclasses.dataclass(frozen=True)
class _Data:
    """The data arguments of `fit`."""

    x: Any
    y: Any
    sample_weight: Any
    validation_data: Any

    @property
    def validation(self) -> tuple[Any, ...]:
        """The validation data as images, labels, weights, of which the last may be missing."""
        given = self.validation_data
        return tuple(given) if isinstance(given, (tuple, list)) else (given,)

    def open(self, model: keras.Model) -> tuple[Source, Source | None]:
        train = open_source(model, self.x, self.y, self.sample_weight)
        if self.validation_data is None:
            return train, None
        if len(self.validation) > 3:
            raise ValueError(
                "fit: validation_data is (images, labels[, weights]) or a data set. Received: "
                f"{len(self.validation)} values."
            )
        try:
            return train, open_source(model, *self.validation)
        except ValueError as error:
            raise ValueError(f"{error} This is about validation_data.") from error


@dataclasses.dataclass(frozen=True)
class _Schedule:
    """The arguments of `fit` that say how to train."""

    epochs: int
    initial_epoch: int
    batch_size: int | None
    shuffle: bool
    callbacks: Any
    class_weight: dict[int, float] | None
    verbose: str | int


def _check_model(model: keras.Model) -> None:
    require_functional(model, "fit")
    if not model.compiled:
        raise ValueError(
            f"fit: {model.name!r} was not compiled. Call model.compile(optimizer=..., loss=...), or make "
            "the head with add_head, which does."
        )
    if not model.trainable_variables:
        raise ValueError(
            f"fit: nothing in {model.name!r} is trainable. Add a head, add_head(n_classes=...)(model), "
            "or unfreeze a part, fine_tune(model, unfreeze_from=...)."
        )


def _check_numbers(epochs: Any, initial_epoch: Any, batch_size: Any) -> None:
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs <= initial_epoch:
        raise ValueError(
            "fit: epochs is the number of the last epoch, a whole number greater than initial_epoch. "
            f"Received: epochs={epochs!r}, initial_epoch={initial_epoch!r}."
        )
    is_count = isinstance(batch_size, int) and not isinstance(batch_size, bool) and batch_size > 0
    if batch_size is not None and not is_count:
        raise ValueError(
            f"fit: batch_size must be a whole number of at least 1, or None. Received: {batch_size!r}."
        )


def _split(model: keras.Model, data: _Data, source: Source, verbose: str | int) -> Split | None:
    """The model in two if something can be computed once for this data; else say why not."""
    for name, x in (("data set", data.x), ("validation data", data.validation[0])):
        randomness = randomness_in(x)
        if randomness is not None:
            warn(
                f"fit: the {name} is augmented at random: it has {randomness}. Computing it once would "
                f"show the same copy in every epoch, so that nothing is computed once. {_PASS_AUGMENT}"
            )
            return None
    try:
        with model.distribute_strategy.scope():
            halves = split(model)
        if unknown_code(halves.prefix):
            _check_repeatable(halves.prefix, source)
    except NotSplittable as reason:
        _say_not_split(model, reason, verbose)
        return None
    return halves


def _check_repeatable(prefix: keras.Model, source: Source) -> None:
    for batch in itertools.islice(source.batches(), 1):
        if not FrozenPart(prefix).is_repeatable([array[:4] for array in batch.inputs]):
            raise NotSplittable(
                "its frozen part has code that is not Keras' own, and gives other features for the "
                "same images when it is run again as in training"
            )
        if prefix.losses:
            raise NotSplittable("its frozen part has code that is not Keras' own, and adds to the loss")


def _say_not_split(model: keras.Model, reason: NotSplittable, verbose: str | int) -> None:
    text = f"fit: nothing of {model.name!r} is computed once, because {reason}."
    if any(layer.weights and not layer.trainable for layer in model.layers):
        warn(f"{text} Frozen layers run in every epoch.")
    elif verbose != 0:
        print(f"topwork: {text}", flush=True)


def _check_before(model: keras.Model, train: Source, validation: Source | None, augment: Any) -> None:
    """What is checked on the way where features are computed: all of arrays, of others one batch."""
    for source, name in ((train, "training data"), (validation, "validation data")):
        if source is None:
            continue
        guard = Guard(model, f"the {name}")
        n_batches = None if source.is_in_memory else 1
        for batch in itertools.islice(source.batches(), n_batches):
            guard.check(batch.inputs, batch.y)
        guard.check_not_empty()
    if augment is not None:
        on_arrays(augment)(next(train.batches()).inputs)


def _fit_plainly(
    model: keras.Model, data: _Data, augment: Any, schedule: _Schedule
) -> keras.callbacks.History:
    x, y, sample_weight = data.x, as_arrays(data.y), as_arrays(data.sample_weight)
    validation = data.validation_data
    if isinstance(validation, (tuple, list)):
        validation = tuple(map(as_arrays, validation))
    if augment is not None:
        x = augmented_anew(augment, model, x, y, sample_weight, schedule.batch_size, schedule.shuffle)
        y = sample_weight = None
    elif isinstance(x, tf.data.Dataset) and schedule.batch_size is not None:
        x = x.unbatch().batch(schedule.batch_size)
    arguments = vars(schedule)
    if isinstance(x, tf.data.Dataset):
        arguments = {**arguments, "batch_size": None, "shuffle": False}
    return model.fit(x, y, sample_weight=sample_weight, validation_data=validation, **arguments)


def _train_tail(
    model: keras.Model,
    tail: keras.Model,
    tables: list[Table],
    batch_sizes: list[int | None],
    schedule: _Schedule,
) -> keras.callbacks.History:
    build_optimizer(model)
    with model.distribute_strategy.scope():
        # The optimizer scales the loss already, if the model's precision asks for it.
        tail.compile(optimizer=model.optimizer, auto_scale_loss=False, **compile_arguments(model))
    train, *validation = (
        table.dataset(batch_size, shuffle=schedule.shuffle and table is tables[0])
        for table, batch_size in zip(tables, batch_sizes, strict=True)
    )
    callbacks = keras.callbacks.CallbackList(
        [*_listed(schedule.callbacks), _Follow(tail)],
        add_history=True,
        add_progbar=schedule.verbose != 0,
        model=model,
        verbose=schedule.verbose,
        epochs=schedule.epochs,
        steps=len(train),
    )
    model.stop_training = False
    tail.history = model.history
    return tail.fit(
        train,
        validation_data=validation[0] if validation else None,
        callbacks=callbacks,
        epochs=schedule.epochs,
        initial_epoch=schedule.initial_epoch,
        class_weight=_complete(schedule.class_weight, tables[0].y),
        shuffle=False,  # the data set does it
        verbose=schedule.verbose,
    )


def _complete(class_weight: dict[int, float] | None, y: Any) -> dict[int, float] | None:
    """Weights for all classes: Keras takes those left out as 1 for arrays, but not for data sets."""
    if not class_weight or not hasattr(y, "shape"):
        return class_weight
    is_one_hot = y.ndim > 1 and y.shape[-1] > 1
    last = y.shape[-1] - 1 if is_one_hot else round(float(y.max()))
    return {c: class_weight.get(c, 1.0) for c in range(max(last, *class_weight) + 1)}


def _listed(callbacks: Any) -> list[Any]:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return keras.tree.flatten(callbacks) if callbacks is not None else []


class _Follow(keras.callbacks.Callback):
    """Lets the tail, which Keras trains, do what callbacks ask of the model, which they see."""

    async_safe = True  # as Keras' own callbacks, so that metrics are not waited for at every batch

    def __init__(self, tail: keras.Model) -> None:
        super().__init__()
        self._tail = tail

    def on_train_begin(self, logs: Any = None) -> None:
        # BackupAndRestore has the next epoch in this attribute, the only way that Keras has for it.
        self._tail._initial_epoch = getattr(self.model, "_initial_epoch", 0)
        self._tail.stop_training = self.model.stop_training

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._tail.stop_training = self.model.stop_training

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._tail.stop_training = self.model.stop_training
