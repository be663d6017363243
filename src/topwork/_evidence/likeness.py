"""Which of many small pictures show the same photograph, without comparing each with each in full.

Candidates are the nearest neighbours by a perceptual hash: 8 x 8 grey values, centred and scaled, kept as
numbers and not as bits. They are then laid over each other, and must agree as a whole, in their
details, and in their colours unless one of them is grey.

How many copies of each kind are found is in the documentation of `find_duplicates`; wrong were
none of the pairs among 4,770 photographs of four sets, three of which are right.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from topwork._evidence.alignment import aligned, correlation, laid_over, unmoved

Array = npt.NDArray[Any]

SIDE = 32  # of the pictures
_HASH_SIDE, _COARSE_SIDE = 8, 16
_N_NEIGHBOURS = 5
_CANDIDATE, _COARSE, _WHOLE, _DETAIL, _COLOUR = 0.7, 0.85, 0.95, 0.8, 0.7
# In grey values of 255. With less contrast there is nothing to compare; less colour counts as none.
_FLAT, _GREY = 3.0, 1.0
_SMALLEST_OVERLAP = 0.5
_ROWS, _COLUMNS, _PAIRS = 1024, 16_384, 512
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Pair(NamedTuple):
    """Two pictures of the same.

    Attributes:
        first: The number of one.
        second: Of the other, which is larger.
        similarity: Their correlation once they lie over each other, up to 1.
        mirrored: Whether one is the mirror image.
    """

    first: int
    second: int
    similarity: float
    mirrored: bool


def near_pairs(pictures: Array) -> list[Pair]:
    """All pairs among pictures (n, 32, 32, 3), uint8, that show the same; each with its few nearest.

    Memory and the number of comparisons in full grow with n; the search for neighbours, a product of
    matrices, with its square.
    """
    if len(pictures) < 2:
        return []
    hashes, mirrored = (_hashes(pictures, mirror=mirror) for mirror in (False, True))
    candidates = _candidates(hashes, mirrored)
    found = []
    for start in range(0, len(candidates), _PAIRS):
        first, second = candidates[start : start + _PAIRS].T
        is_mirrored = _product(mirrored, hashes, first, second) > _product(hashes, hashes, first, second)
        one, other = _floats(pictures[first]), _floats(pictures[second])
        one = np.where(is_mirrored[:, None, None, None], one[:, :, ::-1], one)
        # The search for the place succeeds from one side more often than from both.
        similarity = np.maximum(_similarity(one, other), _similarity(other, one))
        found += [
            Pair(int(first[i]), int(second[i]), float(similarity[i]), bool(is_mirrored[i]))
            for i in np.flatnonzero(similarity)
        ]
    return sorted(found, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def _floats(pictures: Array) -> Array:
    return pictures.astype(np.float32)


def _hashes(pictures: Array, *, mirror: bool) -> Array:
    """(n, 64): of length 1, or 0 where a picture has no contrast."""
    hashes = np.zeros((len(pictures), _HASH_SIDE**2), np.float32)
    for start in range(0, len(pictures), _ROWS):
        part = pictures[start : start + _ROWS, :, :: -1 if mirror else 1]
        grey = _pooled(_floats(part) @ _LUMA, _HASH_SIDE).reshape(len(part), -1)
        grey -= grey.mean(axis=1, keepdims=True)
        has_contrast = grey.std(axis=1, keepdims=True) > _FLAT
        lengths = np.linalg.norm(grey, axis=1, keepdims=True)
        hashes[start : start + len(part)] = np.where(has_contrast, grey / np.maximum(lengths, 1), 0)
    return hashes


def _pooled(pictures: Array, side: int) -> Array:
    size = pictures.shape[1] // side
    return pictures.reshape(len(pictures), side, size, side, size).mean(axis=(2, 4))


def _product(a: Array, b: Array, first: Array, second: Array) -> Array:
    return (a[first] * b[second]).sum(axis=1)


def _candidates(hashes: Array, mirrored: Array) -> Array:
    """Pairs (n, 2) of near neighbours, the smaller number first."""
    pairs = [np.empty((0, 2), np.int64)]
    for start in range(0, len(hashes), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(hashes)))
        values, columns = _neighbours(hashes[rows], mirrored[rows], hashes, start)
        row, place = np.nonzero(values > _CANDIDATE)
        found = np.stack([rows[row], columns[row, place]], axis=1)
        pairs.append(np.sort(found, axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def _neighbours(rows: Array, mirrored: Array, hashes: Array, start: int) -> tuple[Array, Array]:
    """The similarities and numbers of the nearest of some rows, which begin at `start`."""
    values, numbers = [], []
    for first in range(0, len(hashes), _COLUMNS):
        columns = tf.constant(hashes[first : first + _COLUMNS])
        products = [tf.matmul(tf.constant(each), columns, transpose_b=True) for each in (rows, mirrored)]
        # One more than wanted, because each picture is its own nearest.
        best = tf.math.top_k(tf.maximum(*products), min(_N_NEIGHBOURS + 1, len(columns)))
        values.append(best.values.numpy())
        numbers.append(best.indices.numpy() + first)
    value, number = np.concatenate(values, axis=1), np.concatenate(numbers, axis=1)
    value[number == start + np.arange(len(rows))[:, None]] = -1
    order = np.argsort(-value, axis=1)[:, :_N_NEIGHBOURS]
    return np.take_along_axis(value, order, axis=1), np.take_along_axis(number, order, axis=1)


def _similarity(one: Array, other: Array) -> Array:
    """How well pictures in colour agree with others laid over them, (n,); 0 where not well enough."""
    greys = [each @ _LUMA for each in (one, other)]
    coarse = [_pooled(grey, _COARSE_SIDE) for grey in greys]
    places = aligned(coarse[0], coarse[1], unmoved(len(one)), n_steps=5)
    kept = np.flatnonzero(correlation(coarse[0], *laid_over(coarse[1], places)) > _COARSE)
    similarity = np.zeros(len(one), np.float32)
    if len(kept):
        similarity[kept] = _agreement(one[kept], other[kept], places[kept])
    return similarity


def _agreement(one: Array, other: Array, places: Array) -> Array:
    """The same in full, from places that are nearly right."""
    grey, other_grey = one @ _LUMA, other @ _LUMA
    places = aligned(grey, other_grey, places, n_steps=4)
    laid, inside = laid_over(other_grey, places)
    whole = correlation(grey, laid, inside)
    is_same = (whole > _WHOLE) & (inside.mean(axis=(1, 2)) > _SMALLEST_OVERLAP)
    is_same &= correlation(_details(grey), _details(laid), inside, centred=False) > _DETAIL
    colours = (one - grey[..., None], _laid_over_in_colour(other - other_grey[..., None], places))
    is_grey = np.minimum(*(np.abs(each).mean(axis=(1, 2, 3)) for each in colours)) < _GREY
    is_same &= is_grey | (correlation(*colours, inside[..., None], centred=False) > _COLOUR)
    return np.where(is_same, np.minimum(whole, 1), 0)


def _laid_over_in_colour(others: Array, places: Array) -> Array:
    channels = [laid_over(others[..., i], places)[0] for i in range(others.shape[-1])]
    return np.stack(channels, axis=-1)


def _details(grey: Array) -> Array:
    """What a pixel has more than the mean of its neighbourhood of 3 x 3."""
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    side = grey.shape[1]
    total = sum(padded[:, i : i + side, j : j + side] for i in range(3) for j in range(3))
    return grey - total / 9
