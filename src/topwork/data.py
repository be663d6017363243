"""Photographs before training: reading folders, random variation, finding broken files and duplicates."""

from __future__ import annotations

from topwork._data.augmentation import augmentation
from topwork._data.bad_images import BadImage, find_bad_images
from topwork._data.folder import read_folder
from topwork._evidence.duplicates import find_duplicates

__all__ = ["BadImage", "augmentation", "find_bad_images", "find_duplicates", "read_folder"]


def __dir__() -> list[str]:
    return list(__all__)
