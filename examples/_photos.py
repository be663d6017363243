"""What the examples share: a folder of photographs as two data sets, and one photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

import topwork as tw


def load_folder(
    folder: Path, image_size: int, *, batch_size: int = 32, validation_split: float = 0.2
) -> tuple[Any, Any, list[str]]:
    """Read a folder of folders, one for each class, as raw RGB 0-255 with labels 0, 1, 2, ...

    Args:
        folder: Holds `train` and `validation`, each with a folder for each class; or the folders of
            the classes themselves, of which a part is then set aside for validation.
        image_size: Height and width in pixels that each photograph is resized to.
        batch_size: Images in a training step.
        validation_split: The part set aside, where `folder` has no `validation`.

    Returns:
        Training data, validation data, and the names of the classes in the order of their labels.
    """

    def read(part: Path, **options: Any) -> Any:
        size = (image_size, image_size)
        return tw.data.read_folder(part, size, batch_size=batch_size, seed=0, **options)

    if (folder / "validation").is_dir():
        train = read(folder / "train")
        validation = read(folder / "validation", class_names=train.class_names)
    else:
        train, validation = read(folder, validation_split=validation_split, subset="both")
    return train, validation, train.class_names


def load_photo(path: Path, image_size: int) -> np.ndarray:
    """One photograph as a batch of one: its central square, raw RGB 0-255."""
    photo = keras.utils.load_img(
        path,
        target_size=(image_size, image_size),
        keep_aspect_ratio=True,
        interpolation="hamming",  # the nearest to what `read_folder` does
    )
    return keras.utils.img_to_array(photo)[None]
