"""L-BFGS: the minimum of a smooth convex function of many variables."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Function = Callable[[Array], tuple[float, Array]]
Pairs = Sequence[tuple[Array, Array]]

_MAX_ITERATIONS = 300
_N_PAIRS = 10


def minimise(function: Function, start: Array, tolerance: float) -> Array:
    """L-BFGS (Nocedal and Wright, Numerical Optimization, 2006, algorithms 7.4 and 7.5).

    Args:
        function: Smooth and convex; gives its value and gradient.
        start: Where to begin.
        tolerance: The length of the gradient to stop at.
    """
    point, (value, gradient) = start, function(start)
    pairs: collections.deque[tuple[Array, Array]] = collections.deque(maxlen=_N_PAIRS)
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


def _times_inverse_hessian(gradient: Array, pairs: Pairs) -> Array:
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
    function: Function, point: Array, value: float, gradient: Array, direction: Array, step: float
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
