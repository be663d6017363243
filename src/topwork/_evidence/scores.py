"""How good predictions are, for labels of every kind, and how far chance goes.

Classes: accuracy. Several labels an image: mean average precision. Numbers: R². Their standard errors are
those of a fraction, or of the bootstrap (Efron, 1979, https://doi.org/10.1214/aos/1176344552).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork._errors import InputError

Array = npt.NDArray[Any]

# What predictions are judged by, by the kind of labels.
SCORES = {"classes": "accuracy", "labels": "mean average precision", "numbers": "R²"}
_RESAMPLES = 200
# Numbers in the largest array of a block of resamples.
_BLOCK_SIZE = 2**22


def standard_error(accuracy: float, n_images: int) -> float:
    """Of a fraction of `n_images` independent images: sqrt(p (1 - p) / n)."""
    return math.sqrt(accuracy * (1 - accuracy) / n_images)


def judged(task: str, targets: Array, predictions: Array) -> tuple[float, float]:
    """How good predictions are by the score of their task, and its standard error.

    Args:
        task: `"classes"`, `"labels"` or `"numbers"`.
        targets: Class numbers, (images,); zeros and ones, (images, labels); or numbers.
        predictions: Scores of the classes or labels, the higher, the surer; or numbers.

    Raises:
        InputError: The score is not defined on these images.
    """
    if task == "classes":
        accuracy = float((predictions.argmax(axis=1) == targets).mean())
        return accuracy, standard_error(accuracy, len(targets))
    if task == "labels":
        score = mean_average_precision(targets, predictions)
        error = mean_average_precision_error(targets, predictions)
    else:
        score, error = mean_score(r2(targets, predictions)), r2_error(targets, predictions)
    if math.isnan(score):
        why = "no image has any of the labels" if task == "labels" else "all images have the same numbers"
        raise InputError(
            f"the {SCORES[task]} on the validation data cannot be known: {why}. Take others for "
            "validation."
        )
    return score, 0.0 if math.isnan(error) else error


def average_precision(shown: Array, scores: Array) -> Array:
    """The area under precision and recall of each label: the sum of precision times growth in recall.

    Args:
        shown: (images, labels), whether an image has a label.
        scores: (images, labels), the higher, the surer; images of one score are taken together.

    Returns:
        (labels,); NaN for a label that no image has.
    """
    each_once = np.ones((1, len(shown)))
    columns = zip(shown.T, scores.T, strict=True)
    return np.array([_average_precision(*column, each_once)[0] for column in columns])


def mean_average_precision(shown: Array, scores: Array) -> float:
    """The mean of `average_precision` over the labels that some image has; NaN if none has any."""
    return mean_score(average_precision(shown, scores))


def mean_average_precision_error(shown: Array, scores: Array) -> float:
    """The standard error of `mean_average_precision`, by the bootstrap over images."""
    means = []
    for counts in _resamples(len(shown)):
        columns = zip(shown.T, scores.T, strict=True)
        values = np.array([_average_precision(*column, counts) for column in columns])
        means += [mean_score(value) for value in values.T]
    return _deviation(means)


def r2(targets: Array, predictions: Array) -> Array:
    """The share of the variance that is predicted, 1 - residual / total sum of squares, of each number.

    Args:
        targets: (images, numbers)
        predictions: Likewise.

    Returns:
        (numbers,); NaN where all targets are the same.
    """
    return _r2(targets, predictions, np.ones((1, len(targets))))[0]


def r2_error(targets: Array, predictions: Array) -> float:
    """The standard error of the mean of `r2` over the numbers, by the bootstrap over images."""
    blocks = [_r2(targets, predictions, counts) for counts in _resamples(len(targets))]
    return _deviation([mean_score(values) for values in np.concatenate(blocks)])


def _average_precision(shown: Array, scores: Array, counts: Array) -> Array:
    """Of one label, for each row of counts, (resamples, images): how often an image is in a sample."""
    order = np.argsort(-scores, kind="stable")
    # The last image of each run of equal scores: no threshold lies between equal scores.
    is_last = np.append(np.diff(scores[order]) != 0, True)
    counts = counts[:, order]
    taken = np.cumsum(counts, axis=1)[:, is_last]
    right = np.cumsum(counts * shown[order], axis=1)[:, is_last]
    precision = right / np.maximum(taken, 1)
    growth = np.diff(right, axis=1, prepend=0)
    with np.errstate(invalid="ignore"):
        return (growth * precision).sum(axis=1) / right[:, -1]


def _r2(targets: Array, predictions: Array, counts: Array) -> Array:
    """For each row of counts, (resamples, numbers)."""
    n_images = counts.sum(axis=1, keepdims=True)
    # Centred before they are squared: large numbers of little spread would lose all their digits.
    centred = targets - targets.mean(axis=0)
    total = counts @ centred**2 - (counts @ centred) ** 2 / n_images
    residual = counts @ (targets - predictions) ** 2
    spread = np.maximum(n_images * np.square(targets).max(axis=0, initial=0), 1e-300)
    varies = total > 1e-12 * spread
    return np.where(varies, 1 - residual / np.where(varies, total, 1), np.nan)


def _resamples(n_images: int) -> Any:
    """Blocks (resamples, images) of how often each image was drawn, with replacement."""
    rng = np.random.default_rng(0)
    n_at_once = max(1, min(_RESAMPLES, _BLOCK_SIZE // n_images))
    for first in range(0, _RESAMPLES, n_at_once):
        n = min(n_at_once, _RESAMPLES - first)
        yield rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n).astype("float64")


def mean_score(values: Array) -> float:
    """The mean of the scores that are defined; NaN if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _deviation(values: list[float]) -> float:
    known = np.array(values)[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.nan
