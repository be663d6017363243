"""Photographs before training: reading them from folders, random variation, finding the broken ones."""

from __future__ import annotations

from topwork._data.augmentation import augmentation
from topwork._data.bad_images import BadImage, find_bad_images
from topwork._data.folder import read_folder

__all__ = ["BadImage", "augmentation", "find_bad_images", "read_folder"]


def __dir__() -> list[str]:
    return list(__all__)
