"""Linear models on features: the regularised optimum, its strength chosen by cross-validation.

Multinomial and binary logistic regression and ridge regression with an L2 penalty: what Kornblith, Shlens
and Le (2019, https://arxiv.org/abs/1805.08974) and Radford et al. (2021, https://arxiv.org/abs/2103.00020)
compare networks by.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from topwork._training.linear_fits import Array, Examples, Fits, Scaling, n_groups, scaling_of

# From strong to weak. Rows of scaled features have a length of about 1, so that a strength means the same
# for any number of features.
STRENGTHS = tuple(10.0 ** (half_decades / 2) for half_decades in range(2, -9, -1))
N_FOLDS = 5
# Where each image is judged by a fit without it, twice as many: an eighth more images to learn from.
_N_JUDGING_FOLDS = 10
# Lengths of the gradient to stop at, for each image: held-out losses are then exact to a thousandth,
# and the accuracies of the last fit have settled.
_FOLD_TOLERANCE = 1e-3
_LOSS_PRECISION = 1e-3
TOLERANCE = 3e-4

# Multiply-adds of one reading of all rows: up to where all folds are solved, and as many as there may be
# on the rows that the strength is chosen on.
_FOLDS_WORK = 1e9
_CHOICE_WORK = 4e10


@dataclasses.dataclass(frozen=True)
class LinearModel:
    """A fitted linear model: `features @ kernel + bias`.

    Attributes:
        kernel: (features, outputs), the scaling of the features folded in.
        bias: (outputs,)
        strengths: The penalties that were chosen: one for softmax, one for each label or number.
        losses: For each of them, of images held out, by strength, as far as they were tried.
    """

    kernel: Array
    bias: Array
    strengths: tuple[float, ...]
    losses: tuple[dict[float, float], ...]

    def scores(self, features: Array) -> Array:
        """What the Dense layer gives before its activation."""
        return features @ self.kernel + self.bias


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What cross-validation found: each image judged by a model that was fitted without it.

    Attributes:
        rows: The numbers of the images, as in `Examples.rows`; of very many, only a part.
        scores: What the models say of them, (rows, outputs).
        losses: (rows,); of numbers, in units of their variance.
    """

    rows: Array
    scores: Array
    losses: Array


def cross_validate(examples: Examples, loss: str, *, memory: float = np.inf) -> HeldOut:
    """Judge features by the linear models that `fit_linear` chooses the strength by."""
    examples = dataclasses.replace(examples, weights=examples.weights / examples.weights.mean())
    examples, unit, origin = _scaled_targets(examples, True, loss)
    scaling = scaling_of(examples, intercept=True)
    _, weights, _ = _chosen(examples, scaling, loss, STRENGTHS, memory)
    part, held_out = _held_out(examples, scaling.n_columns)
    places, scores, losses = Fits(part, scaling, loss, held_out, memory).held_out(weights)
    return HeldOut(part.rows[places], scores * unit + origin, losses)


def fit_linear(
    examples: Examples,
    loss: str,
    *,
    intercept: bool = True,
    strengths: Sequence[float] = STRENGTHS,
    tolerance: float = TOLERANCE,
    memory: float = np.inf,
) -> LinearModel:
    """Fit a linear model; its strength is the one with the lowest loss on images held out.

    Labels and numbers, which are fitted each for itself, each have a strength of their own: one for all
    six labels of the playing cards cost 0.9 points, in the mean of three networks.

    Args:
        examples: Features that are finite, targets and weights.
        loss: `"softmax"`, `"sigmoid"` or `"squared"`.
        intercept: Whether there is a bias.
        strengths: Penalties to choose from, in falling order.
        tolerance: How exactly the last fit, on all images, is solved.
        memory: Bytes that features may be kept in; larger ones are read again in each iteration.

    Returns:
        The model.
    """
    examples = dataclasses.replace(examples, weights=examples.weights / examples.weights.mean())
    examples, unit, origin = _scaled_targets(examples, intercept, loss)
    scaling = scaling_of(examples, intercept)
    chosen, weights, losses = _chosen(examples, scaling, loss, strengths, memory)
    whole = Fits(examples, scaling, loss, np.zeros((1, len(examples)), bool), memory)
    solved = whole.solve(chosen, weights.mean(axis=0, keepdims=True), tolerance)
    kernel, bias = scaling.fold(solved[0])
    return LinearModel(kernel * unit, bias * unit + origin, tuple(chosen.tolist()), losses)


def _scaled_targets(examples: Examples, centred: bool, loss: str) -> tuple[Examples, Array, Array]:
    """Numbers to be predicted, in units of their deviation, so that a strength means the same for any.

    Returns:
        The examples, what a unit is and where 0 is, (outputs,); those of classes as they are.
    """
    one, zero = np.ones(examples.n_outputs, np.float32), np.zeros(examples.n_outputs, np.float32)
    if loss != "squared":
        return examples, one, zero
    weights, targets = examples.weights[:, None], examples.targets.astype(np.float64)
    origin = (weights * targets).mean(axis=0) if centred else zero
    deviation = np.sqrt((weights * (targets - origin) ** 2).mean(axis=0))
    unit = np.where(deviation > 0, deviation, 1)
    scaled = dataclasses.replace(examples, targets=(targets - origin) / unit)
    return scaled, unit.astype(np.float32), origin.astype(np.float32)


