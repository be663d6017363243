"""Pixels that were preprocessed outside of a model that does so itself."""

from __future__ import annotations

from typing import Any

from topwork._errors import warn

# What is left of raw pixels after any kind of standardisation; 8-bit photographs go far beyond. What has
# nothing below 0 was divided, and leaves less: a photograph taken at night has more.
_LARGEST_STANDARDISED = 16.0
_LARGEST_DIVIDED = 6.0
# Of whole numbers, which a dark photograph may have few of.
_LARGEST_SCALED = 1.0
# What the brightest pixel of many photographs is at least, as far as it matters here.
_SMALLEST_RAW = 64.0
# Resizing with bicubic or Lanczos filters goes below 0, by a fraction of 255; a subtracted mean farther.
_OVERSHOOT = -40.0
# It goes beyond 255 too, by as much. What goes farther has more than 8 bits.
_LARGEST_RAW = 400.0


def warn_of_scaled_pixels(pixels: Any, expected: tuple[float, float] | None, subject: str) -> None:
    """Warn if `pixels` were preprocessed in any of the standard ways, and raw ones are expected.

    Args:
        pixels: Of an image or of a batch.
        expected: The range that the model expects; None if that is not known.
        subject: What has the pixels: ``"the training data"``.
    """
    if expected is None or pixels.size == 0 or not pixels.any():  # a black image tells nothing
        return
    low, high = float(pixels.min()), float(pixels.max())
    if high > _LARGEST_RAW:
        warn(
            f"{subject} has pixels from {low:.3g} to {high:.5g}, and the model expects pixels from 0 to "
            "255. Of 16 bits, divide them by 257; of another range, scale them to 0 to 255."
        )
    elif high <= _largest_scaled(pixels, low, high) or low < _OVERSHOOT:
        warn(
            f"{subject} has pixels from {low:.3g} to {high:.3g}, and the model expects raw pixels from 0 "
            f"to 255: its preprocessing is part of it. Leave out your own scaling, {_likely(low, high)}."
        )


def _largest_scaled(pixels: Any, low: float, high: float) -> float:
    """The largest that pixels of this kind are where they were scaled."""
    if low < 0:
        return _LARGEST_STANDARDISED
    is_whole = pixels.dtype.kind in "iu" or (high <= _LARGEST_DIVIDED and not (pixels % 1).any())
    return _LARGEST_SCALED if is_whole else _LARGEST_DIVIDED


def warn_of_unlike_pixels(train: Any, validation: Any) -> None:
    """Warn if of training and validation pixels the ones are raw, and the others were scaled."""
    if not train.size or not validation.size:
        return
    scaled = [_is_scaled(each) for each in (train, validation)]
    of_train, of_validation = (float(each.max()) for each in (train, validation))
    if None not in scaled and len(set(scaled)) == 2 and max(of_train, of_validation) > _SMALLEST_RAW:
        warn(
            f"the pixels of the training data go to {of_train:.3g}, and those of the validation data to "
            f"{of_validation:.3g}: only the one of them was scaled. Prepare both in the same way."
        )


def _is_scaled(pixels: Any) -> bool | None:
    """None where there is no telling."""
    if not pixels.any():
        return None
    low, high = float(pixels.min()), float(pixels.max())
    return high <= _largest_scaled(pixels, low, high)


def _likely(low: float, high: float) -> str:
    """What probably made pixels of this range."""
    if low < _OVERSHOOT:
        return "such as the preprocess_input of vgg16 or resnet (the mean subtracted)"
    if low >= 0:
        return "such as Rescaling(1 / 255)"
    if low >= -1.001 and high <= 1.001:
        return "such as Rescaling(1 / 127.5, offset=-1) or the preprocess_input of mobilenet"
    if low >= -2.2 and high <= 2.7:
        return "such as the preprocess_input of densenet (ImageNet's mean and deviation)"
    return "such as tf.image.per_image_standardization"
