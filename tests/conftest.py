"""What all tests share: a quiet TensorFlow, a fixed seed, photographs, and the real material."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

# Before anything imports TensorFlow, Keras or matplotlib: they read these once.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
MATERIAL = "TOPWORK_TEST_MATERIAL"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def shared_material() -> Path:
    """The folder with real photographs (`data/`) and real weights (`weights/`)."""
    folder = Path(os.environ.get(MATERIAL, ROOT.parent / "shared"))
    if not (folder / "weights").is_dir():
        pytest.skip(f"no photographs and weights at {folder}: set {MATERIAL} to their folder")
    return folder


@pytest.fixture(scope="session")
def make_photos() -> Callable[..., Path]:
    """Writes `per_class` JPEG files for each class into a folder of folders, each class one colour.

    Folders of other names have other photographs.
    """
    from PIL import Image

    def make(folder: Path, class_names: tuple[str, ...], per_class: int, size: int = 40) -> Path:
        rng = np.random.default_rng(zlib.crc32(folder.name.encode()))
        for number, name in enumerate(class_names):
            (folder / name).mkdir(parents=True)
            colour = np.roll((200, 90, 30), number)
            for index in range(per_class):
                pixels = np.clip(rng.normal(colour, 30, (size, size, 3)), 0, 255)
                photo = Image.fromarray(pixels.astype("uint8"))
                photo.save(folder / name / f"{name}_{index}.jpg")
        return folder

    return make
