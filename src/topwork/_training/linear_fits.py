"""What linear models are fitted to, and several of them fitted to it at once.

Features are centred and divided by the square root of their standard deviations (Pareto scaling; van
den Berg et al., 2006, https://doi.org/10.1186/1471-2164-7-142). Division by the standard deviations
themselves makes the rarely active units of a network as loud as the others: on twelve pairs of a
network and a set of photographs the accuracy was 1.9 points lower in the mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from topwork._training.minimise import Function, minimise

Array = npt.NDArray[Any]

# What a linear model is fitted by, by what its labels are.
LOSS_OF = {"classes": "softmax", "labels": "sigmoid", "numbers": "squared"}

# Numbers in the largest array of a block.
_BLOCK_SIZE = 2**23
# Images of which the space is found that they span. Of many more that takes longer than it saves.
_MOST_ROWS = 1000


@dataclasses.dataclass(frozen=True)
class Examples:
    """What a linear model is fitted to.

    Attributes:
        read: From numbers of rows to features (rows, features), float32.
        rows: The numbers of those that count.
        targets: Of these rows: numbers of classes, (rows,), or one number for each output.
        weights: Of these rows, greater than 0.
        n_features: In a row.
        n_outputs: Of the model.
    """

    read: Callable[[Array], Array]
    rows: Array
    targets: Array
    weights: Array
    n_features: int
    n_outputs: int

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, chosen: Array) -> Examples:
        """Some of them, by their places."""
        return dataclasses.replace(
            self,
            rows=self.rows[chosen],
            targets=self.targets[chosen],
            weights=self.weights[chosen],
        )

    def blocks(self, width: int = 0) -> Iterator[tuple[slice, Array]]:
        """The features, as many rows at a time as do not make an array too large.

        Args:
            width: How many numbers will be computed from a row, if that is more than it has.
        """
        length = max(32, _BLOCK_SIZE // max(self.n_features, width))
        for start in range(0, len(self), length):
            part = slice(start, min(start + length, len(self)))
            yield part, self.read(self.rows[part])

    def target_block(self, part: slice) -> Array:
        """Targets of some rows, (rows, outputs)."""
        targets = self.targets[part]
        if targets.ndim > 1:
            return targets.astype(np.float32, copy=False)
        return (targets[:, None] == np.arange(self.n_outputs)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """`(features - mean) * scale @ basis`, and a column of ones if there is an intercept.

    Attributes:
        mean: (features,)
        scale: (features,)
        intercept: Whether there is one.
        basis: (features, columns), orthonormal; None: the features themselves.
    """

    mean: Array
    scale: Array
    intercept: bool
    basis: Array | None = None

    @property
    def n_penalised(self) -> int:
        """Columns without that of ones."""
        return len(self.mean) if self.basis is None else self.basis.shape[1]

    @property
    def n_columns(self) -> int:
        return self.n_penalised + self.intercept

    def apply(self, features: Array) -> Array:
        columns = np.ones((len(features), self.n_columns), np.float32)
        scaled = (features - self.mean) * self.scale
        columns[:, : self.n_penalised] = (
            scaled if self.basis is None else tf.matmul(scaled, self.basis).numpy()
        )
        return columns

    def fold(self, weights: Array) -> tuple[Array, Array]:
        """From weights (outputs, columns) to a kernel and a bias for features as they are."""
        penalised = weights[:, : self.n_penalised]
        if self.basis is not None:
            penalised = tf.matmul(penalised, self.basis, transpose_b=True).numpy()
        kernel = (penalised * self.scale).T.astype(np.float64)
        bias = -self.mean.astype(np.float64) @ kernel
        if self.intercept:
            bias = bias + weights[:, -1]
        return kernel.astype(np.float32), bias.astype(np.float32)


def scaling_of(examples: Examples, intercept: bool) -> Scaling:
    """The scaling that suits the features, each counted by its weight."""
    total, square = np.zeros((2, examples.n_features))
    for part, features in examples.blocks():
        weights = examples.weights[part].astype(np.float64)
        total = total + weights @ features
        square = square + weights @ np.square(features, dtype=np.float64)
    average = total / len(examples)
    mean = average if intercept else np.zeros_like(average)
    deviation = np.sqrt(np.maximum(square / len(examples) - mean**2, 0))
    # A feature that is the same in all images says nothing. Its tiny deviation is rounding: dividing by
    # it would turn that into a large signal, so its scale is 0.
    constant = deviation <= 1e-6 * np.maximum(np.abs(average), np.finfo(np.float32).tiny)
    scale = np.where(constant, 0, 1 / np.sqrt(np.where(constant, 1, deviation)))
    scale /= max(float(np.square(scale * deviation).sum()) ** 0.5, 1e-30)
    scaling = Scaling(mean.astype(np.float32), scale.astype(np.float32), intercept)
    is_wide = len(examples) <= min(_MOST_ROWS, examples.n_features // 2)
    return _of_rows(examples, scaling) if is_wide else scaling


def _of_rows(examples: Examples, scaling: Scaling) -> Scaling:
    """In coordinates of the space that the rows span: no more columns than there are images.

    With an L2 penalty the optimum is a sum of rows (Kimeldorf and Wahba, 1971), so that it is the same.
    """
    rows = np.concatenate([scaling.apply(features) for _, features in examples.blocks()])
    # By TensorFlow, for the reason that _scores gives.
    basis = tf.linalg.qr(rows[:, : examples.n_features].T).q
    return dataclasses.replace(scaling, basis=basis.numpy())


def n_groups(examples: Examples, loss: str) -> int:
    """Of outputs that are one problem: all of softmax are one, each label and each number is its own."""
    return 1 if loss == "softmax" else examples.n_outputs


class Fits:
    """Several fits on one set of images, each without some of them; solved at once, as one problem.

    The many columns of one product cost little more than the few of one fit. Weights are of shape
    (fits, outputs, columns), the intercept last.
    """

    def __init__(
        self, examples: Examples, scaling: Scaling, loss: str, held_out: Array, memory: float
    ) -> None:
        self._examples, self._scaling, self._held_out = examples, scaling, held_out
        self._losses = _LOSSES[loss]
        self._n_groups = n_groups(examples, loss)
        self._used = (~held_out * examples.weights).T.astype(np.float32)
        self._shape = (len(held_out), examples.n_outputs, scaling.n_columns)
        fits_memory = 4 * len(examples) * scaling.n_columns <= memory
        self._kept = list(self._read()) if fits_memory else None

    def solve(self, strengths: Array, start: Array, tolerance: float) -> Array:
        """The weights with a penalty for each group of outputs, (groups,)."""
        return minimise(self._objective(strengths), start, tolerance * len(self._examples))

    def held_out_losses(self, weights: Array) -> Array:
        """Of each group of outputs, on the images that a fit was made without, (groups,)."""
        total = np.zeros(self._n_groups)
        for part, rows in self._blocks():
            losses, _ = self._losses_and_residuals(part, rows, weights)
            held_out = self._held_out[:, part].T * self._examples.weights[part][:, None]
            total += (losses.numpy() * held_out[..., None]).sum(axis=(0, 1), dtype=np.float64)
        return total / float((self._held_out * self._examples.weights).sum())

    def held_out(self, weights: Array) -> tuple[Array, Array, Array]:
        """Of the images that a fit was made without: their places, what it says of them, the losses."""
        scores, losses = [], []
        for part, rows in self._blocks():
            found = self._scores(rows, weights)
            values, _ = self._losses(found, self._examples.target_block(part)[:, None])
            without = self._held_out[:, part].T
            scores.append(np.where(without[..., None], found.numpy(), 0).sum(axis=1))
            losses.append(np.where(without[..., None], values.numpy(), 0).sum(axis=(1, 2)))
        places = np.flatnonzero(self._held_out.any(axis=0))
        return places, np.concatenate(scores)[places], np.concatenate(losses)[places]

    def _objective(self, strengths: Array) -> Function:
        """The sum of the penalised losses of all fits, with its gradient."""
        n_penalised = self._scaling.n_penalised
        strength = np.asarray(strengths, np.float32)[:, None]  # (groups, 1)

        def function(weights: Array) -> tuple[float, Array]:
            penalised = weights[..., :n_penalised]
            squares = np.square(penalised).sum(axis=(0, 2), dtype=np.float64)
            value = float((strength[:, 0] / 2 * squares).sum())
            gradient = np.zeros(self._shape, np.float32)
            for part, rows in self._blocks():
                used = self._used[part]
                losses, residuals = self._losses_and_residuals(part, rows, weights)
                value += float((losses.numpy().sum(axis=-1, dtype=np.float64) * used).sum())
                residuals = tf.reshape(residuals * used[..., None], (len(used), -1))
                product = tf.matmul(residuals, rows, transpose_a=True)
                gradient += product.numpy().reshape(self._shape)
            gradient[..., :n_penalised] += strength * penalised
            return value, gradient

        return function

    def _losses_and_residuals(self, part: slice, rows: Any, weights: Array) -> tuple[Any, Any]:
        """For some rows the losses of each fit, (rows, fits, groups), and derivatives by the scores."""
        return self._losses(self._scores(rows, weights), self._examples.target_block(part)[:, None])

    def _scores(self, rows: Any, weights: Array) -> Any:
        # Products by TensorFlow: on a machine that has other things to do, the threads of NumPy's wait
        # for each other ten times as long as a product as small as these takes.
        scores = tf.matmul(rows, weights.reshape(-1, weights.shape[-1]), transpose_b=True)
        return tf.reshape(scores, (-1, *self._shape[:2]))

    def _blocks(self) -> Iterator[tuple[slice, Any]]:
        return iter(self._kept) if self._kept is not None else self._read()

    def _read(self) -> Iterator[tuple[slice, Any]]:
        for part, features in self._examples.blocks(self._shape[0] * self._shape[1]):
            yield part, tf.constant(self._scaling.apply(features))


def _softmax(scores: Any, targets: Any) -> tuple[Any, Any]:
    logs = tf.nn.log_softmax(scores)
    return -tf.reduce_sum(targets * logs, axis=-1, keepdims=True), tf.exp(logs) - targets


def _sigmoid(scores: Any, targets: Any) -> tuple[Any, Any]:
    targets = tf.broadcast_to(targets, tf.shape(scores))
    losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, scores)
    return losses, tf.sigmoid(scores) - targets


def _squared(scores: Any, targets: Any) -> tuple[Any, Any]:
    residuals = scores - targets
    return tf.square(residuals) / 2, residuals


_LOSSES = {"softmax": _softmax, "sigmoid": _sigmoid, "squared": _squared}
