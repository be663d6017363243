"""Small pictures laid over each other: shifted, stretched and with another exposure, until they agree.

The Gauss-Newton alignment of Lucas and Kanade (1981; Baker and Matthews, 2004,
https://doi.org/10.1023/B:VISI.0000011205.11775.fd), with contrast and brightness among the unknowns, for
many pairs at once. A cut copy of a photograph comes to lie on the part that it was cut from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Steps, as part of a picture's width; then how much larger or smaller a copy may be, and how far away.
_LARGEST_STEP, _LARGEST_SCALE, _LARGEST_SHIFT = 0.15, 1.6, 0.6
_DAMPING = np.array([1e-5, 1e-5, 1e-5, 1e-5, 1e-6, 1e-6], np.float32)


def unmoved(n: int) -> Array:
    """Places (n, 4) of pictures that lie exactly over the others: scales x and y, shifts x and y."""
    return np.tile(np.array([1, 1, 0, 0], np.float32), (n, 1))


def aligned(pictures: Array, others: Array, places: Array, n_steps: int) -> Array:
    """Better places of the others, (n, 4): pixel x of a picture is `scale * x + shift` of its other.

    Args:
        pictures: (n, side, side), grey.
        others: Likewise, one for each.
        places: To begin with.
        n_steps: Of Gauss and Newton.
    """
    x, y, half = _grid(pictures.shape[1])
    flat = pictures.reshape(len(pictures), -1)
    for _ in range(n_steps):
        values, along_x, along_y, inside = _sampled(others, places)
        columns = (along_x * x, along_y * y, along_x * half, along_y * half, -flat, -np.ones_like(flat))
        jacobian = np.stack(columns, axis=2) * inside[..., None]
        transposed = jacobian.transpose(0, 2, 1)
        normal = transposed @ jacobian
        trace = np.maximum(np.trace(normal, axis1=1, axis2=2), 1)
        normal += np.eye(6, dtype=np.float32) * _DAMPING * trace[:, None, None]
        step = np.linalg.solve(normal, transposed @ values[..., None])[:, :4, 0]
        places = _bounded(places - np.clip(step, -_LARGEST_STEP, _LARGEST_STEP))
    return places


def laid_over(others: Array, places: Array) -> tuple[Array, Array]:
    """The others at their places, (n, side, side), and where there is something of them, as 0 and 1."""
    values, _, _, inside = _sampled(others, places)
    return values.reshape(others.shape), inside.reshape(others.shape)


def correlation(a: Array, b: Array, inside: Array, *, centred: bool = True) -> Array:
    """Of pictures, (n,), where both are: 1 if they differ in nothing but contrast (and brightness)."""
    axes = tuple(range(1, a.ndim))
    if centred:
        n_pixels = np.maximum(inside.sum(axis=axes, keepdims=True), 1)
        a, b = (each - (each * inside).sum(axis=axes, keepdims=True) / n_pixels for each in (a, b))
    square_a, square_b = ((each * each * inside).sum(axis=axes) for each in (a, b))
    return (a * b * inside).sum(axis=axes) / np.maximum(np.sqrt(square_a * square_b), 1e-6)


def _grid(side: int) -> tuple[Array, Array, float]:
    """Coordinates of all pixels from the middle, (side * side,), and half of a side."""
    line = np.arange(side, dtype=np.float32) - (side - 1) / 2
    return np.tile(line, side), np.repeat(line, side), side / 2


def _bounded(places: Array) -> Array:
    scales = np.clip(places[:, :2], 1 / _LARGEST_SCALE, _LARGEST_SCALE)
    return np.concatenate([scales, np.clip(places[:, 2:], -_LARGEST_SHIFT, _LARGEST_SHIFT)], axis=1)


def _sampled(pictures: Array, places: Array) -> tuple[Array, Array, Array, Array]:
    """Values between pixels, their slopes along x and y, and whether they are inside; (n, pixels)."""
    side = pictures.shape[1]
    x, y, half = _grid(side)
    at_x = places[:, 0:1] * x + places[:, 2:3] * half + (side - 1) / 2
    at_y = places[:, 1:2] * y + places[:, 3:4] * half + (side - 1) / 2
    inside = (at_x >= 0) & (at_x <= side - 1) & (at_y >= 0) & (at_y <= side - 1)
    at_x, at_y = (np.clip(each, 0, side - 1.001) for each in (at_x, at_y))
    column, row = at_x.astype(np.int32), at_y.astype(np.int32)
    right, down = at_x - column, at_y - row
    flat, place = pictures.reshape(len(pictures), -1), row * side + column
    corners = [np.take_along_axis(flat, place + step, axis=1) for step in (0, 1, side, side + 1)]
    above = corners[0] + (corners[1] - corners[0]) * right
    below = corners[2] + (corners[3] - corners[2]) * right
    along_x = (corners[1] - corners[0]) * (1 - down) + (corners[3] - corners[2]) * down
    return above + (below - above) * down, along_x, below - above, inside.astype(np.float32)
