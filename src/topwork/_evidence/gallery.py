"""All images of some data as small pictures, and what they are known by, whatever they are kept in."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._data.data_sets import begin_epoch
from topwork._data.decoding import decode_file, read_bytes
from topwork._data.headers import Undecodable
from topwork._data.images import Setting, resized
from topwork._data.order import warn_if_reordered
from topwork._data.origin import class_names_of, in_order, origin_of
from topwork._data.ragged import array_of
from topwork._data.unreadable import image_files
from topwork._errors import InputError, described, warn
from topwork._evidence.likeness import SIDE
from topwork._evidence.pictures import Picture
from topwork._figures import displayable
from topwork._voice import progress

# A JPEG is decoded to a fraction of its size that still has this many pixels: enough for either picture.
_SMALLEST, _SHOWN = 2 * SIDE, 200
_LISTED = 5


@dataclass(frozen=True, eq=False)
class Gallery:
    """The images of a data set.

    Attributes:
        name: `"train"` or `"validation"`.
        pictures: (images, 32, 32, 3), uint8; black where a file cannot be read.
        keys: A digest of each image's file, or of its pixels; None where a file cannot be read.
        files: The path of each; None where images are no files.
        labels: What each is labelled with, as a text; None where that is not known.
        full: Gives the images with some numbers in a size to be looked at.
    """

    name: str
    pictures: Any
    keys: Sequence[bytes | None]
    files: Sequence[str] | None
    labels: Sequence[str] | None
    full: Callable[[Iterable[int]], dict[int, Picture]]

    def __len__(self) -> int:
        return len(self.keys)


def gallery_of(data: Any, name: str, verbose: Any) -> Gallery:
    """Look at all images of a folder, of files, of arrays or of a data set."""
    if hasattr(data, "__next__") or getattr(getattr(data, "dtype", None), "kind", "") in ("U", "O"):
        data = list(data)  # what glob gives, or a column of paths
    files = _files_of(data)
    gallery = _of_images(data, name, verbose) if files is None else _of_files(*files, name, verbose)
    if not len(gallery):
        raise InputError(f"there are no images in {name}: {described(data)}.")
    return gallery


def _files_of(data: Any) -> tuple[Sequence[str], Sequence[str] | None] | None:
    """Paths and labels, if the images are files."""
    if isinstance(data, (str, os.PathLike)):
        return _in_folder(Path(data))
    if isinstance(data, (list, tuple)) and data and all(isinstance(x, (str, os.PathLike)) for x in data):
        return [os.fspath(path) for path in data], None
    origin = origin_of(data)
    if origin is None or origin.paths is None or origin.in_order is None:
        return None
    return origin.paths, _texts(origin.labels, origin.class_names)


def _in_folder(folder: Path) -> tuple[Sequence[str], Sequence[str] | None]:
    paths = image_files(folder)
    parents = [path.parent.relative_to(folder).as_posix() for path in paths]
    return list(map(str, paths)), None if "." in parents else parents


def _of_files(paths: Sequence[str], labels: Sequence[str] | None, name: str, verbose: Any) -> Gallery:
    pictures = np.zeros((len(paths), SIDE, SIDE, 3), np.uint8)
    keys: list[bytes | None] = [None] * len(paths)
    bad = []
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress(f"looking at {name}", len(paths), "image", verbose) as count,
    ):
        for number, looked in enumerate(pool.map(_look_at, paths)):
            if isinstance(looked, str):
                bad.append(f"{paths[number]!r} {looked}")
            else:
                pictures[number], keys[number] = looked
            count()
    if bad:
        more = f" and {len(bad) - _LISTED:,} more" if len(bad) > _LISTED else ""
        warn(
            f"passed over {len(bad):,} files that cannot be read: {'; '.join(bad[:_LISTED])}{more}. "
            "topwork.data.find_bad_images lists all."
        )

    def full(numbers: Iterable[int]) -> dict[int, Picture]:
        return {number: decode_file(paths[number], 3, _SHOWN) for number in numbers}

    return Gallery(name, pictures, keys, paths, labels, full)


def _look_at(path: str) -> tuple[Picture, bytes] | str:
    """The small picture and a digest of the file; or what is wrong with it."""
    try:
        key = hashlib.sha256(read_bytes(Path(path))).digest()
        return _small(decode_file(path, 3, _SMALLEST)), key
    except Undecodable as error:
        return str(error)


def _small(image: Picture) -> Picture:
    """(32, 32, 3), uint8, of the whole image, squeezed."""
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    pixels = pixels if pixels.dtype == np.uint8 else displayable(np.nan_to_num(pixels))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    pixels = pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
    return np.round(resized(pixels, SIDE, SIDE, Setting(crop=False))).astype(np.uint8)


def _of_images(data: Any, name: str, verbose: Any) -> Gallery:
    pictures, keys, labels = [], [], []
    with progress(f"looking at {name}", None, "batch", verbose) as count:
        for images, y in _batches(data):
            pictures += [_small(image) for image in images]
            keys += [_digest(image) for image in images]
            labels.append(y)
            count()

    def first() -> list[bytes]:
        return list(map(_digest, next(_batches(data))[0]))

    def full(numbers: Iterable[int]) -> dict[int, Picture]:
        wanted = {number: keys[number] for number in numbers}
        if wanted:
            warn_if_reordered(data, first, first)
        return _found_again(data, wanted)

    known = None if not labels or labels[0] is None else np.concatenate(labels)
    texts = _texts(known, class_names_of(data))
    small = np.stack(pictures) if pictures else np.empty((0, SIDE, SIDE, 3), np.uint8)
    return Gallery(name, small, keys, None, texts, full)


def _digest(image: Any) -> bytes:
    pixels = np.ascontiguousarray(image)
    return hashlib.sha256(repr((pixels.shape, pixels.dtype.str)).encode() + pixels.tobytes()).digest()


def _found_again(data: Any, wanted: dict[int, bytes]) -> dict[int, Picture]:
    """Images by their digests, in whatever order the data comes now."""
    missing, found = set(wanted.values()), {}
    for images, _ in _batches(data):
        for image in images:
            if missing and (key := _digest(image)) in missing:
                found[key] = np.array(image)
                missing.remove(key)
        if not missing:
            break
    return {number: found[key] for number, key in wanted.items() if key in found}


def _batches(data: Any) -> Iterator[tuple[Any, Any]]:
    """Images and labels, as they come."""
    if isinstance(data, tf.data.Dataset):
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise InputError(
                "the data set repeats without end. Leave out .repeat(), or end it with .take()."
            )
        elements: Iterable[Any] = in_order(data)[0]
    elif isinstance(data, keras.utils.PyDataset):
        begin_epoch(data)
        elements = (data[i] for i in range(len(data)))
    elif inspect.isroutine(data) or inspect.isgeneratorfunction(data):
        elements = data()
    else:
        yield _arrays(data)
        return
    for element in elements:
        # As Keras takes it; other lists hold images of several sizes.
        is_pair = isinstance(element, list) and len(element) in (2, 3) and np.ndim(element[0]) == 4
        yield _arrays(tuple(element) if is_pair else element)


def _arrays(element: Any) -> tuple[Any, Any]:
    """Images, one after the other, and their labels, of an array, of (images, labels), or of a dict."""
    if isinstance(element, dict):
        images = element.get("image", element.get("images"))
        labels = element.get("label", element.get("labels"))
    elif isinstance(element, tuple):
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(element)
    else:
        images, labels = element, None
    listed = _listed(images)
    if listed is None or not all(np.ndim(image) in (2, 3) for image in listed):
        raise InputError(
            "images are a folder, a list of files, an array (images, height, width, channels), (images, "
            f"labels), or a data set. Received: {described(element)}."
        )
    if labels is None:
        return listed, None
    labels = array_of(labels)
    return listed, labels if labels.ndim and len(labels) == len(listed) else np.array([labels])


def _listed(images: Any) -> Any:
    """Images one after the other, whatever they come in; None if there are none."""
    if images is None or isinstance(images, list):  # a list holds images of several sizes
        return images
    array = array_of(images)
    is_one = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (1, 3, 4))
    return [array] if is_one else array if array.ndim else None


def _texts(labels: Any, names: Sequence[str] | None) -> Sequence[str] | None:
    """What images are labelled with: names of classes where they are known, else numbers."""
    if labels is None:
        return None
    labels = np.asarray(labels)
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] > 1 and labels.dtype.kind in "biuf" and (flat.sum(axis=1) == 1).all():
        flat = flat.argmax(axis=1)[:, None]
    if flat.shape[1] == 1 and flat.dtype.kind in "iu" and names and flat.max() < len(names):
        return [names[number] for number in flat[:, 0]]
    return [", ".join(map(_text, row)) for row in flat]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return str(value) if isinstance(value, str) else f"{value:g}"
