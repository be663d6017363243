"""`predict`: what a model sees in photographs, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from topwork._errors import public
from topwork._interpret.given_images import batches_of
from topwork._interpret.listings import Predictions
from topwork._names import published
from topwork._networks.arguments import required_whole
from topwork._networks.classifier import (
    Task,
    Threshold,
    names_of_classes,
    task_of,
    thresholds,
    values_of,
)
from topwork._private_keras import predict_on_batch


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
    for titles, pixels in batches_of(model, images, task):
        values = values_of(predict_on_batch(model, pixels), task)
        predictions += [
            _prediction(title, row, names, task, top, limits)
            for title, row in zip(titles, values, strict=True)
        ]
    return predictions


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
