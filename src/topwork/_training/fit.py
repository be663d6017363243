"""`fit`: Keras' `model.fit`, with what is frozen computed once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras

from topwork._data.augmenting import (
    PASS_AUGMENT,
    check_augment,
    on_arrays,
    warn_of_one_view,
)
from topwork._data.checks import Guard
from topwork._data.imbalance import labels_at_once, warn_of_rare_classes
from topwork._data.origin import learn_names, targets_of
from topwork._data.randomness import about_randomness
from topwork._data.reading import Source, build_sequential
from topwork._data.weighting import complete
from topwork._errors import InputError, public, verb, warn
from topwork._features.cache import open_cache
from topwork._features.computation import Computation, Run
from topwork._features.split import NotSplittable, Split, split
from topwork._features.table import Table
from topwork._networks.compilation import build_optimizer, require_compiled
from topwork._networks.graph import require_functional
from topwork._networks.thawed import freeze_again
from topwork._networks.units import needs_units, set_units
from topwork._private_keras import changed_since_compile
from topwork._training.checkpoints import warn_of_h5
from topwork._training.convergence import rates_restored, say_if_not_converged
from topwork._training.data_arguments import Data, weighted
from topwork._training.plainly import fit_plainly
from topwork._training.schedule import Schedule
from topwork._training.step import build_metrics, is_distributed, takes_features
from topwork._voice import say


@public
def fit(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    validation_data: Any = None,
    validation_split: float = 0.0,
    epochs: int = 1,
    batch_size: int | None = None,
    augment: Callable[[Any], Any] | None = None,
    views: int = 1,
    cache: str | bool = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    precision: str = "float32",
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None = None,
    class_weight: dict[int, float] | None = None,
    sample_weight: Any = None,
    shuffle: bool | str = True,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Sequence[int] = 1,
    verbose: str | int = "auto",
) -> keras.callbacks.History:
    """Train a model as `model.fit` does, but compute what is frozen only once.

    The part of the model that cannot change runs once over the data. The rest is trained on the result.
    Variables and numbers are those of `model.fit`, in a fraction of the time. If nothing can be computed
    once, `fit` says so and trains as `model.fit` does.

    Args:
        model: A compiled functional or Sequential model.
        x: Images as NumPy arrays (a list or dict of them for several inputs), a batched
            `tf.data.Dataset` or a `keras.utils.PyDataset` of (images, labels[, weights]).
        y: Labels, if `x` is arrays.
        validation_data: (images, labels[, weights]) or a data set; never augmented.
        validation_split: The part of arrays, over 0 and under 1, that is kept for validation: the last
            images, before any shuffling. `validation_data` goes before it.
        epochs: The epoch to end with, as in `model.fit`.
        batch_size: Images in a training step, and in a validation step if the validation data is
            arrays. None: 32 for arrays; a data set has its own batches.
        augment: A Keras model or layer, called with `training=True`, or any callable from a batch of
            images to a batch of the same shape. `data.augmentation()` is one.
        views: How many augmented copies of each image are computed; every epoch draws one of them
            for each image, at random.
        cache: Where features are kept while training: `"memory"`, `"disk"` (a temporary file that is
            removed at the end), `"auto"` (in memory if they take at most half of what is free), or
            False: nothing is computed once, and each epoch has new augmented copies.
        cache_dir: A folder to keep features in. Later runs find them there.
        engine: What runs the frozen part: `"tensorflow"`; `"openvino"`, on a processor, with the extra
            of that name; `"auto"`: the fastest for the precision.
        precision: Of the numbers inside the frozen part while its features are computed: `"float32"`,
            `"bfloat16"` or `"float16"`. The model that is trained and saved does not change. If the
            hardware has no instructions for it, `fit` says so and uses float32.
        callbacks: Keras callbacks; they see `model`.
        class_weight: As in `model.fit`.
        sample_weight: As in `model.fit`, if `x` is arrays.
        shuffle: Whether each epoch has a new random order, also for data sets. False: the order and the
            batches of the data. `"batch"`: only within each batch.
        initial_epoch: As in `model.fit`.
        steps_per_epoch: As in `model.fit`.
        validation_steps: As in `model.fit`.
        validation_batch_size: As in `model.fit`; None: `batch_size`.
        validation_freq: As in `model.fit`: validate every so many epochs, or in the epochs listed.
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
    build_sequential(model, x)
    _check_model(model)
    views = check_augment(augment, views)
    place = open_cache(cache, cache_dir, engine, precision)
    schedule = Schedule(
        epochs=epochs,
        initial_epoch=initial_epoch,
        batch_size=batch_size,
        shuffle=shuffle,
        callbacks=callbacks,
        class_weight=class_weight,
        steps_per_epoch=steps_per_epoch,
        validation_steps=validation_steps,
        validation_batch_size=validation_batch_size,
        validation_freq=getattr(validation_freq, "tolist", lambda: validation_freq)(),  # of NumPy
        verbose=verbose,
    )
    data = Data.of(x, y, sample_weight, validation_data, validation_split)
    schedule.check(has_validation=data.validation_data is not None)
    warn_of_h5(model, callbacks)
    train, validation = data.open(model, steps_per_epoch, validation_steps)
    schedule = weighted(model, train, schedule)
    train, validation = _looked_through(model, train, validation)
    warn_of_rare_classes(model, train, *labels_at_once(train), class_weight)
    learn_names(model, x)
    halves = None if cache is False else _split(model, train, validation, verbose)
    if halves is None:
        history, n_validation = _fit_on_images(model, x, train, validation, augment, schedule), None
    else:
        warn_of_one_view(augment, views)
        computation = Computation(model, halves.prefix, place, verbose)
        tables = _tables(computation, train, validation, augment, views)
        warn_of_rare_classes(model, train, tables[0].y, tables[0].sample_weight, class_weight)
        history = _fit_on_features(model, halves, tables, [train, validation], schedule)
        n_validation = len(tables[1]) if len(tables) > 1 else None
    say_if_not_converged(model, history, callbacks, n_validation, verbose)
    return history


