"""Photographs from files and arrays, in the size that a model takes: the one reader of topwork.

Training, `predict`, `report` and `grad_cam` all come here, so that a photograph has the same pixels, to
the last bit, wherever it is read.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from topwork._data.by_pillow import from_pillow
from topwork._data.channels import Pixels
from topwork._data.decoding import decode_file
from topwork._data.headers import Undecodable
from topwork._data.listing import kind_of_place
from topwork._data.pixels import warn_of_scaled_pixels
from topwork._errors import InputError, closest, warn
from topwork._networks.classifier import N_IMAGENET_CLASSES
from topwork._networks.pixel_range import expected_range
from topwork._networks.record import read_record

# ImageNet's networks are tested on the middle 7/8 of a photograph (224 of 256 pixels).
_IMAGENET_PART = 0.875
# A JPEG is decoded to a fraction of its size if it still has twice the pixels asked for, each way.
_SPARE = 2


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a photograph is brought to the size that a model takes.

    Attributes:
        crop: Whether the centre is cut out, undistorted; else the whole is squeezed or stretched.
        part: How much of the side that limits the centre is kept.
    """

    crop: bool = True
    part: float = 1.0


def setting_from(fields: Any) -> Setting | None:
    """The setting in a record; None if there is none, or one that this version does not know."""
    try:
        return Setting(bool(fields["crop"]), min(max(float(fields["part"]), 0.01), 1.0))
    except (TypeError, KeyError, ValueError):
        return None


def read_image(
    path: str | os.PathLike[str],
    height: int | None,
    width: int | None,
    channels: int | None = 3,
    setting: Setting | None = None,
) -> Pixels:
    """(height, width, channels), float32, 0 to 255, of a file; in its own size if that is None.

    Raises:
        Undecodable: The file cannot be read, is damaged, or is of a kind that cannot be decoded.
    """
    setting = setting or Setting()
    if height is None or width is None:
        return decode_file(path, channels).astype("float32")
    at_least = math.ceil(_SPARE * max(height, width) / setting.part)
    return resized(decode_file(path, channels, at_least), height, width, setting)


def resized(pixels: Pixels, height: int, width: int, setting: Setting | None = None) -> Pixels:
    """A photograph in another size, as float32; what has it stays as it is.

    Each pixel of a smaller picture is the mean of the area that it stands for; what is made larger is
    bilinear. Both are a quarter of the work of a wider filter and give the same accuracy.

    Args:
        pixels: (height, width, channels) of any size, uint8 or float32.
        height: Of the result.
        width: Of the result.
        setting: None: the centre, undistorted.
    """
    import tensorflow as tf

    part = _centre(pixels, height, width, setting or Setting())
    if part.shape[:2] == (height, width):
        return part.astype("float32")
    batch = np.ascontiguousarray(part)[np.newaxis]
    if part.shape[0] >= height and part.shape[1] >= width:
        return tf.raw_ops.ResizeArea(images=batch, size=(height, width))[0].numpy()
    scale = (height / part.shape[0], width / part.shape[1])
    # Bilinear where it enlarges; antialiased along a side that it shortens nevertheless.
    result = tf.raw_ops.ScaleAndTranslate(
        images=batch,
        size=(height, width),
        scale=scale,
        translation=(0.0, 0.0),
        kernel_type="triangle",
        antialias=True,
    )
    return result[0].numpy()


def _centre(pixels: Pixels, height: int, width: int, setting: Setting) -> Pixels:
    """The part that is to be resized, cut to whole pixels."""
    if not setting.crop or pixels.shape[:2] == (height, width):
        return pixels
    sides = np.array(pixels.shape[:2])
    scale = max(np.array([height, width]) / sides) / setting.part
    kept = np.clip(np.round(np.array([height, width]) / scale), 1, sides).astype(int)
    top, left = (sides - kept) // 2
    return pixels[top : top + kept[0], left : left + kept[1]]


