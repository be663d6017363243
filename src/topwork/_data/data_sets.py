"""Data sets of every kind as sources: tf.data, PyDataset, generators."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import tensorflow as tf

from topwork._data.inputs import as_arrays, inputs_in_order, map_arrays
from topwork._data.source import Batch, Source, paired_batches, unpacked, unpacked_element
from topwork._errors import InputError
from topwork._private_keras import repeated_forever

_KIND = "(jpe?g|png|gif|bmp|webp|image)"
_UNDECODABLE = re.compile(
    rf"node [\w/]*decode\w*{_KIND}|invalid {_KIND}|unknown image file format|jpeg::", re.IGNORECASE
)
# An error of topwork's own, as TensorFlow shows what was raised in one of its threads.
_OWN = re.compile(r"InputError: (.*?)(?:\nTraceback |\n\n|\Z)", re.DOTALL)
# What TensorFlow puts around the words of an operation.
_AROUND = re.compile(
    r"^(Graph execution error:|Detected at .*|<stack traces .*|\s*\[\[.*|\{\{.*?\}\} |"
    r"Error in user-defined function .* iterator: \S+: |\s*)",
    re.MULTILINE,
)


def open_data_set(model: keras.Model, x: Any, steps: int | None) -> tuple[str, Source | None]:
    """The data if it is a data set of any kind, and what that kind is called."""
    if isinstance(x, tf.data.Dataset):
        return "tf.data.Dataset", _from_dataset(model, x, steps)
    if isinstance(x, keras.utils.PyDataset):
        return "keras.utils.PyDataset", _from_py_dataset(model, x, steps)
    if inspect.isgeneratorfunction(x):
        return "generator", _from_dataset(model, _dataset_of(model, x, x), steps)
    if type(x).__module__.startswith("torch.utils.data"):
        return "DataLoader", _from_dataset(model, _dataset_of(model, x.__iter__, x), steps)
    return "", None


def _from_dataset(model: keras.Model, dataset: tf.data.Dataset, steps: int | None) -> Source:
    given = dataset
    if isinstance(dataset.element_spec, dict):
        given = dataset.map(lambda element: unpacked(model, element)[:2])
    is_endless = dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    if is_endless and steps is None:
        raise InputError(
            "the dataset is endless (it was repeated), and an epoch would never end. Leave out "
            ".repeat(), bound it with .take(n_batches), or say how long an epoch is, steps_per_epoch."
        )
    once = repeated_forever(dataset) if is_endless else dataset
    _check_batched(model, dataset)
    reason = None
    if once is None:
        reason = "the data set is endless, and does not end in .repeat() of one that ends"
    elif steps is not None and once.cardinality() == tf.data.UNKNOWN_CARDINALITY:
        reason = "it cannot be known whether the data set ever ends"
    read = dataset if reason or once is None else once

    def batches() -> Iterator[Batch]:
        elements = _readable(untuned(read.prefetch(2)))
        yield from paired_batches(model, elements)

    n_batches = int(read.cardinality())
    return Source(
        batches,
        n_batches if n_batches >= 0 else None,
        given=(given, None, None),
        only_plainly=reason,
        is_endless=is_endless,
    )


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same data, read with as many threads as TensorFlow begins with: one a processor, at most 16.

    What tunes that number while data is read often misses that it should end: the iterator then takes up
    to half as long again to go away as it was read for (seen in TensorFlow 2.21, in every third pass).
    """
    if dataset.options().autotune.enabled is not None:  # the user decided it
        return dataset
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _check_batched(model: keras.Model, dataset: tf.data.Dataset) -> None:
    spec = unpacked_element(model, dataset.element_spec)[0]
    shapes = [getattr(item, "shape", None) for item in inputs_in_order(model, spec)]
    if all(
        shape is not None and shape.rank is not None and shape.is_compatible_with(tensor.shape[1:])
        for shape, tensor in zip(shapes, model.inputs, strict=True)
    ):
        raise InputError(
            "the dataset is not batched: its elements are single images of shape "
            f"{shapes[0]}. Batch it: dataset.batch(32)."
        )


def _readable(dataset: tf.data.Dataset) -> Iterator[Any]:
    """The elements; a broken photograph on the way is said in words."""
    iterator = iter(dataset)
    while True:
        try:
            element = next(iterator)
        except StopIteration:
            return
        except tf.errors.InvalidArgumentError as error:
            told = in_words(error)
            if told is None:
                raise
            raise told from error
        yield element


