"""Data that comes neither as arrays nor as a data set: a place, or a list of (images, labels)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from topwork._errors import InputError


def refuse_place(data: Any, name: str) -> None:
    """Raise for the path of a folder or a file."""
    if isinstance(data, (str, os.PathLike)):
        raise InputError(
            f"{name} is data, and not where it lies. Received: {str(data)!r}. Read a folder of "
            "photographs with topwork.data.read_folder, or with Keras' image_dataset_from_directory."
        )


def refuse_pairs(data: Any, rank: int, name: str) -> None:
    """Raise for a list of (images, labels), or of (image, label), and say how it becomes arrays.

    Args:
        data: What was given.
        rank: How many axes a batch of images has.
        name: What it is, for messages: ``"x"``.
    """
    if not isinstance(data, (list, tuple)) or not data:
        return
    pairs = [each for each in data if isinstance(each, (list, tuple)) and len(each) in (2, 3)]
    ranks = {np.ndim(each[0]) for each in pairs if hasattr(each[0], "shape")}
    is_all = len(pairs) == len(data) and all(hasattr(each[0], "shape") for each in pairs)
    if not is_all or len(ranks) != 1 or not ranks <= {rank - 1, rank}:
        return
    if any(np.ndim(each[1]) >= np.ndim(each[0]) for each in pairs):  # several images
        return
    join = "np.concatenate" if ranks == {rank} else "np.stack"
    kind = "batches of (images, labels)" if ranks == {rank} else "(image, label)"
    names = ", ".join(["images", "labels", "weights"][: len(pairs[0])])
    raise InputError(
        f"{name} is a list of {len(pairs)} {kind}, and data is arrays or a data set. Take them apart, "
        f"{names} = map({join}, zip(*batches)), and pass these, or pass a generator function that "
        "yields batches."
    )
