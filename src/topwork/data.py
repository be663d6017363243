"""What happens to photographs before training: random variation, and finding the broken ones."""

from __future__ import annotations

import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topwork._errors import closest

__all__ = ["BadImage", "augmentation", "find_bad_images"]

_READ_BY_KERAS = {".bmp": "BMP", ".gif": "GIF", ".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG"}
_PASSED_OVER_BY_KERAS = (".avif", ".heic", ".heif", ".jfif", ".tif", ".tiff", ".webp")
_SIGNATURES = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "GIF": b"GIF8",
    "BMP": b"BM",
    "TIFF": b"II*\x00",
    "TIFF (big-endian)": b"MM\x00*",
    "web page": b"<",
}


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

    The result is made of Keras' own random layers and works on raw RGB 0-255: give it to
    `topwork.fit` as ``augment``, or map it over a dataset. What a movement leaves empty is filled
    with the nearest pixel, as there.

    Args:
        rotation: Largest turn to either side, in degrees, 0 to 180.
        width_shift: Largest move to the left or right, as a fraction of the width, below 1.
        height_shift: Largest move up or down, as a fraction of the height, below 1.
        shear: Largest shear angle to either side, in degrees, 0 to 45. The old class counted in
            degrees too: the ``shear_range=0.2`` of many notebooks, kept as the default here,
            cannot be seen. 10 can.
        zoom: How much nearer or farther, below 1: of the width, and independently of the height,
            a part between ``1 - zoom`` and ``1 + zoom`` is seen.
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
    import keras

    angle, part = "in degrees", "as a fraction of the image (whole pixels are not supported)"
    _check_range("rotation", rotation, f"{angle}, 0 to 180", rotation <= 180)
    _check_range("width_shift", width_shift, f"{part}, 0 to below 1", width_shift < 1)
    _check_range("height_shift", height_shift, f"{part}, 0 to below 1", height_shift < 1)
    _check_range("shear", shear, f"{angle}, 0 to 45", shear <= 45)
    _check_range("zoom", zoom, "as a fraction, 0 to below 1", zoom < 1)
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


def _check_range(name: str, value: float, valid: str, small_enough: bool) -> None:
    if not (value >= 0 and small_enough):
        raise ValueError(
            f"augmentation() takes {name} {valid}. Received: {name}={value!r}. "
            f"Give a value in that range; {name}=0 switches it off."
        )


@dataclass(frozen=True)
class BadImage:
    """A file that would spoil training.

    Attributes:
        path: The file.
        reason: What is wrong with it.
    """

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def find_bad_images(folder: str | os.PathLike[str], *, verbose: bool = True) -> list[BadImage]:
    """List the images in a folder that cannot be read, or are not what their name says.

    A broken JPEG otherwise stops training in the middle of an epoch, and Keras silently passes
    over photographs of a kind that it does not read. Every file with an image's name is decoded
    just as training would do it, in as many threads as there are processors. Nothing is changed.

    Args:
        folder: A folder; all that lie in it are searched too.
        verbose: Whether to show a progress bar.

    Returns:
        A record with path and reason for each bad file, sorted by path; empty if all are good.

    Raises:
        ValueError: `folder` is not a folder, or holds no image.

    Example:
        >>> import pathlib, tempfile, topwork as tw
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "cat.jpg").write_bytes(b"")
        >>> for bad in tw.data.find_bad_images(folder, verbose=False):
        ...     print(bad.path.name, "-", bad.reason)
        cat.jpg - the file is empty
    """
    import keras

    folder = Path(folder)
    paths = _image_files(folder)
    progress = keras.utils.Progbar(len(paths), verbose=int(verbose), unit_name="image")
    bad = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, reason in zip(paths, pool.map(_reason, paths), strict=True):
            if reason:
                bad.append(BadImage(path, reason))
            progress.add(1)
    return bad


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"find_bad_images() takes a folder. {_what_is_there_instead(folder)}")
    suffixes = {*_READ_BY_KERAS, *_PASSED_OVER_BY_KERAS}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if not paths:
        raise ValueError(
            f"find_bad_images() found no image in {str(folder)!r} or below: no file's name ends in "
            f"{', '.join(sorted(suffixes))}. Give the folder that holds the photographs, or the "
            "one above their class folders."
        )
    return paths


def _what_is_there_instead(folder: Path) -> str:
    if folder.exists():
        return f"Received: {str(folder)!r}, a file. Give the folder it lies in: {str(folder.parent)!r}."
    parent = folder.parent
    neighbours = [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    nearest = f" In {str(parent)!r} there are: {closest(folder.name, neighbours)}." if neighbours else ""
    return f"Received: {str(folder)!r}, which does not exist.{nearest} Correct the path."


def _reason(path: Path) -> str | None:
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not content:
        return "the file is empty"
    return _wrong_kind(path, _kind(content)) or _undecodable(content)


def _kind(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if content[4:8] == b"ftyp":
        return "HEIC or AVIF"
    matches = (kind for kind, start in _SIGNATURES.items() if content.startswith(start))
    return next(matches, "not an image")


def _wrong_kind(path: Path, kind: str) -> str | None:
    expected = _READ_BY_KERAS.get(path.suffix.lower())
    if expected is None:
        return f"Keras passes over {path.suffix} files without a word: convert it to JPEG or PNG"
    if kind == expected:
        return None
    return f"named {path.suffix}, but its content is {kind}"


def _undecodable(content: bytes) -> str | None:
    import tensorflow as tf

    try:
        tf.io.decode_image(content, channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        cause = error.message.partition("} ")[2] or error.message
        return f"cannot be decoded (truncated or damaged): {cause.partition(' [Op:')[0]}"
    return None
