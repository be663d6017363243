"""`predict`: what a model sees in photographs, by name."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from topwork._data.images import ImageReader, described
from topwork._networks.classifier import n_classes, names_of_classes, probabilities

_BATCH_SIZE = 32


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image, best first; a sequence of (name, probability).

    Attributes:
        image: The path, or the number of the image for an array.
        classes: Pairs of name and probability.
    """

    image: str
    classes: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        """The likeliest class."""
        return self.classes[0][0]

    @property
    def probability(self) -> float:
        """Of the likeliest class."""
        return self.classes[0][1]

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(self.classes)

    def __getitem__(self, index: int) -> tuple[str, float]:
        return self.classes[index]

    def __str__(self) -> str:
        return "\n".join([self.image, *(f"{share:8.1%}  {name}" for name, share in self.classes)])


def predict(
    model: Any, images: Any, *, class_names: Sequence[str] | None = None, top: int = 5
) -> list[Prediction]:
    """Name what is seen in photographs.

    Files are read and resized as the model needs, without distortion: the short side is fitted to
    the model's input and the centre cut out; for a whole ImageNet network the middle 7/8 of that, as
    such networks are tested. Pixels stay raw RGB 0-255. An array that has the model's size already is
    taken as it is.

    Args:
        model: A classifier of one image that ends in softmax or in one sigmoid unit.
        images: The path of a file, or an array (height, width, channels) of pixels 0-255; or several:
            a list of either, or an array (images, height, width, channels).
        class_names: The names in the order of the labels; for one sigmoid unit the names of 0 and 1.
            None: ImageNet's for 1000 classes, else numbers.
        top: How many classes to name.

    Returns:
        A `Prediction` for each image: prints as a table, iterates over (name, probability).

    Raises:
        ValueError: A file is missing or damaged, an image or the model is of another form, the names
            are not as many as the classes, or `top` is below 1.

    Example:
        >>> import keras, numpy as np, topwork as tw
        >>> zeros = keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros")
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), zeros])
        >>> photograph = np.full((20, 30, 3), 128, "uint8")
        >>> print(tw.predict(model, photograph, class_names=["cat", "dog"])[0])
        image 0
           50.0%  cat
           50.0%  dog
    """
    caller = "predict()"
    count = n_classes(model, caller)
    names = names_of_classes(class_names, count, caller)
    _check_top(top)
    reader = ImageReader(model, caller, count)
    # Without a size of their own, a model's inputs may each have another.
    batch_size = _BATCH_SIZE if reader.height and reader.width else 1
    todo = enumerate(_listed(images))
    predictions = []
    while chunk := list(itertools.islice(todo, batch_size)):
        pixels = np.stack([reader.read(image) for _, image in chunk])
        shares = probabilities(model.predict_on_batch(pixels), caller)
        predictions += [
            Prediction(_title(number, image), _best(row, names, top))
            for (number, image), row in zip(chunk, shares, strict=True)
        ]
    return predictions


def _check_top(top: int) -> None:
    if top < 1:
        raise ValueError(
            f"predict() names the `top` likeliest classes, 1 or more. Received: top={top!r}. Leave it "
            "out for 5."
        )


def _listed(images: Any) -> list[Any]:
    is_one = isinstance(images, (str, os.PathLike)) or getattr(images, "ndim", None) == 3
    if not is_one and not isinstance(images, Iterable):
        raise ValueError(
            "predict() takes paths of image files or arrays of pixels, one or several. Received: "
            f"{described(images)}."
        )
    listed = [images] if is_one else list(images)
    if not listed:
        raise ValueError(
            f"predict() received no image, an empty {type(images).__name__}. Where it comes from a "
            "glob, check the folder and the pattern."
        )
    return listed


def _title(number: int, image: Any) -> str:
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else f"image {number}"


def _best(shares: Any, names: tuple[str, ...], top: int) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-shares, kind="stable")[:top]
    return tuple((names[index], float(shares[index])) for index in order)