class ImageReader:
    """Makes of a file or an array what a model takes, as it was done when the model was trained.

    Args:
        model: A functional model of one input, (batch, height, width, channels).
        n_classes: How many it tells apart: by 1000 a whole ImageNet network is recognised.
    """

    def __init__(self, model: Any, n_classes: int) -> None:
        self.height, self.width, self.channels = image_shape(model)
        self._known = read_record(model).reader
        part = _IMAGENET_PART if n_classes == N_IMAGENET_CLASSES else 1.0
        self.setting = setting_from(self._known) or Setting(part=part)
        self._range = expected_range(model)

    def read(self, image: Any) -> Pixels:
        """(height, width, channels), float32, of a path or of an array of any size."""
        if isinstance(image, (str, os.PathLike)):
            return self._from_file(Path(image))
        pixels = self._from_array(image)
        if self.height is None or self.width is None:
            return pixels
        return resized(pixels, self.height, self.width, self.setting)

    def _from_file(self, path: Path) -> Pixels:
        if self._known == "other":
            self._known = None  # said once
            warn(
                "files are read as topwork.data.read_folder reads them, and the model was trained on "
                "images read in another way: its answers may differ from those in "
                "training. Train it on read_folder(...), or pass arrays that were read as in training."
            )
        self._check_file(path)
        try:
            return read_image(path, self.height, self.width, self.channels, self.setting)
        except Undecodable as error:
            raise InputError(
                f"the image {str(path)!r} cannot be read: it {error}. "
                "topwork.data.find_bad_images() lists all such files of a folder."
            ) from error

    def _check_file(self, path: Path) -> None:
        if kind_of_place(path) == "folder":
            raise InputError(
                f"an image is read from a file. Received: {str(path)!r}, a folder. Give the files "
                f"in it: sorted(pathlib.Path({str(path)!r}).glob('*.jpg'))."
            )
        if not os.path.lexists(path):
            folder = path.parent
            files = [file.name for file in folder.iterdir()] if folder.is_dir() else []
            nearest = f" In {str(folder)!r} there are: {closest(path.name, files)}." if files else ""
            raise InputError(
                f"there is no file {str(path)!r}.{nearest} Correct the path; it is taken "
                f"from the working directory, {str(Path.cwd())!r}."
            )

    def _from_array(self, image: Any) -> Pixels:
        if hasattr(image, "getbands"):
            return self._from_pillow(image)
        pixels = np.asarray(image) if not isinstance(image, (list, tuple, dict, set)) else np.empty(0)
        if pixels.ndim == 2:
            pixels = pixels[..., np.newaxis]
        if pixels.ndim == 3 and pixels.shape[-1] == 1 and self.channels == 3:
            pixels = np.repeat(pixels, 3, axis=-1)
        if pixels.ndim != 3 or pixels.shape[-1] != (self.channels or pixels.shape[-1]):
            raise InputError(
                "an image is a path, a Pillow image, or an array of shape (height, width, "
                f"{self.channels}). Received: {described(image)}. {_advice(pixels.shape, self.channels)}"
            )
        warn_of_scaled_pixels(pixels, self._range, "the image")
        return pixels if pixels.dtype == np.uint8 else pixels.astype("float32")

    def _from_pillow(self, image: Any) -> Pixels:
        try:
            return from_pillow(image, self.channels).astype("float32")
        except Undecodable as error:
            raise InputError(f"the image {described(image)} cannot be read: it {error}.") from error


def _advice(shape: tuple[int, ...], channels: int | None) -> str:
    if len(shape) == 3 and shape[0] == channels and shape[-1] > 4:
        return "The channels come first: move them to the end, np.moveaxis(image, 0, -1)."
    if len(shape) == 3 and shape[-1] == 4:
        return f"It has an alpha channel: leave it out, image[..., :{channels}]."
    if len(shape) == 3:
        return f"It has {shape[-1]} channels, and the model takes {channels}: convert it."
    return "Batches of images are arrays of 4 dimensions."


def image_shape(model: Any) -> tuple[int | None, int | None, int | None]:
    """(height, width, channels) of the one image that a model takes.

    Raises:
        ValueError: It takes something else.
    """
    inputs = getattr(model, "inputs", None) or []
    shape = tuple(inputs[0].shape) if len(inputs) == 1 else ()
    if len(shape) != 4:
        raise InputError(
            "the model must take one image, an input of shape (None, height, width, "
            f"channels). Received: {model!r} with the inputs {[tuple(x.shape) for x in inputs]}. "
            "A model that was not built yet has none: call it once on an image."
        )
    return shape[1], shape[2], shape[3]


def described(value: Any) -> str:
    """What was received, in a few words."""
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return f"{kind} of shape {tuple(shape)}" if shape is not None else f"{kind}, {str(value)[:80]!r}"
