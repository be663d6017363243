"""Labelled images for `report`, batch by batch, whatever they are kept in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from topwork._data.checks import warn_of_scaled_pixels
from topwork._data.images import described
from topwork._networks.pixel_range import expected_range

_BATCH_SIZE = 32
Array = npt.NDArray[Any]


def labelled_batches(model: Any, data: Any) -> Iterator[tuple[Array, Array]]:
    """Images and labels of each batch; the pixel range is looked at in the first."""
    expected = expected_range(model)
    for batch in _batches(data):
        images, labels = _images_and_labels(batch)
        _check_batched(images, model)
        if expected is not None:
            warn_of_scaled_pixels(images, expected, "report(): the data")
            expected = None
        yield images, labels


def class_numbers(labels: Array, n_classes: int) -> npt.NDArray[np.int64]:
    """The class of each image, from class numbers, (images,) or (images, 1), or one-hot labels.

    Raises:
        ValueError: They are neither, or not of these classes.
    """
    if labels.ndim == 2 and labels.shape[1] == n_classes:
        _check_one_hot(labels)
        return labels.argmax(axis=1)
    if labels.ndim not in (1, 2) or labels.size != len(labels) or labels.dtype.kind not in "biuf":
        raise ValueError(
            f"report() takes one class number for each image, or one-hot labels of {n_classes} columns. "
            f"Received: {described(labels)}, {labels.dtype}. Where labels are names, number them in the "
            "order of class_names."
        )
    flat = labels.reshape(len(labels))
    outside = flat[(flat < 0) | (flat >= n_classes) | (flat != np.floor(flat))]
    if len(outside):
        raise ValueError(
            f"report() found the label {outside[0]}, and the model has {n_classes} classes, numbered 0 "
            f"to {n_classes - 1}. Number the labels from 0, in the order of class_names."
        )
    return flat.astype("int64")


def _check_one_hot(labels: Array) -> None:
    is_one_hot = ((labels == 0) | (labels == 1)).all(axis=1) & (labels.sum(axis=1) == 1)
    if not is_one_hot.all():
        raise ValueError(
            "report() takes one-hot labels with a single 1 in each row. Received the row: "
            f"{labels[~is_one_hot][0]}. For smoothed or mixed labels give the ones they were made from; "
            "for images of several classes no single class is right."
        )


def _batches(data: Any) -> Iterator[Any]:
    if isinstance(data, tf.data.Dataset):
        return _from_dataset(data)
    if isinstance(data, keras.utils.PyDataset):
        return (data[number] for number in range(len(data)))
    if isinstance(data, (tuple, list)) and len(data) in (2, 3):
        return _from_arrays(np.asarray(data[0]), np.asarray(data[1]))
    raise ValueError(
        "report() takes (images, labels) as arrays, a tf.data.Dataset or a keras.utils.PyDataset of "
        f"such batches. Received: {described(data)}. Give images and labels together: "
        "report(model, (images, labels), class_names)."
    )


def _from_dataset(dataset: Any) -> Iterator[Any]:
    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "report() received an endless dataset: it was repeated. Leave out .repeat(), or bound it "
            "with .take(n_batches)."
        )
    return iter(dataset)


def _from_arrays(images: Array, labels: Array) -> Iterator[tuple[Array, Array]]:
    if len(images) != len(labels):
        raise ValueError(
            f"report() received {len(images)} images and {len(labels)} labels. Give one label for each "
            "image."
        )
    for start in range(0, len(images), _BATCH_SIZE):
        yield images[start : start + _BATCH_SIZE], labels[start : start + _BATCH_SIZE]


def _images_and_labels(batch: Any) -> tuple[Array, Array]:
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    if y is None or isinstance(x, (dict, list, tuple)) or isinstance(y, (dict, list, tuple)):
        raise ValueError(
            "report() takes batches of (images, labels), one array each. Received a batch of: "
            f"{described(x)}, with labels: {described(y)}. Where labels were left out, load the data "
            "with them: labels='inferred'."
        )
    return np.asarray(x), np.asarray(y)


def _check_batched(images: Array, model: Any) -> None:
    expected = tuple(model.inputs[0].shape)
    if images.ndim != len(expected):
        raise ValueError(
            f"report() takes batches of shape {expected}. Received: {described(images)}. Batch a dataset "
            "of single images: dataset.batch(32)."
        )
