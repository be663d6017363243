"""What a linear head is solved for: targets, weights and features of the images that count."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._data.classes import is_one_hot
from topwork._data.weighting import balanced
from topwork._errors import InputError
from topwork._features.table import Table
from topwork._training.linear_fits import Array, Examples
from topwork._training.linear_head import LinearHead


def head_examples(
    table: Table, head: LinearHead, class_weight: Any, units: tuple[Array, Array] | None
) -> Examples:
    """The rows that count, with targets as the solver takes them."""
    targets = _targets(table.y, head)
    weights = sample_weights(table)
    counted = np.ones(len(table), bool)
    if head.loss == "softmax" and targets.ndim == 1 and head.ignored is not None:
        counted = targets != head.ignored
    if class_weight is not None:
        weights = weights * _class_weights(class_weight, targets, counted, head)
    counted &= weights > 0
    if not counted.any():
        raise InputError("no image of the training data has a weight greater than 0.")
    if units is not None:
        scale, offset = units
        targets = (targets - offset) / scale
    return Examples(
        read=lambda rows: _read(table, rows),
        rows=np.flatnonzero(counted),
        targets=_smoothed(targets, head)[counted],
        weights=weights[counted].astype(np.float64),
        n_features=int(head.features.shape[-1]),
        n_outputs=head.dense.units,
    )


def _targets(y: Any, head: LinearHead) -> Array:
    """Numbers of classes, (images,), or a number for each output."""
    labels = np.asarray(keras.tree.flatten(y)[0])
    is_column = labels.ndim == 1 or labels.shape[1:] == (1,)
    if head.loss == "softmax" and is_column and head.dense.units > 1:
        return labels.reshape(len(labels)).astype(np.int64)
    targets = labels.reshape(len(labels), -1).astype(np.float64)
    if targets.shape[1] != head.dense.units:
        raise InputError(
            f"the model gives {head.dense.units} numbers for an image. Received: labels of "
            f"shape {labels.shape}. Pass one label for each."
        )
    if not np.isfinite(targets).all():
        raise InputError(
            "the training data has labels that are NaN or infinite, first at image "
            f"{int((~np.isfinite(targets)).any(axis=1).argmax())}. Leave such images out."
        )
    return targets.argmax(axis=1) if head.loss == "softmax" and is_one_hot(targets) else targets


def _smoothed(targets: Array, head: LinearHead) -> Array:
    """Targets as the loss's label smoothing makes them."""
    share = head.label_smoothing
    if share == 0 or head.loss == "squared":
        return targets
    if targets.ndim == 1:
        targets = np.eye(head.dense.units)[targets]
    n_ways = 2 if head.loss == "sigmoid" else head.dense.units
    return targets * (1 - share) + share / n_ways


def sample_weights(table: Table) -> Array:
    """The weight of each image, (images,); 1 where there are none."""
    weights = np.ones(len(table))
    for array in keras.tree.flatten(table.sample_weight):
        if array is None:
            continue
        values = np.asarray(array)
        if values.size != len(table) or not np.isfinite(values).all() or (values < 0).any():
            raise InputError(
                "sample weights are finite numbers of at least 0, one for each image. "
                f"Received: an array of shape {values.shape}, from {values.min()} to {values.max()}, for "
                f"{len(table)} images."
            )
        weights = values.reshape(len(table)).astype(np.float64)
    return weights


def _class_weights(class_weight: Any, targets: Array, counted: Array, head: LinearHead) -> Array:
    """The weight of each image's class."""
    if targets.ndim == 1:
        classes = np.where(counted, targets, 0)
    else:  # a column of 0 and 1, or one-hot
        classes = (targets[:, 0] > 0.5).astype(int) if targets.shape[1] == 1 else targets.argmax(axis=1)
    n_classes = max(2, head.dense.units)
    if class_weight == "balanced":
        class_weight = balanced(classes[counted], n_classes)
    return np.array([class_weight.get(c, 1.0) for c in range(n_classes)])[classes]


def _read(table: Table, rows: Array) -> Array:
    """Features, (rows, features), as float32 whatever the network's own precision."""
    (features,) = table.layout.unpack(tf.constant(table.read(rows)))
    values = tf.cast(features, tf.float32).numpy()
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any(axis=1).argmax())
        raise InputError(
            f"the features of image {int(rows[bad])} of the training data are NaN or infinite. "
            "Are the backbone's weights finite, and is its precision enough? Load other weights, or "
            "another precision."
        )
    return values
