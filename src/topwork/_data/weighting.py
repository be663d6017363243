"""The weights of classes and of images: what `class_weight` and `sample_weight` may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from topwork._data.labels import LabelKind
from topwork._errors import InputError, closest, described, listed, whole_number


def check_sample_weight(sample_weight: Any, subject: str) -> None:
    """Raise for weights that are no finite numbers."""
    for array in keras.tree.flatten(sample_weight):
        if array is None:
            continue
        if array.dtype.kind not in "biuf":
            raise InputError(
                f"{subject} has sample weights of type {array.dtype}, the first {array.flat[0]!r}. They "
                "are numbers, one for each image."
            )
        if not np.isfinite(array).all():
            first = int((~np.isfinite(array)).reshape(len(array), -1).any(axis=1).argmax())
            raise InputError(
                f"{subject} has sample weights that are NaN or infinite, first at image {first}. One "
                "such weight makes all weights of the model NaN; 0 leaves an image out."
            )


def class_weights(
    class_weight: Any, kind: LabelKind | None, class_names: tuple[str, ...] | None = None
) -> dict[int, float] | str | None:
    """The weights by the number of the class, from all that `class_weight` may be.

    Args:
        class_weight: A dict by number or name, a list or array with one for each class, or
            `"balanced"`, which comes back as it is: `balanced` needs the labels.
        kind: What labels the model takes.
        class_names: The names, if the data has them.

    Raises:
        InputError: It is none of these, or a weight is no finite number of at least 0.
    """
    if class_weight is None or (isinstance(class_weight, str) and class_weight == "balanced"):
        _check_kind(class_weight, kind)
        return class_weight
    if kind is not None and not kind.is_one_class:
        raise InputError(
            "class_weight needs labels of one class for each image, and the model is for "
            f"{'numbers' if kind.kind == 'numbers' else 'several labels an image'}: Keras would take the "
            "weight of the first label, or of a number cut off. Pass the weights of the images, "
            "sample_weight."
        )
    n_classes = kind.n_classes if kind is not None else None
    given = _as_dict(class_weight, n_classes)
    weights = {_number(key, class_names): _weight(key, value) for key, value in given.items()}
    wrong = [c for c in weights if c < 0 or (n_classes is not None and c >= n_classes)]
    if wrong:
        raise InputError(
            f"class_weight has a weight for the class {wrong[0]}, and the model has {n_classes} classes, "
            f"numbered 0 to {(n_classes or 0) - 1}."
        )
    return weights


def _check_kind(class_weight: Any, kind: LabelKind | None) -> None:
    if class_weight is not None and (kind is None or not kind.is_one_class):
        raise InputError(
            "class_weight='balanced' needs labels of one class for each image, and a loss that takes "
            "them. Pass the weights of the images, sample_weight."
        )


def _as_dict(class_weight: Any, n_classes: int | None) -> Mapping[Any, Any]:
    if hasattr(class_weight, "keys") and hasattr(class_weight, "__getitem__"):
        return {key: class_weight[key] for key in class_weight.keys()}  # noqa: SIM118 - a pandas Series
    if isinstance(class_weight, (list, tuple)) or hasattr(class_weight, "__array__"):
        values = np.asarray(class_weight)
        if values.ndim == 1 and n_classes in (None, len(values)):
            return dict(enumerate(values.tolist()))
        raise InputError(
            f"class_weight as a list has a weight for each of the {n_classes} classes. Received: "
            f"{described(class_weight)}."
        )
    raise InputError(
        "class_weight is a dict from class numbers to weights, a list with a weight for each class, or "
        f"'balanced'. Received: {described(class_weight)}."
    )


def _number(key: Any, class_names: tuple[str, ...] | None) -> int:
    number = whole_number(key)
    if number is None and isinstance(key, float) and key == int(key):
        number = int(key)
    if number is not None:
        return number
    if class_names is None:
        raise InputError(
            f"class_weight has a weight for {key!r}, and the data does not say which class that is. Use "
            "the number of the class, its place in class_names."
        )
    if str(key) not in class_names:
        raise InputError(
            f"class_weight has a weight for {key!r}, which is no class. Closest: "
            f"{closest(key, class_names)}. The classes are {listed(class_names)}."
        )
    return class_names.index(str(key))


def _weight(key: Any, value: Any) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = np.nan
    if not (np.isfinite(weight) and weight >= 0):
        raise InputError(
            f"class_weight must have finite numbers of at least 0. Received: {value!r} for the class "
            f"{key!r}."
        )
    return weight


def balanced(classes: Any, n_classes: int) -> dict[int, float]:
    """Weights with which every class counts the same: n / (classes * images of the class)."""
    counts = np.bincount(classes, minlength=n_classes)
    shown = np.count_nonzero(counts)
    return {c: len(classes) / (shown * int(n)) if n else 1.0 for c, n in enumerate(counts)}


def complete(
    class_weight: dict[int, float] | None, y: Any, kind: LabelKind | None = None
) -> dict[int, float] | None:
    """Weights for all classes: Keras takes those left out as 1 for arrays, but not for data sets.

    Args:
        class_weight: By the number of the class.
        y: All labels; None: not known.
        kind: What labels the model takes; says how many classes there are where `y` does not.
    """
    if not class_weight:
        return class_weight
    if hasattr(y, "shape"):
        is_one_hot = y.ndim > 1 and y.shape[-1] > 1
        last = y.shape[-1] - 1 if is_one_hot else round(float(y.max()))
    elif kind is not None:
        last = kind.n_classes - 1
    else:
        return class_weight
    return {c: class_weight.get(c, 1.0) for c in range(max(last, *class_weight) + 1)}
