"""How many changed labels `suspects` finds, and how many copies `find_duplicates`.

python benchmarks/data_quality.py --data DIR [--data DIR ...] --weights FILE

Each DIR has a folder for each class. A share of its labels is changed at random, and as many of the most
suspicious are looked at. Then copies of 200 of all its photographs are hidden among them, of each kind.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

import topwork as tw

RNG = np.random.default_rng(0)
N_COPIES = 200


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, action="append", required=True, metavar="DIR")
    add("--weights", default="imagenet", metavar="FILE")
    add("--cut-layer", default="conv_pw_12_relu")
    add("--image-size", type=int, default=224)
    add("--draws", type=int, default=2, help="of labels that are changed")
    args = parser.parse_args()
    shape = (args.image_size, args.image_size, 3)
    backbone = tw.load_backbone("mobilenet", args.cut_layer, weights=args.weights, input_shape=shape)
    for folder in args.data:
        data = tw.data.read_folder(folder, backbone)
        for share, found in changed_labels(backbone, data, args.draws):
            print(f"{folder}: of {share:.0%} changed labels {found:.1%} are found")
    files = [file for folder in args.data for file in tw.data.read_folder(folder, shape[:2]).file_paths]
    for kind, found, n_wrong in copies(files):
        print(f"{kind}: {found:.1%} of the copies found, {n_wrong} wrong pairs")


def changed_labels(backbone: keras.Model, data: Any, n_draws: int) -> Iterator[tuple[float, float]]:
    """For shares of labels changed, the fraction among as many of the most suspicious."""
    features = tw.features(backbone, data)
    # What is looked at are features already: the labels are changed many times.
    identity = keras.Sequential([keras.Input(features.shape[1:]), keras.layers.Identity()])
    names = data.class_names
    right = np.array([names.index(Path(file).parent.name) for file in data.file_paths])
    for share in (0.05, 0.1, 0.2):
        found = []
        for _ in range(n_draws):
            n = round(share * len(right))
            changed = RNG.choice(len(right), n, replace=False)
            labels = right.copy()
            labels[changed] = (labels[changed] + RNG.integers(1, len(names), n)) % len(names)
            suspects = tw.interpret.suspects(identity, (features, labels), n=n, verbose=0)
            found.append(len({row.index for row in suspects} & set(changed.tolist())) / n)
        yield share, float(np.mean(found))


def copies(files: list[str]) -> Iterator[tuple[str, float, int]]:
    """For each kind of copy, the fraction found, and how many pairs are none."""
    chosen = RNG.choice(len(files), min(N_COPIES, len(files)), replace=False)
    for kind, change in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            made = [Path(folder, f"{number:05}.png") for number in range(len(chosen))]
            for place, path in zip(chosen, made, strict=True):
                change(Image.open(files[place]).convert("RGB")).save(path)
            found = tw.data.find_duplicates(files, list(map(str, made)), verbose=0).across
        right = {row.second.index for row in found if row.first.index == chosen[row.second.index]}
        wrong = sum(row.first.index != chosen[row.second.index] for row in found)
        yield kind, len(right) / len(chosen), wrong


def compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def cut(image: Image.Image, share: float) -> Image.Image:
    """A part of the picture, anywhere in it."""
    width, height = (int(share * side) for side in image.size)
    left, top = RNG.integers(0, image.width - width + 1), RNG.integers(0, image.height - height + 1)
    return image.crop((left, top, left + width, top + height))


def scaled(image: Image.Image, share: float) -> Image.Image:
    return image.resize((max(1, int(image.width * share)), max(1, int(image.height * share))))


KINDS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 40": lambda image: compressed(image, 40),
    "JPEG of quality 10": lambda image: compressed(image, 10),
    "half the size": lambda image: scaled(image, 0.5),
    "a fifth of the size": lambda image: scaled(image, 0.2),
    "squeezed": lambda image: image.resize((150, 150)),
    "mirrored": ImageOps.mirror,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "cut by 5 %": lambda image: cut(image, 0.95),
    "cut by 10 %": lambda image: cut(image, 0.9),
    "cut by 20 %": lambda image: cut(image, 0.8),
    "turned by 5 degrees": lambda image: image.rotate(5, Image.Resampling.BILINEAR),
}


if __name__ == "__main__":
    main()
