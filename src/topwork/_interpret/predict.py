"""`predict`: what a model sees in photographs, by name."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._data.checks import Guard
from topwork._data.images import ImageReader, described
from topwork._data.listing import images_below, kind_of_place
from topwork._data.origin import in_order
from topwork._data.ragged import even_parts
from topwork._data.reading import open_source
from topwork._errors import InputError, public
from topwork._interpret.listings import Predictions
from topwork._names import published
from topwork._networks.arguments import required_whole
from topwork._networks.classifier import (
    Task,
    Threshold,
    names_of_classes,
    probabilities,
    task_of,
    thresholds,
)
from topwork._private_keras import predict_on_batch

_BATCH_SIZE = 32


@published
@dataclass(frozen=True)
class Prediction:
    """What a model says of one image; a sequence of (name, probability), best first.

    Attributes:
        image: The path, or the number of the image for an array.
        classes: Pairs of name and probability; of a model for numbers, of name and number, in the
            model's own order.
        labels: Of a model for several labels an image: those at least as probable as the threshold. Of
            one sigmoid unit, if a threshold was given: the class that holds. Else None.
    """

    image: str
    classes: tuple[tuple[str, float], ...]
    labels: tuple[str, ...] | None = None
    _is_number: bool = False

    @property
    def name(self) -> str:
        """The likeliest class."""
        return self.classes[0][0]

    @property
    def probability(self) -> float:
        """Of the likeliest class."""
        return self.classes[0][1]

    @property
    def number(self) -> float:
        """The first number, of a model for numbers."""
        return self.classes[0][1]

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(self.classes)

    def __getitem__(self, index: int) -> tuple[str, float]:
        return self.classes[index]

    def __str__(self) -> str:
        return "\n".join([self.image, *(self._line(name, value) for name, value in self.classes)])

    def cells(self) -> dict[str, str]:
        """The prediction as the texts of a table, by the heading of their column."""
        first = {"image": self.image}
        if self._is_number:
            return first | {name: f"{value:.5g}" for name, value in self.classes}
        shares = [f"{name} {value:.1%}" for name, value in self.classes]
        if self.labels is not None:
            return first | {"holds": ", ".join(self.labels) or "-", "probabilities": ", ".join(shares)}
        likeliest = {"class": self.name, "probability": f"{self.probability:.1%}"}
        return first | likeliest | {"then": ", ".join(shares[1:]) or "-"}

    def _repr_html_(self) -> str:
        return Predictions([self])._repr_html_()

    def _line(self, name: str, value: float) -> str:
        if self._is_number:
            return f"{value:12.5g}  {name}"
        return f"{value:8.1%}  {name}{' *' if name in (self.labels or ()) else ''}"


@public
def predict(
    model: Any,
    images: Any,
    *,
    class_names: Sequence[str] | None = None,
    top: int = 5,
    threshold: Threshold = None,
) -> list[Prediction]:
    """Name what is seen in photographs.

    Files are read as `topwork.data.read_folder` reads them: upright, resized without distortion, the
    centre cut out. If the model was trained on a data set of `read_folder`, its settings are used. For a
    whole ImageNet network, the middle 7/8 of the photograph is taken, as such networks are tested. Pixels
    stay raw RGB 0-255. An array of the model's size is taken as it is.

    Args:
        model: A model that takes one image. It ends in softmax or in sigmoid units; or in numbers or
            logits, if it is compiled with a loss for them.
        images: The path of a file, a Pillow image, or an array (height, width, channels) of pixels
            0-255, (height, width) if it is grey; or several: a list of these, an array (images, height,
            width, channels), a folder, or a data set, of which the labels are not used.
        class_names: The names in the order of the labels; for one sigmoid unit the names of 0 and 1.
            None: the names that the model knows from its training (`read_folder`); if there are none,
            those of ImageNet for 1000 classes, or numbers.
        top: How many classes or labels to name, the likeliest first. Of numbers, all are given.
        threshold: For several labels an image: a label holds if its probability is at least this. One
            number for all, a list with one for each, or a dict by name; None: 0.5. For one sigmoid unit:
            the probability from which on the answer is class 1. `.labels` lists the labels that hold,
            and they are marked in the printed text.

    Returns:
        A list with a `Prediction` for each image; prints as text, renders as a table. A prediction
        iterates over (name, probability).

    Raises:
        ValueError: A file is missing or damaged, an image or the model is of another form, the names
            are not as many as the classes, `top` is below 1, `threshold` is not from 0 to 1, or has no
            meaning for the model.

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
    task = task_of(model)
    names = names_of_classes(class_names, model, task)
    top = required_whole("top", top, 1)
    limits = thresholds(threshold, task, names)
    predictions: Predictions[Prediction] = Predictions()
    for titles, pixels in _batches(model, images, task):
        values = _values(predict_on_batch(model, pixels), task)
        predictions += [
            _prediction(title, row, names, task, top, limits)
            for title, row in zip(titles, values, strict=True)
        ]
    return predictions