def in_words(error: Exception) -> InputError | None:
    """What is wrong with the data, of an error that arose in TensorFlow while it was read.

    None if it is not known to be about the data.
    """
    message = str(getattr(error, "message", ""))
    own = _OWN.search(message)
    if own is not None:
        return InputError(own[1])
    if not isinstance(error, tf.errors.InvalidArgumentError) or not _UNDECODABLE.search(message):
        return None
    cause = next(filter(None, (_AROUND.sub("", line).strip() for line in message.splitlines())), "")
    return InputError(
        f"the data set has a file that cannot be decoded: {cause.partition(' [')[0].rstrip('.')}. "
        "topwork.data.find_bad_images(folder) names all such files."
    )


def _dataset_of(model: keras.Model, make: Callable[[], Any], given: Any) -> tf.data.Dataset:
    """What a generator function yields, as a dataset that can be read again."""
    first = next(iter(make()), None)
    if first is None:
        raise InputError("the generator has no batches. Look at how it is made.")
    takes_any_size = any(None in tensor.shape[1:] for tensor in model.inputs)

    def spec(array: Any) -> tf.TensorSpec:
        is_map = takes_any_size and array.ndim > 2
        return tf.TensorSpec(
            (None,) * (array.ndim - 1) + array.shape[-1:] if is_map else (None, *array.shape[1:]),
            array.dtype,
        )

    signature = map_arrays(spec, _arrays_of(first))
    dataset = tf.data.Dataset.from_generator(lambda: map(_arrays_of, make()), output_signature=signature)
    dataset.is_constant = getattr(given, "is_constant", False)
    return dataset


def _arrays_of(element: Any) -> Any:
    if isinstance(element, (tuple, list)) and len(element) <= 3:
        return tuple(map(as_arrays, element, ("x", "y", "sample_weight")))
    return as_arrays(element, "x")


def _from_py_dataset(model: keras.Model, dataset: keras.utils.PyDataset, steps: int | None) -> Source:
    n_batches = getattr(dataset, "num_batches", None)
    if n_batches is None and steps is None:
        raise InputError(
            "the PyDataset is endless (its num_batches is None), and an epoch would never end. Define "
            "__len__, the number of batches, or say how long an epoch is, steps_per_epoch."
        )
    endless = "the PyDataset is endless (its num_batches is None)" if n_batches is None else None

    def batches() -> Iterator[Batch]:
        begin_epoch(dataset)
        numbers = itertools.count() if n_batches is None else range(n_batches)
        yield from paired_batches(model, items(dataset, numbers))

    return Source(
        batches,
        n_batches,
        given=(dataset, None, None),
        only_plainly=endless,
        is_endless=n_batches is None,
    )


def items(dataset: keras.utils.PyDataset, numbers: Iterable[int]) -> Iterator[Any]:
    """Some batches of a PyDataset, read ahead by as many threads as it asks for."""
    todo = iter(numbers)
    with ThreadPoolExecutor(max(1, dataset.workers)) as pool:
        ahead = itertools.islice(todo, max(1, dataset.max_queue_size))
        waiting = [pool.submit(dataset.__getitem__, i) for i in ahead]
        while waiting:
            element = waiting.pop(0).result()
            waiting += [pool.submit(dataset.__getitem__, i) for i in itertools.islice(todo, 1)]
            yield element


def begin_epoch(dataset: keras.utils.PyDataset) -> None:
    """Call its `on_epoch_begin`, which is younger than Keras' other methods."""
    getattr(dataset, "on_epoch_begin", lambda: None)()


def has_epochs(dataset: keras.utils.PyDataset) -> bool:
    """Whether it does something between epochs."""
    own, kind = keras.utils.PyDataset, type(dataset)
    names = ("on_epoch_begin", "on_epoch_end")
    return any(getattr(kind, name, None) is not getattr(own, name, None) for name in names)


class MappedPyDataset(keras.utils.PyDataset):
    """Another PyDataset: of each batch, and its number, what a function makes of it."""

    def __init__(self, dataset: keras.utils.PyDataset, function: Callable[[Any, int], Any]) -> None:
        super().__init__(workers=dataset.workers, max_queue_size=dataset.max_queue_size)
        self._dataset, self._function = dataset, function

    @property
    def num_batches(self) -> int | None:
        n_batches: int | None = self._dataset.num_batches
        return n_batches

    def __getitem__(self, index: int) -> Any:
        return self._function(self._dataset[index], index)

    def on_epoch_begin(self) -> None:
        begin_epoch(self._dataset)

    def on_epoch_end(self) -> None:
        self._dataset.on_epoch_end()