def _chosen(
    examples: Examples, scaling: Scaling, loss: str, strengths: Sequence[float], memory: float
) -> tuple[Array, Array, tuple[dict[float, float], ...]]:
    """The best strength for each group of outputs, the weights of each fold's fit, and the losses.

    Each fit starts where the one with the next stronger penalty ended, and a group keeps its weights
    once its loss falls no more: fits with next to no penalty take the longest and are the worst.
    """
    best = np.full(n_groups(examples, loss), strengths[0])
    losses: tuple[dict[float, float], ...] = tuple({} for _ in best)
    shape = (1, examples.n_outputs, scaling.n_columns)
    if len(strengths) == 1 or len(examples) < 2:
        return best, np.zeros(shape, np.float32), losses
    examples, held_out = _held_out(examples, scaling.n_columns)
    fits = Fits(examples, scaling, loss, held_out, memory)
    weights = np.zeros((len(held_out), *shape[1:]), np.float32)
    lowest, falls = np.full(len(best), np.inf), np.ones(len(best), bool)
    for strength in strengths:
        solved = _solved(fits, np.where(falls, strength, best), weights)
        found = fits.held_out_losses(solved)
        for group in np.flatnonzero(falls):
            losses[group][strength] = float(found[group])
        falls &= found <= lowest * (1 - _LOSS_PRECISION)
        best, lowest = np.where(falls, strength, best), np.where(falls, found, lowest)
        weights = np.where(falls[:, None], solved, weights)
        if not falls.any():
            break
    return best, weights, losses


def out_of_fold_scores(examples: Examples, loss: str, *, memory: float = np.inf) -> Array:
    """What a linear model says of each image that has not seen it, (images, outputs).

    Args:
        examples: As `fit_linear` takes them.
        loss: `"softmax"` and `"sigmoid"`: scores before the activation; `"squared"`: numbers.
        memory: Bytes that features may be kept in.
    """
    scaled, unit, origin = _scaled_targets(examples, True, loss)
    scaling = scaling_of(scaled, intercept=True)
    chosen, weights, _ = _chosen(scaled, scaling, loss, STRENGTHS, memory)
    folds = fold_of(scaled.targets, min(_N_JUDGING_FOLDS, len(scaled)))
    scores = np.empty((len(scaled), scaled.n_outputs), np.float32)
    # The many columns of one product cost little more than few, but there is a limit to that.
    together = max(1, int(_FOLDS_WORK / (len(scaled) * scaling.n_columns * scaled.n_outputs)))
    for first in range(0, folds.max() + 1, together):
        numbers = np.arange(first, min(first + together, folds.max() + 1))
        start = np.repeat(weights.mean(axis=0, keepdims=True), len(numbers), axis=0)
        fits = Fits(scaled, scaling, loss, numbers[:, None] == folds, memory)
        solved = fits.solve(chosen, start, _FOLD_TOLERANCE)
        for part, features in scaled.blocks(len(numbers) * scaled.n_outputs):
            rows = scaling.apply(features)
            for number, kernel in zip(numbers, solved, strict=True):
                without = folds[part] == number
                scores[part][without] = rows[without] @ kernel.T
    return scores * unit + origin


def _solved(fits: Fits, strengths: Array, start: Array) -> Array:
    """The weights; more exact than usual where the start would pass for a solution otherwise."""
    for tolerance in (_FOLD_TOLERANCE, _FOLD_TOLERANCE / 4, _FOLD_TOLERANCE / 16):
        weights = fits.solve(strengths, start, tolerance)
        if weights is not start:
            break
    return weights


def _held_out(examples: Examples, n_columns: int) -> tuple[Examples, Array]:
    """The examples to choose the strength on, and which of them each fold holds out, (folds, rows)."""
    work_a_row = n_columns * examples.n_outputs
    n_folds = min(N_FOLDS, len(examples))
    folds = fold_of(examples.targets, n_folds)
    n_most = max(1000, int(_CHOICE_WORK / work_a_row))
    if len(examples) > n_most:
        chosen = np.sort(np.random.default_rng(0).permutation(len(examples))[:n_most])
        examples, folds = examples.subset(chosen), folds[chosen]
    n_solved = n_folds if len(examples) * work_a_row <= _FOLDS_WORK else 1
    return examples, np.arange(n_solved)[:, None] == folds


def fold_of(targets: Array, n_folds: int) -> Array:
    """The fold in which each image is held out.

    Classes, and numbers if there is one an image, are spread evenly; the order is random.
    """
    order = np.random.default_rng(0).permutation(len(targets))
    if targets.size == len(targets):
        order = order[np.argsort(targets.ravel()[order], kind="stable")]
    folds = np.empty(len(targets), np.int64)
    folds[order] = np.arange(len(targets)) % n_folds
    return folds
