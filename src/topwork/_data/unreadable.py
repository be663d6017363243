"""Files that cannot be read: found before training is, and told with what would be near them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from topwork._data.decoding import decode_file, first_look
from topwork._data.headers import Undecodable
from topwork._data.listing import Listing, images_below, kind_of_place
from topwork._data.table_columns import IMAGE_SUFFIXES
from topwork._errors import InputError, closest, warn

_LISTED = 5


def image_files(folder: Path) -> list[Path]:
    """The files with an image's name in a folder and below it, sorted.

    Raises:
        InputError: There are none, or it is no folder.
    """
    if kind_of_place(folder) != "folder":
        raise InputError(f"there is no such folder. {what_is_there_instead(folder)}")
    paths = images_below(folder)
    if not paths:
        raise InputError(
            f"there is no image in {str(folder)!r} or below: no file's name ends in "
            f"{', '.join(IMAGE_SUFFIXES)}. Give the folder that holds the photographs, or one above it."
        )
    return paths


def what_is_there_instead(folder: Path) -> str:
    """For a message: what a path is that should be a folder, and what would be near it."""
    if kind_of_place(folder):
        return f"Received: {str(folder)!r}, a file. Give the folder it lies in: {str(folder.parent)!r}."
    parent = folder.parent
    neighbours = [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    nearest = f" In {str(parent)!r} there are: {closest(folder.name, neighbours)}." if neighbours else ""
    return f"Received: {str(folder)!r}, which does not exist.{nearest} Correct the path."


def problem_of(path: str | os.PathLike[str], channels: int | None = 3) -> str | None:
    """What is wrong with a file, found by decoding it; None if nothing is."""
    try:
        decode_file(path, channels)
    except Undecodable as error:
        return str(error)
    return None


def without_bad(listing: Listing, channels: int) -> Listing:
    """The files that can be decoded; warn of the others."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = list(pool.map(lambda path: problem_of(path, channels), listing.paths))
    good = [i for i, problem in enumerate(problems) if problem is None]
    bad = _named(listing, problems)
    if not good:
        raise InputError(f"none of the {len(listing):,} files can be read: {bad}.")
    if bad:
        warn(f"left out {len(listing) - len(good):,} of {len(listing):,} files: {bad}.")
    return listing.part(good)


def check_kinds(listing: Listing) -> None:
    """Raise for files that are of no kind that can be read, as far as their first bytes tell."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = list(pool.map(lambda path: first_look(Path(path)), listing.paths))
    bad = _named(listing, problems)
    if bad:
        raise InputError(
            f"{sum(map(bool, problems)):,} of {len(listing):,} files cannot be read: {bad}. "
            "topwork.data.find_bad_images lists all; with skip_bad=True they are left out."
        )


def _named(listing: Listing, problems: Sequence[str | None]) -> str:
    bad = [
        f"{path!r} {problem}" for path, problem in zip(listing.paths, problems, strict=True) if problem
    ]
    return "; ".join(bad[:_LISTED]) + (" and so on" if len(bad) > _LISTED else "")
