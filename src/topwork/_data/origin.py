"""Where a data set comes from: its classes, its files and how they were read.

A `tf.data.Dataset` carries no such thing, and what is set on it as an attribute is lost with the first
`.map()` or `.batch()`. But each data set holds the one that it was made from, so that the attributes are
found below. `image_dataset_from_directory` sets `class_names` and `file_paths` in the same way.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._data.images import Setting
from topwork._data.order import is_shuffled_anew
from topwork._data.source import Source
from topwork._networks.record import Record, read_record, write_record
from topwork._private_keras import dataset_inputs, is_shuffled, keeps_order


@dataclasses.dataclass(frozen=True)
class Origin:
    """What is known of the files that a data set was read from.

    Attributes:
        class_names: In the order of the labels; None if they are not known.
        setting: How the photographs were read; None if it was not topwork that read them.
        paths: The files in the order of `in_order`; None if that is not known.
        labels: Their labels, likewise.
        in_order: The same data, unshuffled; None if the data set was changed since it was read.
    """

    class_names: tuple[str, ...] | None
    setting: Setting | None = None
    paths: tuple[str, ...] | None = None
    labels: Any = None
    in_order: Any = None


def origin_of(data: Any) -> Origin | None:
    """Where a data set comes from, whatever was mapped over it since; None if nothing is known."""
    if not isinstance(data, tf.data.Dataset):
        return None
    found = getattr(data, "_topwork_origin", None)
    if found is not None:
        return found
    names = getattr(data, "class_names", None)
    if names:
        return Origin(tuple(map(str, names)))
    below = [origin_of(each) for each in dataset_inputs(data)]
    known = [origin for origin in below if origin is not None]
    if not known or any(origin.class_names != known[0].class_names for origin in known):
        return None
    # The files may come in another order now, or not at all.
    return dataclasses.replace(known[0], paths=None, labels=None, in_order=None)


def class_names_of(data: Any) -> tuple[str, ...] | None:
    """The names that data has: of `read_folder`, Keras' own reader, or the iterators of older code."""
    origin = origin_of(data)
    names = getattr(data, "class_names", None) if origin is None else origin.class_names
    if names is None and isinstance(numbers := getattr(data, "class_indices", None), dict):
        names = sorted(numbers, key=numbers.__getitem__)
    return None if names is None else tuple(map(str, names))


def in_order(data: Any) -> tuple[Any, tuple[str, ...] | None]:
    """The data without shuffling where that is known, and the files that its images are from.

    None for the files where they are not known, or come in another order.
    """
    origin = origin_of(data)
    if origin is not None and origin.in_order is not None:
        return origin.in_order, origin.paths
    return data, _paths_of(data)


def _paths_of(data: Any) -> tuple[str, ...] | None:
    """The files of a data set, if all that was done to it since they were listed keeps their order."""
    if isinstance(data, keras.utils.PyDataset):
        # `filepaths` is what the iterators of older code have.
        paths = getattr(data, "file_paths", None) or getattr(data, "filepaths", None)
        return None if not paths or is_shuffled_anew(data) else tuple(map(str, paths))
    while isinstance(data, tf.data.Dataset):
        origin = getattr(data, "_topwork_origin", None)
        if origin is not None:
            return origin.paths if origin.in_order is data else None
        paths = getattr(data, "file_paths", None)  # of image_dataset_from_directory
        if paths:
            return None if is_shuffled(data) else tuple(map(str, paths))
        if not keeps_order(data):
            return None
        (data,) = dataset_inputs(data)
    return None


def learn_names(model: keras.Model, data: Any) -> None:
    """Let a model know, from the data that it is trained on, its classes and how images are read.

    What it knows already stays if the data says nothing, or has other classes than the model outputs.
    """
    origin, names = origin_of(data), class_names_of(data)
    if origin is None and names is None:
        return
    known = read_record(model)
    if names is not None and not _fits(model, len(names)):
        names = known.class_names
    setting = None if origin is None else origin.setting
    reader = "other" if setting is None else dataclasses.asdict(setting)
    record = Record(names, reader, _version())
    if record != known:
        write_record(model, record)


def targets_of(data: Any, source: Source) -> Any:
    """All labels: of a list of files where the data has one, else by reading through it once."""
    origin = origin_of(data)
    if origin is not None and origin.labels is not None:
        return origin.labels
    if source.is_in_memory:
        return source.given[1]
    return np.concatenate([keras.tree.flatten(batch.y)[0] for batch in source.batches()])


def _fits(model: keras.Model, n_names: int) -> bool:
    outputs = getattr(model, "outputs", None) or []
    units = outputs[0].shape[-1] if len(outputs) == 1 and len(outputs[0].shape) == 2 else None
    return n_names == units or (units == 1 and n_names == 2)


def _version() -> str:
    import topwork

    return topwork.__version__
