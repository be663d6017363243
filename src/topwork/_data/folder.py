"""`read_folder`: labelled photographs from a folder or a table, as a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._data.headers import Undecodable
from topwork._data.images import Setting, image_shape, read_image
from topwork._data.listing import Listing, kind_of_place, list_folder, list_table
from topwork._data.origin import Origin
from topwork._data.randomness import READS_FILES
from topwork._data.unreadable import check_kinds, what_is_there_instead, without_bad
from topwork._errors import InputError, public, whole_number
from topwork._networks.arguments import check_task, optional_whole

_TABLES = (".csv", ".tsv", ".txt")


@public
def read_folder(
    folder: Any,
    size_or_model: Any,
    *,
    validation_split: float | None = None,
    subset: str | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    batch_size: int | None = 32,
    crop: bool = True,
    class_names: Sequence[str] | None = None,
    task: str | None = None,
    root: str | os.PathLike[str] | None = None,
    skip_bad: bool = False,
) -> Any:
    """Read labelled photographs, as `predict`, `report` and `grad_cam` read them too.

    Every file is decoded in full quality, turned upright as its EXIF data says, and resized to the
    model's size without distortion; the centre is cut out. Each pixel is the mean of the area that it
    stands for. Transparent parts become white. Pixels stay raw, 0 to 255.

    These files are read: JPEG (RGB, grey, CMYK), PNG (palette, alpha, 16 bits), GIF (the first frame),
    BMP and WebP; with Pillow also TIFF, AVIF, HEIC and what else Pillow can read; and `.npy` arrays
    (height, width, channels), for images with more channels.

    A model that `fit` trains on such a data set keeps the names of the classes, and `crop`, in its file.

    Args:
        folder: A folder with a folder for each class; or a table: a CSV file, a data frame, a dict of
            columns or a list of dicts, with a column of paths (``"path"``, ``"file"``,
            ``"filename"`` or ``"image"``) and one of classes or numbers, or several of 0 and 1.
        size_or_model: The model that the images are for; or their (height, width) or (height, width,
            channels) in pixels.
        validation_split: The fraction of each class that is kept for validation.
        subset: With `validation_split`: ``"training"``, ``"validation"`` or ``"both"``. Which images
            these are does not depend on `shuffle`, only on `seed`.
        shuffle: Whether each epoch has a new random order. ``file_paths`` is always in the order of
            ``shuffle=False``. topwork's own functions know the file of each image in both cases.
        seed: Of the split and the order.
        batch_size: None: single images.
        crop: False: the whole photograph, squeezed or stretched.
        class_names: The classes in the order that their numbers are to have; None: sorted by name.
        task: For a table, ``"classes"``, ``"labels"`` (several an image, also in one column, separated
            by ``|``, ``;`` or ``,``) or ``"numbers"``; None: what the columns look like.
        root: The folder that a table's paths start from; None: the table's own.
        skip_bad: True: all files are decoded once in advance. Those that cannot be decoded are left
            out, and a warning names them. False: the first such file is an error, which names it.

    Returns:
        A `tf.data.Dataset` of batches (images, labels); float32 images, class numbers as int32,
        several labels an image or numbers as float32. It has ``class_names`` and ``file_paths``, which
        do not survive a ``.map()`` (but topwork finds the class names and the reader's setting
        below it). A pair of data sets with ``subset="both"``.

    Raises:
        ValueError: There are no images, an argument is out of its range, or a file is of no kind
            that can be read. A file that is damaged further on raises when it is reached, as an
            error of TensorFlow with the path.

    Example:
        >>> import keras, numpy as np, pathlib, tempfile, topwork as tw
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (folder / name).mkdir()
        ...     keras.utils.save_img(folder / name / "1.png", np.full((9, 9, 3), 200))
        >>> photographs = tw.data.read_folder(folder, (8, 8))
        >>> photographs.class_names, [images.shape for images, labels in photographs]
        (['cat', 'dog'], [TensorShape([2, 8, 8, 3])])
    """
    shape = _shape(size_or_model)
    _check_numbers(validation_split, subset, batch_size, task)
    _check_choices(seed, crop)
    listing = _listing(folder, class_names, task, root, must_exist=not skip_bad)
    if skip_bad:
        listing = without_bad(listing, shape[2])
    else:
        check_kinds(listing)
    setting = Setting(crop=bool(crop))

    def dataset(part: Listing) -> Any:
        in_order = _dataset(part, shape, setting, batch_size)
        shuffled = _dataset(part, shape, setting, batch_size, seed, shuffle=True) if shuffle else in_order
        origin = Origin(part.class_names, setting, part.paths, part.labels, in_order)
        for each in (in_order, shuffled):
            each._topwork_origin = origin
            each.class_names = None if part.class_names is None else list(part.class_names)
            each.file_paths = list(part.paths)
        return shuffled

    if validation_split is None:
        return dataset(listing)
    training, validation = _split(listing, validation_split, seed)
    parts = {"training": [training], "validation": [validation], "both": [training, validation]}
    made = [dataset(listing.part(part)) for part in parts[str(subset)]]
    return tuple(made) if subset == "both" else made[0]


def _shape(size_or_model: Any) -> tuple[int, int, int]:
    given = size_or_model
    if isinstance(given, keras.Model):
        height, width, channels = image_shape(given)
        if height is None or width is None:
            raise InputError(
                f"the images of a batch are of one size, and the model {given.name!r} takes any. Give "
                "the size instead of the model: (height, width)."
            )
        return height, width, channels or 3
    one = whole_number(given)
    listed = (given, given) if one is not None else given
    is_listed = isinstance(listed, (tuple, list, np.ndarray))
    sizes = [whole_number(n) or 0 for n in listed] if is_listed else []
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        raise InputError(
            "size_or_model is a model, or the size of its images: (height, width) or (height, width, "
            f"channels), whole numbers of pixels. Received: {size_or_model!r}."
        )
    height, width, channels = (*sizes, 3)[:3]
    return height, width, channels


def _check_numbers(split: Any, subset: Any, batch_size: Any, task: Any) -> None:
    is_number = isinstance(split, (int, float, np.number))
    if split is not None and not (is_number and 0 < split < 1):
        raise InputError(f"validation_split is a fraction between 0 and 1. Received: {split!r}.")
    if (split is None) != (subset is None) or subset not in (None, "training", "validation", "both"):
        raise InputError(
            "validation_split and subset go together, the latter 'training', 'validation' or 'both'. "
            f"Received: validation_split={split!r}, subset={subset!r}."
        )
    optional_whole("batch_size", batch_size, 1)
    if task is not None:
        check_task(task, instead=", or None for what the columns look like")


def _check_choices(seed: Any, crop: Any) -> None:
    if seed is not None and whole_number(seed) is None:
        raise InputError(f"seed is a whole number, or None. Received: {seed!r}.")
    if not isinstance(crop, (bool, np.bool_)):
        raise InputError(
            f"crop is True, the centre cut out, or False, the whole squeezed. Received: {crop!r}."
        )


def _listing(folder: Any, class_names: Any, task: Any, root: Any, *, must_exist: bool) -> Listing:
    folder = os.fsdecode(folder) if isinstance(folder, bytes) else folder
    if not isinstance(folder, (str, os.PathLike)):
        return list_table(folder, root, class_names, task, must_exist=must_exist)
    path = Path(folder).expanduser()
    if kind_of_place(path) == "folder":
        return list_folder(path, class_names)
    if kind_of_place(path) == "file" and path.suffix.lower() in _TABLES:
        return list_table(path, root, class_names, task, must_exist=must_exist)
    raise InputError(f"there is no folder or table of this name. {what_is_there_instead(path)}")


def _split(listing: Listing, fraction: float, seed: int | None) -> tuple[Any, Any]:
    """The numbers of the files for training and for validation, each in their order."""
    rng = np.random.default_rng(0 if seed is None else seed)
    is_class = listing.task == "classes"
    groups = listing.labels if is_class else np.zeros(len(listing), "int32")
    chosen = np.zeros(len(listing), bool)
    for group in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == group))
        chosen[members[: round(len(members) * fraction)]] = True
    if chosen.all() or not chosen.any():
        raise InputError(
            f"validation_split={fraction} of {len(listing):,} images leaves one part without any. Give "
            "another fraction, or more images."
        )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _dataset(
    listing: Listing,
    shape: tuple[int, int, int],
    setting: Setting,
    batch_size: int | None,
    seed: int | None = None,
    *,
    shuffle: bool = False,
) -> Any:
    numbers = tf.data.Dataset.range(len(listing))
    if shuffle:
        numbers = numbers.shuffle(len(listing), seed=seed)
    # As tensors: arrays would become a part of the graph.
    paths, labels = tf.constant(list(map(os.fsencode, listing.paths))), tf.constant(listing.labels)

    def read(path: bytes) -> Any:
        try:
            return read_image(os.fsdecode(path), *shape, setting)
        except Undecodable as error:
            raise ValueError(
                f"the image {os.fsdecode(path)!r} cannot be read: it {error}. "
                "topwork.data.find_bad_images lists all such files; with skip_bad=True they are left out."
            ) from None

    def load(number: Any) -> Any:
        image = tf.numpy_function(read, [paths[number]], tf.float32, stateful=False, name=READS_FILES)
        return tf.ensure_shape(image, shape), labels[number]

    images = numbers.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return (images if batch_size is None else images.batch(batch_size)).prefetch(tf.data.AUTOTUNE)
