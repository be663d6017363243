"""`find_duplicates`: images that are the same, within data sets and across them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from topwork._errors import public
from topwork._evidence.duplicate_records import Copy, Duplicate, Duplicates
from topwork._evidence.gallery import Gallery, gallery_of
from topwork._evidence.likeness import near_pairs
from topwork._evidence.pictures import Picture
from topwork._voice import check_verbose

_N_PICTURED = 12


class _Found(NamedTuple):
    """A pair, by the places of its images in both galleries, one after the other."""

    first: int
    second: int
    kind: str
    similarity: float
    mirrored: bool


@public
def find_duplicates(
    train: Any, validation: Any = None, *, near: bool = True, verbose: str | int = "auto"
) -> Duplicates:
    """Find images that are the same, within the training and the validation data and across them.

    Images that are in both data sets make the validation accuracy too high: the model has been trained
    on them. Two copies with different labels teach nothing.

    *Identical* images are the same byte for byte: files, or the pixels of arrays. *Near* copies are found
    by a perceptual hash of the pixels. Then the two images are laid over each other, and compared as a
    whole, in their details and in their colours. Copies of 200 photographs were mixed with 4,770 others.
    Found were all copies that had been compressed again, squeezed, mirrored or made grey; 99 % of those
    resized to a fifth or brightened; 99 % of those cut by 5 %, and 92 % of those cut by 10 %. Rotated
    copies and large cuts are not found. Several shots of the same thing are found if they hardly differ.
    Images with almost no contrast are compared byte for byte only.

    Time grows with the number of images, and slowly with its square; memory with the number.

    Args:
        train: A folder, searched with all below it; a list of files; images as an array (images, height,
            width, channels); (images, labels); or a data set. One of `topwork.data.read_folder` is
            read from its files, so that they are named.
        validation: Likewise; None: duplicates within `train` alone.
        near: False: identical images only.
        verbose: As in `topwork.fit`; 0 is silent.

    Returns:
        `Duplicates`: prints as a table, iterates over pairs, ``.records`` are plain dicts,
        ``.across`` those in both data sets, ``.contradictions`` those labelled differently, and
        ``.plot()`` draws the first ones.

    Raises:
        ValueError: There are no images, or they are of no kind that can be read.

    Example:
        >>> import numpy as np, topwork as tw
        >>> images = np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3)).astype("uint8")
        >>> found = tw.data.find_duplicates(images, images[3:4, :, ::-1], verbose=0)
        >>> print(found[0])
        train 3 and validation 0 (near, mirrored)
    """
    check_verbose(verbose)
    parts = {"train": train} if validation is None else {"train": train, "validation": validation}
    galleries = [gallery_of(data, name, verbose) for name, data in parts.items()]
    keys = [key for gallery in galleries for key in gallery.keys]
    found, alone = _identical(keys)
    if near:
        pictures = np.concatenate([gallery.pictures for gallery in galleries])[alone]
        found += [
            _Found(int(alone[pair.first]), int(alone[pair.second]), "near", *pair[2:])
            for pair in near_pairs(pictures)
        ]
    return _records(found, galleries)


def _identical(keys: Sequence[bytes | None]) -> tuple[list[_Found], Any]:
    """Pairs of the same key, each with the first of it, and the images that are left to compare."""
    first: dict[bytes, int] = {}
    found, alone = [], []
    for place, key in enumerate(keys):
        if key is None:
            continue
        if key in first:
            found.append(_Found(first[key], place, "identical", 1.0, False))
        else:
            first[key] = place
            alone.append(place)
    return found, np.array(alone, np.int64)


def _records(found: Sequence[_Found], galleries: Sequence[Gallery]) -> Duplicates:
    starts = np.cumsum([0, *map(len, galleries)])

    def place_of(number: int) -> tuple[int, int]:
        """Which gallery, and the number in it."""
        part = int(np.searchsorted(starts, number, side="right")) - 1
        return part, number - int(starts[part])

    def order(pair: _Found) -> tuple[Any, ...]:
        is_within = place_of(pair.first)[0] == place_of(pair.second)[0]
        return is_within, pair.kind != "identical", -pair.similarity, pair.first, pair.second

    ordered = sorted(found, key=order)
    shown = {place_of(n) for pair in ordered[:_N_PICTURED] for n in (pair.first, pair.second)}
    images = {
        (part, number): image
        for part, gallery in enumerate(galleries)
        for number, image in gallery.full([n for p, n in sorted(shown) if p == part]).items()
    }
    rows = [
        Duplicate(
            _copy(galleries, *place_of(pair.first), images),
            _copy(galleries, *place_of(pair.second), images),
            *pair[2:],
        )
        for pair in ordered
    ]
    return Duplicates(tuple(rows), {gallery.name: len(gallery) for gallery in galleries})


def _copy(
    galleries: Sequence[Gallery], part: int, number: int, images: dict[tuple[int, int], Picture]
) -> Copy:
    gallery = galleries[part]
    return Copy(
        part=gallery.name,
        index=number,
        file=None if gallery.files is None else gallery.files[number],
        label=None if gallery.labels is None else gallery.labels[number],
        image=images.get((part, number)),
    )
