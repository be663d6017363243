"""The linear probe: how well a linear classifier does on given features.

A multinomial logistic regression on standardised features with an L2 penalty, whose strength is chosen
by cross-validation: what Kornblith, Shlens and Le (2019, https://arxiv.org/abs/1805.08974) and Radford et
al. (2021, https://arxiv.org/abs/2103.00020) compare networks by.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Array = npt.NDArray[Any]
_Function = Callable[[Array], tuple[float, Array]]

# From strong to weak. Rows of standardised features are scaled to a length of about 1, so that a
# strength means the same for any number of features.
STRENGTHS = tuple(10.0 ** (half_decades / 2) for half_decades in range(2, -9, -1))
N_FOLDS = 5
# Lengths of the gradient to stop at, for each image: held-out losses are then exact to a thousandth,
# and the accuracies of the last fit have settled.
_FOLD_TOLERANCE = 3e-3
_LOSS_PRECISION = 1e-3
_TOLERANCE = 3e-4
_MAX_ITERATIONS = 300


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted linear classifier.

    Attributes:
        mean: Of each feature over the training images.
        scale: What each feature is multiplied by after its mean was subtracted.
        weights: (features, classes).
        intercept: (classes,).
        strength: The one of `STRENGTHS` that cross-validation chose.
    """

    mean: Array
    scale: Array
    weights: Array
    intercept: Array
    strength: float

    def scores(self, features: Array) -> Array:
        """Logits, (images, classes)."""
        return (features - self.mean) * self.scale @ self.weights + self.intercept

    def predict(self, features: Array) -> Array:
        """The number of the class with the highest score, for each image."""
        return self.scores(features).argmax(axis=1)


def fit_probe(
    features: Array,
    labels: Array,
    *,
    strengths: Sequence[float] = STRENGTHS,
    tolerance: float = _TOLERANCE,
) -> Probe:
    """Fit a linear probe; its strength is the one with the lowest cross-validated log loss.

    Args:
        features: (images, features), finite.
        labels: (images,), from 0 to the number of classes - 1.
        strengths: Penalties to choose from, in falling order.
        tolerance: How exactly the last fit, on all images, is solved.

    Returns:
        The probe.
    """
    mean, scale = _standardisation(features)
    rows = _with_intercept((features - mean) * scale)
    strength, weights = _chosen(rows, labels, strengths)
    whole = _Fits(rows, labels, np.zeros((1, len(rows)), bool))
    start = weights.mean(axis=1, keepdims=True)
    weights = minimise(whole.objective(strength), start, tolerance * len(rows))[:, 0]
    return Probe(mean, scale, weights[:, :-1].T, weights[:, -1], strength)


def _chosen(rows: Array, labels: Array, strengths: Sequence[float]) -> tuple[float, Array]:
    """The best strength, and the weights of each fold's fit with it.

    Each fit starts where the one with the next stronger penalty ended, and none is made once the
    loss falls no more: fits with next to no penalty take the longest and are the worst.
    """
    n_folds = min(N_FOLDS, len(rows))
    fits = _Fits(rows, labels, np.arange(n_folds)[:, None] == _fold_of(labels, n_folds))
    weights = np.zeros(fits.shape, rows.dtype)
    best, best_loss = (strengths[0], weights), np.inf
    for strength in strengths:
        weights = minimise(fits.objective(strength), weights, _FOLD_TOLERANCE * len(rows))
        loss = fits.held_out_loss(weights)
        if loss > best_loss * (1 - _LOSS_PRECISION):
            break
        best, best_loss = (strength, weights), loss
    return best


def _standardisation(features: Array) -> tuple[Array, Array]:
    mean = features.mean(axis=0, dtype=np.float64)
    deviation = features.std(axis=0, dtype=np.float64)
    # A unit that is never active, or always the same, says nothing; rounding must not make it speak.
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), np.finfo(np.float32).tiny)
    scale = np.where(constant, 0, 1 / np.where(constant, 1, deviation)) / np.sqrt(features.shape[1])
    return mean.astype(features.dtype), scale.astype(features.dtype)


def _with_intercept(rows: Array) -> Array:
    return np.concatenate([rows, np.ones((len(rows), 1), rows.dtype)], axis=1)


