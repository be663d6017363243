"""Grey, colours and transparency, and pictures that lie on their side."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
_ROWS_AT_ONCE = 256


def in_channels(pixels: Pixels, channels: int) -> Pixels:
    """Grey by the weights of ITU-R BT.601, as Pillow's; RGB with what is transparent shown on white."""
    if channels == 4:
        return _with_alpha(pixels)
    if pixels.shape[-1] in (2, 4):
        pixels = _without_alpha(pixels)
    if channels == 1 and pixels.shape[-1] == 3:
        weights = np.array([19595, 38470, 7471], "uint32")
        return ((pixels @ weights + 0x8000) >> 16).astype("uint8")[..., np.newaxis]
    if channels == 3 and pixels.shape[-1] == 1:
        return np.repeat(pixels, 3, axis=-1)
    return pixels


def _with_alpha(pixels: Pixels) -> Pixels:
    colors = pixels[..., :-1] if pixels.shape[-1] in (2, 4) else pixels
    alpha = pixels[..., -1:] if pixels.shape[-1] in (2, 4) else np.full_like(pixels[..., :1], 255)
    return np.concatenate([np.broadcast_to(colors, (*colors.shape[:2], 3)), alpha], axis=-1)


def _without_alpha(pixels: Pixels) -> Pixels:
    colors = np.ascontiguousarray(pixels[..., :-1])
    for start in range(0, len(pixels), _ROWS_AT_ONCE):  # the sums need four times the memory
        rows = slice(start, start + _ROWS_AT_ONCE)
        alpha = pixels[rows, :, -1:].astype("uint32")
        if (alpha < 255).any():
            colors[rows] = (colors[rows] * alpha + 255 * (255 - alpha) + 127) // 255
    return colors


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """The picture as it was seen, from one stored in one of EXIF's eight orientations."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