def _check_model(model: keras.Model) -> None:
    require_functional(model)
    require_compiled(model)
    freeze_again(model)
    if not model.trainable_variables:
        raise InputError(
            f"nothing in {model.name!r} is trainable. Add a head, add_head(n_classes=...)(model), "
            "or unfreeze a part, fine_tune(model, unfreeze_from=...)."
        )
    changed = changed_since_compile(model)
    if changed:
        raise InputError(
            f"`trainable` of {len(changed)} layers was changed after {model.name!r} was compiled, "
            f"of {changed[0]!r} first, and Keras goes on as it was compiled. Change it with "
            "topwork.freeze(model, until=...) or topwork.fine_tune(model, ...), which compile the model "
            "again, or call model.compile(...)."
        )


def _split(
    model: keras.Model, train: Source, validation: Source | None, verbose: str | int
) -> Split | None:
    """The model in two if something can be computed once for this data; else say why not."""
    if train.only_plainly is not None:
        warn(f"nothing of {model.name!r} is computed once, because {train.only_plainly}.")
        return None
    for name, source in (("data set", train), ("validation data", validation)):
        told = None if source is None else about_randomness(source.given[0], name)
        if told is not None:
            warn(
                f"{told} Computing it once would show the same copy in every epoch, so that nothing is "
                f"computed once. {PASS_AUGMENT}"
            )
            return None
    try:
        with model.distribute_strategy.scope():
            return split(model, train.sample)
    except NotSplittable as reason:
        _say_not_split(model, reason, verbose)
        return None


def _say_not_split(model: keras.Model, reason: NotSplittable, verbose: str | int) -> None:
    text = f"nothing of {model.name!r} is computed once, because {reason}."
    if any(layer.weights and not layer.trainable for layer in model.layers):
        warn(f"{text} Frozen layers run in every epoch.")
    else:
        say(f"{verb()}: {text}", verbose)


def _looked_through(
    model: keras.Model, train: Source, validation: Source | None
) -> tuple[Source, Source | None]:
    """The data, after what can be checked before anything is computed."""
    train = Guard(model, "the training data", warns=False).look_through(train)
    if validation is not None:
        validation = Guard(model, "the validation data", warns=False).look_through(validation)
    return train, validation


def _fit_on_images(
    model: keras.Model,
    x: Any,
    train: Source,
    validation: Source | None,
    augment: Callable[[Any], Any] | None,
    schedule: Schedule,
) -> keras.callbacks.History:
    """Train the whole model in every step, where nothing can be computed once."""
    if augment is not None and train.sample is not None:
        on_arrays(augment)(train.sample)  # raises
    if needs_units(model):
        set_units(model, targets_of(x, train))
    with rates_restored(schedule.callbacks):
        return fit_plainly(model, train, validation, augment, schedule)


def _tables(
    computation: Computation,
    train: Source,
    validation: Source | None,
    augment: Callable[[Any], Any] | None,
    views: int,
) -> list[Table]:
    """The features of the training data, and of the validation data if there is any."""
    runs = [Run(train, "training data", augment, views)]
    if validation is not None:
        runs.append(Run(validation, "validation data"))
    tables = computation.tables(*runs)
    computation.say(tables)
    return tables


def _fit_on_features(
    model: keras.Model,
    halves: Split,
    tables: list[Table],
    given: list[Source | None],
    schedule: Schedule,
) -> keras.callbacks.History:
    """Train what comes after the frozen part on what that gave."""
    set_units(model, tables[0].y)
    sources = [source for source in given if source is not None]
    sizes = schedule.batch_sizes(list(map(len, tables)), [source.is_in_memory for source in sources])
    train, *validation = (
        table.dataset(size, shuffle=schedule.shuffle if table is tables[0] else False)
        for table, size in zip(tables, sizes, strict=False)
    )
    if sources[0].is_endless:
        train = train.repeat()
    if validation and sources[1].is_endless:
        validation = [validation[0].repeat()]
    arguments = schedule.for_keras()
    arguments["class_weight"] = complete(schedule.class_weight, tables[0].y)
    build_optimizer(model)
    if is_distributed(model):
        build_metrics(model, halves.tail, next(iter(train)))
    with rates_restored(schedule.callbacks), takes_features(model, halves.tail, halves.frontier):
        return model.fit(train, validation_data=next(iter(validation), None), **arguments)
