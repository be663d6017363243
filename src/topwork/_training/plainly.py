"""Training as `model.fit` does, where nothing can be computed once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from topwork._data.augmenting import augmented_anew
from topwork._data.checks import Guard
from topwork._data.data_sets import in_words
from topwork._data.imbalance import warn_of_rare_classes
from topwork._data.labels import label_kind
from topwork._data.reading import Batch, Source
from topwork._data.shared_images import shared_images
from topwork._data.watching import Watch
from topwork._data.weighting import complete
from topwork._training.schedule import Schedule
from topwork._training.step import make_functions


def fit_plainly(
    model: keras.Model, train: Source, validation: Source | None, augment: Any, schedule: Schedule
) -> keras.callbacks.History:
    """Let Keras train a model on the data itself, and look at each batch when Keras reads it."""
    for source, name in ((train, "training data"), (validation, "validation data")):
        if source is not None:
            Guard(model, f"the {name}", raises=False).look_through(source)  # warns of pixels
    x, y, sample_weight = train.given
    if augment is not None:
        x = augmented_anew(augment, model, x, y, sample_weight, schedule.batch_size, schedule.shuffle)
        y = sample_weight = None
    elif isinstance(x, tf.data.Dataset) and schedule.batch_size is not None:
        x = x.unbatch().batch(schedule.batch_size)
    arguments = schedule.for_keras()
    arguments["class_weight"] = complete(schedule.class_weight, y, label_kind(model))
    if not isinstance(x, tf.data.Dataset):
        arguments.update(batch_size=schedule.batch_size, shuffle=schedule.shuffle)
    watched = _Watched(model, train, validation, schedule.class_weight, is_augmented=augment is not None)
    x, held_out = watched.over(x)
    make_functions(model)
    with watched.looking(schedule.callbacks) as arguments["callbacks"]:
        return model.fit(x, y, sample_weight=sample_weight, validation_data=held_out, **arguments)


class _Watched:
    """Training and validation data while Keras reads them, and what is to be said of them then."""

    def __init__(
        self,
        model: keras.Model,
        train: Source,
        validation: Source | None,
        class_weight: Any,
        *,
        is_augmented: bool,
    ) -> None:
        self._model, self._train, self._class_weight = model, train, class_weight
        self._validation = validation
        shared = None if validation is None else shared_images(train, validation)
        is_said = shared is None or shared.warn_at_once() or is_augmented
        self._shared = None if is_said else shared
        name = "augmented training data" if is_augmented else "training data"
        self._watches = [
            Watch(model, f"the {name}", functools.partial(self._compare, 0)),
            Watch(model, "the validation data", functools.partial(self._compare, 1)),
        ]

    def over(self, x: Any) -> tuple[Any, Any]:
        """What to train and to validate on, in the place of the data."""
        held_out = None if self._validation is None else _for_validation(self._validation)
        return self._watches[0].over(x), self._watches[1].over(held_out)

    @contextlib.contextmanager
    def looking(self, callbacks: Any) -> Iterator[Any]:
        """Raise in words what is found wrong; gives the callbacks, with one that says what is rare."""
        own = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda *_: self._begin(), on_epoch_end=lambda *_: self._say()
        )
        is_list = isinstance(callbacks, keras.callbacks.CallbackList)
        others = [] if callbacks is None or is_list else keras.tree.flatten(callbacks)
        if is_list:
            callbacks.callbacks.append(own)
        try:
            yield callbacks if is_list else [*others, own]
        except Exception as error:
            told = in_words(error)
            if told is None:
                raise
            raise told from None
        finally:
            if is_list:
                callbacks.callbacks.remove(own)

    def _begin(self) -> None:
        for watch in self._watches:
            watch.begin()

    def _compare(self, which: int, batch: Batch) -> None:
        if self._shared is not None:
            self._shared.see(which, batch)

    def _say(self) -> None:
        """After an epoch, what was read in it."""
        y, sample_weight = map(self._watches[0].seen, ("y", "sample_weight"))
        if not self._train.is_endless:
            warn_of_rare_classes(self._model, self._train, y, sample_weight, self._class_weight)
        if self._shared is not None:
            self._shared.warn()
            self._shared = None


def _for_validation(source: Source) -> Any:
    x, y, sample_weight = source.given
    if y is None:
        return x
    return (x, y) if sample_weight is None else (x, y, sample_weight)