def _batches(model: Any, images: Any, task: Task) -> Iterator[tuple[list[str], Any]]:
    """Titles and pixels, as many images at once as `Model.predict` takes, so that numbers are its own."""
    if _is_data_set(images):
        yield from _of_data_set(model, images)
        return
    reader = ImageReader(model, task.n)
    # If the model takes images of any size, each image may have another size: no batches then.
    batch_size = _BATCH_SIZE if reader.height and reader.width else 1
    todo = enumerate(_listed(images, reader.channels))
    while chunk := list(itertools.islice(todo, batch_size)):
        pixels = np.stack([reader.read(image) for _, image in chunk])
        yield [_title(number, image) for number, image in chunk], pixels


def _is_data_set(images: Any) -> bool:
    """Whether it has batches of its own, or labels beside the images."""
    is_pair = isinstance(images, (tuple, list)) and len(images) in (2, 3)
    is_pair = is_pair and np.ndim(images[0]) == 4 and np.ndim(images[1]) < 4
    kinds = (tf.data.Dataset, keras.utils.PyDataset, dict)
    return isinstance(images, kinds) or is_pair or inspect.isgeneratorfunction(images)


def _of_data_set(model: Any, data: Any) -> Iterator[tuple[list[str], Any]]:
    ordered, paths = in_order(data)
    guard, n_seen = Guard(model, "the data", labelled=False), 0
    for batch in open_source(model, ordered).batches():
        guard.check(batch.inputs, None)
        for part, _ in even_parts(batch.inputs):
            numbers = range(n_seen, n_seen + len(part[0]))
            yield [f"image {i}" if paths is None else paths[i] for i in numbers], part[0]
            n_seen += len(numbers)
    guard.check_not_empty()


def _listed(images: Any, channels: int | None) -> list[Any]:
    is_path = isinstance(images, (str, os.PathLike))
    if is_path and kind_of_place(images) == "folder":
        return _in_folder(Path(images))
    is_one = is_path or hasattr(images, "getbands") or _is_one_array(images, channels)
    if not is_one and not isinstance(images, Iterable):
        raise InputError(
            "images are paths of image files or arrays of pixels, one or several. Received: "
            f"{described(images)}."
        )
    listed = [images] if is_one else list(images)
    if not listed:
        raise InputError(
            f"there is no image to name, but an empty {type(images).__name__}. Where it comes from a "
            "glob, check the folder and the pattern."
        )
    return listed


def _is_one_array(images: Any, channels: int | None) -> bool:
    """Whether an array is one image, and not a batch of grey ones, (images, height, width)."""
    shape = tuple(getattr(images, "shape", ()))
    is_grey_batch = len(shape) == 3 and channels == 1 and shape[-1] > 4 and shape[0] not in (1, 3, 4)
    return len(shape) in (2, 3) and not is_grey_batch


def _in_folder(folder: Path) -> list[Path]:
    found = images_below(folder)
    if not found:
        raise InputError(
            f"there is no image in {str(folder)!r} or below. Give a folder of photographs, or "
            "their paths."
        )
    return found


def _title(number: int, image: Any) -> str:
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else f"image {number}"


def _values(outputs: Any, task: Task) -> Any:
    is_number = task.kind == "numbers"
    return np.asarray(outputs, "float64") if is_number else probabilities(outputs, task)


def _prediction(
    title: str, values: Any, names: tuple[str, ...], task: Task, top: int, limits: Any
) -> Prediction:
    if task.kind == "numbers":
        pairs = zip(names, values, strict=True)
        return Prediction(title, tuple((name, float(value)) for name, value in pairs), None, True)
    order = np.argsort(-values, kind="stable")
    classes = tuple((names[index], float(values[index])) for index in order[:top])
    if limits is None:
        return Prediction(title, classes)
    if task.kind == "classes":
        return Prediction(title, classes, (names[int(values[1] >= limits)],))
    return Prediction(title, classes, tuple(names[i] for i in order if values[i] >= limits[i]))
