"""What the outputs of a classifier say: probabilities and names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

N_IMAGENET_CLASSES = 1000
_ROUNDING = 0.02


def n_classes(model: Any, caller: str) -> int:
    """How many classes a model tells apart; one sigmoid unit tells two.

    Raises:
        ValueError: The model has no one vector of outputs for an image.
    """
    outputs = getattr(model, "outputs", None) or []
    shape = tuple(outputs[0].shape) if len(outputs) == 1 else ()
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(
            f"{caller} takes a classifier: a model with one output of shape (None, classes). Received: "
            f"{model!r} with the outputs {[tuple(x.shape) for x in outputs]}. A backbone becomes a "
            "classifier with topwork.add_head(n_classes=...)(backbone)."
        )
    return max(int(shape[1]), 2)


def probabilities(outputs: Any, caller: str) -> npt.NDArray[np.float64]:
    """(images, classes), each row of sum 1, from the outputs of a softmax or of one sigmoid unit.

    Raises:
        ValueError: The outputs are no probabilities of classes that exclude each other.
    """
    values = np.asarray(outputs, "float64")
    is_probability = np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1 + _ROUNDING
    if is_probability and values.shape[1] == 1:
        return np.hstack([1 - values, values])
    if not is_probability or (abs(values.sum(axis=1) - 1) > _ROUNDING).any():
        raise ValueError(
            f"{caller} takes a model that ends in softmax, or in one sigmoid unit. Received outputs "
            f"from {values.min():.3g} to {values.max():.3g}, of sums {values.sum(axis=1).min():.3g} to "
            f"{values.sum(axis=1).max():.3g} for an image. Where the model gives logits, add "
            "keras.layers.Softmax() to it; for labels that go together no single class is right."
        )
    return values


def names_of_classes(class_names: Sequence[str] | None, n: int, caller: str) -> tuple[str, ...]:
    """The names; without any, those of ImageNet for its 1000 classes, and numbers for others.

    Raises:
        ValueError: There is not one name for each class.
    """
    if class_names is None:
        return imagenet_names() if n == N_IMAGENET_CLASSES else tuple(map(str, range(n)))
    if isinstance(class_names, str) or len(class_names) != n:
        count = "one string" if isinstance(class_names, str) else f"{len(class_names)} names"
        raise ValueError(
            f"{caller} takes a name for each of the model's {n} classes. Received: class_names="
            f"{str(class_names)[:80]}, {count}. Give a list of {n}, in the order of the labels: "
            "Keras' image_dataset_from_directory has it in .class_names."
        )
    return tuple(map(str, class_names))


def imagenet_names() -> tuple[str, ...]:
    """Short English names of the 1000 classes, in the order of the outputs.

    The classes are synsets of WordNet, chosen for ILSVRC 2012
    (https://image-net.org/challenges/LSVRC/2012/).
    """
    text = resources.files("topwork").joinpath("_imagenet_names.txt").read_text("utf-8")
    return tuple(text.splitlines())
