"""`augmentation`: random variation of photographs, under the names of `ImageDataGenerator`."""

from __future__ import annotations

import itertools
import math
from typing import Any

import keras

from topwork._errors import InputError, public


@public
def augmentation(
    *,
    rotation: float = 40,
    width_shift: float = 0.2,
    height_shift: float = 0.2,
    shear: float = 0.2,
    zoom: float = 0.2,
    horizontal_flip: bool = True,
    seed: int | None = None,
) -> Any:
    """Random variation of photographs, under the names and units of ``ImageDataGenerator``.

    The result is made of Keras' own random layers, and works on raw RGB 0-255. Give it to `topwork.fit`
    as ``augment``, or map it over a dataset. Where a movement leaves pixels empty, they are filled with
    the nearest pixel, as in ``ImageDataGenerator``.

    Args:
        rotation: Largest turn to either side, in degrees, 0 to 180.
        width_shift: Largest move to the left or right, as a fraction of the width, below 1.
        height_shift: Largest move up or down, as a fraction of the height, below 1.
        shear: Largest shear angle to either side, in degrees, 0 to 45. The old class used degrees
            too. So the ``shear_range=0.2`` of many notebooks, which is the default here, has no
            visible effect; 10 has one.
        zoom: How much nearer or farther, below 1. A part between ``1 - zoom`` and ``1 + zoom`` of the
            width is seen, and, independently, of the height.
        horizontal_flip: Whether half of the photographs are mirrored.
        seed: An integer makes the variation repeatable.

    Returns:
        A `keras.Sequential` from a batch of images to images of the same shape, as float32. With
        ``training=False``, and so inside ``predict`` and ``evaluate``, it changes nothing.

    Raises:
        ValueError: A value is outside of its range.

    Example:
        >>> import numpy as np, topwork as tw
        >>> photographs = np.full((2, 32, 32, 3), 128, "uint8")
        >>> tw.data.augmentation(rotation=15)(photographs).shape
        TensorShape([2, 32, 32, 3])
    """
    angle, part = "in degrees", "as a fraction of the image (whole pixels are not supported)"
    rotation = _checked("rotation", rotation, f"{angle}, 0 to 180", rotation <= 180)
    width_shift = _checked("width_shift", width_shift, f"{part}, 0 to below 1", width_shift < 1)
    height_shift = _checked("height_shift", height_shift, f"{part}, 0 to below 1", height_shift < 1)
    shear = _checked("shear", shear, f"{angle}, 0 to 45", shear <= 45)
    zoom = _checked("zoom", zoom, "as a fraction, 0 to below 1", zoom < 1)
    shifts = {"height_factor": height_shift, "width_factor": width_shift}
    # Keras takes a single number as well, and then makes a layer that it cannot load again.
    shears = {"x_factor": (0.0, math.tan(math.radians(shear)))}
    movements: list[tuple[float, Any, dict[str, Any]]] = [
        (rotation, keras.layers.RandomRotation, {"factor": rotation / 360}),
        (width_shift + height_shift, keras.layers.RandomTranslation, shifts),
        (shear, keras.layers.RandomShear, shears),
        (zoom, keras.layers.RandomZoom, {"height_factor": zoom, "width_factor": zoom}),
    ]
    # One seed in all of them would turn and move every photograph by the same draw.
    seeds = itertools.repeat(None) if seed is None else itertools.count(seed)
    layers = [
        layer(**factors, fill_mode="nearest", seed=next(seeds))
        for amount, layer, factors in movements
        if amount
    ]
    if horizontal_flip:
        layers.append(keras.layers.RandomFlip("horizontal", seed=next(seeds)))
    return keras.Sequential(layers or [keras.layers.Identity()], name="augmentation")


def _checked(name: str, value: Any, valid: str, small_enough: Any) -> float:
    """The value as Python's own number: Keras refuses those of NumPy."""
    if not (value >= 0 and small_enough):
        raise InputError(
            f"{name} is a number {valid}. Received: {value!r}. Give a value in that range; {name}=0 "
            "switches it off."
        )
    return float(value)
