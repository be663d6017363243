"""All that `images` of `predict` may be, as batches of pixels with what each image is called."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from topwork._data.arrays import DATA_SETS
from topwork._data.checks import Guard
from topwork._data.images import ImageReader, described
from topwork._data.listing import kind_of_place
from topwork._data.order import warn_of_order
from topwork._data.origin import in_order
from topwork._data.pairs import refuse_pairs
from topwork._data.ragged import even_parts
from topwork._data.reading import open_source
from topwork._data.unreadable import image_files
from topwork._errors import InputError
from topwork._networks.classifier import Task

_BATCH_SIZE = 32


def batches_of(model: Any, images: Any, task: Task) -> Iterator[tuple[list[str], Any]]:
    """Titles and pixels, as many images at once as `Model.predict` takes, so that numbers are its own."""
    refuse_pairs(images, 4, "images")
    if _is_data_set(images):
        yield from _of_data_set(model, images)
        return
    reader = ImageReader(model, task.n)
    # If the model takes images of any size, each image may have another size: no batches then.
    batch_size = _BATCH_SIZE if reader.height and reader.width else 1
    todo = enumerate(_listed(images, reader.channels))
    while chunk := list(itertools.islice(todo, batch_size)):
        pixels = np.stack([reader.read(image) for _, image in chunk])
        yield [_title(number, image) for number, image in chunk], pixels


def _is_data_set(images: Any) -> bool:
    """Whether it has batches of its own, or labels beside the images."""
    is_pair = isinstance(images, (tuple, list)) and len(images) in (2, 3)
    is_pair = is_pair and _rank(images[0]) == 4 and _rank(images[1]) < 4
    return isinstance(images, (*DATA_SETS, dict)) or is_pair or inspect.isgeneratorfunction(images)


def _rank(value: Any) -> int:
    """How many axes something has as an array; 1 of a list of arrays that differ in size."""
    try:
        return np.ndim(value)
    except ValueError:
        return 1


def _of_data_set(model: Any, data: Any) -> Iterator[tuple[list[str], Any]]:
    ordered, paths = in_order(data)
    guard, n_seen = Guard(model, "the data", labelled=False), 0
    source = open_source(model, ordered)
    if paths is None:
        warn_of_order(data, source)
    for batch in source.batches():
        guard.check(batch.inputs, None)
        for part, _ in even_parts(batch.inputs):
            numbers = range(n_seen, n_seen + len(part[0]))
            yield [f"image {i}" if paths is None else paths[i] for i in numbers], part[0]
            n_seen += len(numbers)
    guard.check_not_empty()


def _listed(images: Any, channels: int | None) -> list[Any]:
    is_path = isinstance(images, (str, os.PathLike))
    if is_path and kind_of_place(images) == "folder":
        return image_files(Path(images))
    is_one = is_path or hasattr(images, "getbands") or _is_one_array(images, channels)
    if not is_one and not isinstance(images, Iterable):
        raise InputError(
            "images are paths of image files or arrays of pixels, one or several. Received: "
            f"{described(images)}."
        )
    listed = [images] if is_one else list(images)
    if not listed:
        raise InputError(
            f"there is no image to name, but an empty {type(images).__name__}. Where it comes from a "
            "glob, check the folder and the pattern."
        )
    return listed


def _is_one_array(images: Any, channels: int | None) -> bool:
    """Whether an array is one image, and not a batch of grey ones, (images, height, width)."""
    shape = tuple(getattr(images, "shape", ()))
    is_grey_batch = len(shape) == 3 and channels == 1 and shape[-1] > 4 and shape[0] not in (1, 3, 4)
    return len(shape) in (2, 3) and not is_grey_batch


def _title(number: int, image: Any) -> str:
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else f"image {number}"
