"""Photographs from files and arrays, in the size that a model takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork._data.checks import warn_of_scaled_pixels
from topwork._errors import closest
from topwork._networks.classifier import N_IMAGENET_CLASSES
from topwork._networks.pixel_range import expected_range

Pixels = npt.NDArray[Any]
# ImageNet's networks are tested on the middle 7/8 of a photograph (224 of 256 pixels).
_IMAGENET_CROP = 0.875


class ImageReader:
    """Makes of a file or an array what a model takes.

    Args:
        model: A functional model of one input, (batch, height, width, channels).
        caller: The public function, for messages.
        n_classes: How many it tells apart: by 1000 a whole ImageNet network is recognised.
    """

    def __init__(self, model: Any, caller: str, n_classes: int) -> None:
        inputs = getattr(model, "inputs", None) or []
        shape = tuple(inputs[0].shape) if len(inputs) == 1 else ()
        if len(shape) != 4:
            raise ValueError(
                f"{caller} takes a model of one image, an input of shape (None, height, width, "
                f"channels). Received: {model!r} with the inputs {[tuple(x.shape) for x in inputs]}. "
                "A model that was not built yet has none: call it once on an image."
            )
        _, self.height, self.width, self.channels = shape
        self._caller = caller
        self._crop = _IMAGENET_CROP if n_classes == N_IMAGENET_CLASSES else 1.0
        self._range = expected_range(model)

    def read(self, image: Any) -> Pixels:
        """(height, width, channels), float32, of a path or of an array of any size."""
        is_file = isinstance(image, (str, os.PathLike))
        pixels = self._decode(Path(image)) if is_file else self._from_array(image)
        if self.height is None or self.width is None or pixels.shape[:2] == (self.height, self.width):
            return pixels
        return cropped(pixels, self.height, self.width, self._crop)

    def _decode(self, path: Path) -> Pixels:
        import tensorflow as tf

        self._check_file(path)
        try:
            decoded = tf.io.decode_image(path.read_bytes(), self.channels or 3, expand_animations=False)
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(
                f"{self._caller} cannot decode the image {str(path)!r}: it is damaged, or neither "
                "JPEG, PNG, GIF nor BMP. topwork.data.find_bad_images() lists all such files of a "
                "folder."
            ) from error
        return np.asarray(decoded, "float32")

    def _check_file(self, path: Path) -> None:
        if path.is_dir():
            raise ValueError(
                f"{self._caller} takes image files. Received: {str(path)!r}, a folder. Give the files "
                f"in it: sorted(pathlib.Path({str(path)!r}).glob('*.jpg'))."
            )
        if not path.exists():
            folder = path.parent
            files = [file.name for file in folder.iterdir()] if folder.is_dir() else []
            nearest = f" In {str(folder)!r} there are: {closest(path.name, files)}." if files else ""
            raise ValueError(
                f"{self._caller} found no file {str(path)!r}.{nearest} Correct the path; it is taken "
                f"from the working directory, {str(Path.cwd())!r}."
            )

    def _from_array(self, image: Any) -> Pixels:
        pixels = np.asarray(image) if not isinstance(image, (list, tuple, dict, set)) else np.empty(0)
        if pixels.ndim != 3 or pixels.shape[-1] != (self.channels or pixels.shape[-1]):
            raise ValueError(
                f"{self._caller} takes an image as a path, or as an array of shape (height, width, "
                f"{self.channels}). Received: {described(image)}. Batches of images are arrays of 4 "
                "dimensions."
            )
        warn_of_scaled_pixels(pixels, self._range, f"{self._caller}: the image")
        return pixels.astype("float32")


def cropped(pixels: Pixels, height: int, width: int, crop: float = 1.0) -> Pixels:
    """The centre of a photograph, resized without distortion.

    Args:
        pixels: (height, width, channels) of any size.
        height: Of the result.
        width: Of the result.
        crop: How much of the side that limits it is kept.
    """
    import tensorflow as tf

    scale = max(height / pixels.shape[0], width / pixels.shape[1]) / crop
    # At least the size asked for: rounding must not leave a pixel missing.
    rows = max(height, round(pixels.shape[0] * scale))
    columns = max(width, round(pixels.shape[1] * scale))
    resized = tf.image.resize(pixels, (rows, columns), "bilinear", antialias=True).numpy()
    top, left = (rows - height) // 2, (columns - width) // 2
    return np.asarray(resized[top : top + height, left : left + width])


def described(value: Any) -> str:
    """What was received, in a few words."""
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return f"{kind} of shape {tuple(shape)}" if shape is not None else f"{kind}, {str(value)[:80]!r}"