class _Fits:
    """Several fits on one set of images, each without some of them; solved at once, as one problem.

    The many columns of one product cost little more than the few of one fit. Weights are of shape
    (classes, fits, features + 1), the intercept last.
    """

    def __init__(self, rows: Array, labels: Array, held_out: Array) -> None:
        # Products by TensorFlow: on a machine that has other things to do, the threads of NumPy's wait
        # for each other ten times as long as a product as small as these takes.
        self._rows, self._held_out = tf.constant(rows), held_out
        self._used = (~held_out).astype(rows.dtype)
        n_classes = int(labels.max()) + 1
        self._classes = np.eye(n_classes, dtype=rows.dtype)[:, labels][:, None]
        self.shape = (n_classes, len(held_out), rows.shape[1])

    def objective(self, strength: float) -> _Function:
        """The sum of the penalised log losses of all fits, with its gradient."""

        def function(weights: Array) -> tuple[float, Array]:
            losses, probabilities = self._losses(weights)
            penalised = weights[..., :-1]
            value = _dot(self._used, losses) + strength / 2 * _dot(penalised, penalised)
            residuals = (probabilities - self._classes) * self._used
            product = tf.matmul(residuals.reshape(-1, residuals.shape[-1]), self._rows)
            gradient = product.numpy().reshape(self.shape)
            gradient[..., :-1] += strength * penalised
            return value, gradient

        return function

    def held_out_loss(self, weights: Array) -> float:
        losses, _ = self._losses(weights)
        return float(losses[self._held_out].mean())

    def _losses(self, weights: Array) -> tuple[Array, Array]:
        """The log loss of each image in each fit, and the probabilities of its classes."""
        # In this order it takes less than half the time of weights times transposed rows.
        product = tf.matmul(self._rows, weights.reshape(-1, weights.shape[-1]), transpose_b=True)
        logits = product.numpy().T.reshape(*self.shape[:2], -1)
        logits -= logits.max(axis=0)
        exponentials = np.exp(logits)
        sums = exponentials.sum(axis=0)
        own = (logits * self._classes).sum(axis=0)
        return np.log(sums.astype(np.float64)) - own, exponentials / sums


def _fold_of(labels: Array, n_folds: int) -> Array:
    """The fold in which each image is held out; the classes are spread evenly, the order at random."""
    order = np.random.default_rng(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[by_class] = np.arange(len(labels)) % n_folds
    return folds


def minimise(function: _Function, start: Array, tolerance: float) -> Array:
    """L-BFGS (Nocedal and Wright, Numerical Optimization, 2006, algorithms 7.4 and 7.5).

    Args:
        function: Smooth and convex; gives its value and gradient.
        start: Where to begin.
        tolerance: The length of the gradient to stop at.
    """
    point, (value, gradient) = start, function(start)
    pairs: collections.deque[tuple[Array, Array]] = collections.deque(maxlen=10)
    for _ in range(_MAX_ITERATIONS):
        if _length(gradient) <= tolerance:
            break
        direction = -_times_inverse_hessian(gradient, pairs)
        step = 1.0 if pairs else 1 / _length(gradient)
        found = _backtrack(function, point, value, gradient, direction, step)
        if found is None:
            break
        moved, value, new_gradient = found
        change = (moved - point, new_gradient - gradient)
        if _dot(*change) > 0:
            pairs.append(change)
        point, gradient = moved, new_gradient
    return point


def _dot(a: Array, b: Array) -> float:
    # Not np.vdot: on vectors this short, waiting for the library's threads takes longer than the sum.
    return float((a * b).sum(dtype=np.float64))


def _length(vector: Array) -> float:
    return _dot(vector, vector) ** 0.5


def _times_inverse_hessian(gradient: Array, pairs: Sequence[tuple[Array, Array]]) -> Array:
    result, factors = gradient, []
    for step, change in reversed(pairs):
        factor = _dot(step, result) / _dot(step, change)
        result = result - factor * change
        factors.append(factor)
    if pairs:
        step, change = pairs[-1]
        result = result * (_dot(step, change) / _dot(change, change))
    for (step, change), factor in zip(pairs, reversed(factors), strict=True):
        result = result + (factor - _dot(change, result) / _dot(step, change)) * step
    return result


def _backtrack(
    function: _Function, point: Array, value: float, gradient: Array, direction: Array, step: float
) -> tuple[Array, float, Array] | None:
    """The first of ever shorter steps that lowers the function enough; None: at its precision."""
    slope = _dot(gradient, direction)
    for _ in range(12):
        moved = point + step * direction
        new_value, new_gradient = function(moved)
        if new_value <= value + 1e-4 * step * slope:
            return moved, new_value, new_gradient
        step /= 3
    return None
