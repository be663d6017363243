"""How many changed labels `suspects` finds, and how many copies `find_duplicates`.

python benchmarks/data_quality.py --data DIR [--data DIR ...] --weights FILE [--only suspects]

Each DIR has a folder for each class, or `train` and `test` with one each, which are taken together; or
`train/labels.csv` and `train/images` with several labels an image. A share of the labels is changed at
random, and as many of the most suspicious are looked at. Then copies of 200 of all photographs are hidden
among them, of each kind.
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
    add("--only", choices=["suspects", "copies"], help="one of the two tables")
    args = parser.parse_args()
    shape = (args.image_size, args.image_size, 3)
    backbone = tw.load_backbone("mobilenet", args.cut_layer, weights=args.weights, input_shape=shape)
    if args.only != "copies":
        for folder in args.data:
            features, labels = read(folder, backbone)
            for share, found, n in changed_labels(features, labels, args.draws):
                what = f"of {share:.0%} changed labels of {labels.size:,}, {n},"
                print(f"{folder}: {what} {found:.1%} are found", flush=True)
    if args.only != "suspects":
        files = [file for folder in args.data for file in files_of(folder, shape[:2])]
        for kind, found, n_wrong in copies(files):
            print(f"{kind}: {found:.1%} of the copies found, {n_wrong} wrong pairs", flush=True)


def parts_of(folder: Path) -> list[Path]:
    """`train` and `test`, if these are what it has; else the folder itself."""
    return [folder / name for name in ("train", "test") if (folder / name).is_dir()] or [folder]


def read(folder: Path, backbone: keras.Model) -> tuple[Any, Any]:
    """Features, and labels as numbers of classes or as rows of 0 and 1."""
    features, labels = [], []
    for part in parts_of(folder):
        table = part / "labels.csv"
        is_table = table.exists()
        options = {"root": part / "images"} if is_table else {}
        data = tw.data.read_folder(table if is_table else part, backbone, shuffle=False, **options)
        features.append(tw.features(backbone, data, verbose=0))
        labels.append(np.concatenate([y for _, y in data.as_numpy_iterator()]))
    return np.concatenate(features), np.concatenate(labels)


def files_of(folder: Path, size: tuple[int, int]) -> list[str]:
    return [file for part in parts_of(folder) for file in tw.data.read_folder(part, size).file_paths]


def changed_labels(features: Any, right: Any, n_draws: int) -> Iterator[tuple[float, float, int]]:
    """For shares of labels changed, the fraction among as many of the most suspicious, and how many."""
    # What is looked at are features already: the labels are changed many times.
    identity = keras.Sequential([keras.Input(features.shape[1:]), keras.layers.Identity()])
    n_ways = 2 if right.ndim > 1 else int(right.max()) + 1
    names = [str(number) for number in range(right.shape[1] if right.ndim > 1 else n_ways)]
    options = {"class_names": names, "verbose": 0}
    for share in (0.05, 0.1, 0.2):
        n, found = round(share * right.size), []
        for _ in range(n_draws):
            changed = RNG.choice(right.size, n, replace=False)
            labels = right.copy()
            labels.flat[changed] = (labels.flat[changed] + RNG.integers(1, n_ways, n)) % n_ways
            suspects = tw.interpret.suspects(identity, (features, labels), n=n, **options)
            places = {place_of(row, right) for row in suspects}
            found.append(len(places & set(changed.tolist())) / n)
        yield share, float(np.mean(found)), n


def place_of(suspect: Any, labels: Any) -> int:
    """The number of a label, counted row by row."""
    if labels.ndim == 1:
        return int(suspect.index)
    return int(suspect.index) * labels.shape[1] + int(suspect.given.removeprefix("not "))


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
