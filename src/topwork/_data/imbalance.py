"""Classes that training data shows rarely or never."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from topwork._data.labels import LabelKind, ignored_class, label_kind
from topwork._data.origin import origin_of
from topwork._data.source import Source
from topwork._errors import listed, warn

# With fewer images than this, counts say little.
_FEWEST_IMAGES = 20
_MOST_IMBALANCED = 10


def labels_at_once(source: Source) -> tuple[Any, Any]:
    """The labels and weights of training data that need not be read for it; None of other data."""
    if source.is_in_memory:
        return source.given[1:]
    origin = origin_of(source.given[0])
    return (None if origin is None else origin.labels), None


def warn_of_rare_classes(
    model: keras.Model, source: Source, y: Any, sample_weight: Any, class_weight: Any
) -> None:
    """Warn of classes without an image, and of some with ten times fewer images than others.

    Args:
        model: Says what the labels stand for.
        source: The training data.
        y: All of its labels; None: they are not known yet.
        sample_weight: Its weights; with weights nothing is said of rare classes.
        class_weight: Likewise.
    """
    kind = label_kind(model)
    is_weighted = sample_weight is not None or class_weight is not None
    counts = None if kind is None else _counts(y, kind, ignored_class(model))
    if counts is not None:
        warn_of_counts(counts, source.class_names, is_weighted)


def warn_of_counts(counts: Any, class_names: tuple[str, ...] | None, is_weighted: bool) -> None:
    """Warn of classes without an image, and without weights of rare ones; `counts` are of images."""
    if counts.sum() < _FEWEST_IMAGES:
        return
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        warn(
            f"the training data has no image of {listed(_named(c, class_names) for c in missing)}, of "
            f"the model's {len(counts)} classes: it cannot be learnt, and class_weight='balanced' is "
            "no help. Are the classes numbered from 0, and was all data read? Else make a head with "
            "n_classes of those that there are."
        )
    rarest, commonest = np.where(counts, counts, counts.max()).argmin(), counts.argmax()
    if not is_weighted and counts[commonest] > _MOST_IMBALANCED * counts[rarest]:
        warn(
            f"the training data has {counts[rarest]} images of {_named(rarest, class_names)} and "
            f"{counts[commonest]} of {_named(commonest, class_names)}: never to answer the rare one "
            "costs next to no accuracy. With class_weight='balanced', fit and fit_head let all classes "
            "count the same."
        )


def _counts(y: Any, kind: LabelKind, ignored: int | None) -> Any:
    """Images of each class; None where there are none, or the labels are of another kind."""
    labels = None if y is None else np.asarray(keras.tree.flatten(y)[0])
    if not kind.is_one_class or labels is None or labels.dtype.kind not in "biuf" or not labels.ndim:
        return None
    labels = labels.reshape(len(labels), -1)
    if not labels.size or not np.isfinite(labels).all():
        return None
    if labels.shape[1] > 1:
        classes = labels.argmax(axis=1)
    else:
        classes = (labels[:, 0] > 0.5 if kind.kind == "binary" else labels[:, 0]).astype(np.int64)
    is_class = (classes >= 0) & (classes < kind.n_classes)
    if ignored is not None:
        is_class &= classes != ignored
    return np.bincount(classes[is_class], minlength=kind.n_classes)


def _named(number: Any, class_names: tuple[str, ...] | None) -> str:
    is_named = class_names is not None and number < len(class_names)
    return f"class {number} ({class_names[number]!r})" if class_names and is_named else f"class {number}"
