"""Several labels an image: which of them it has, how sure that is, and from where on a label holds.

python examples/several_labels.py
python examples/several_labels.py --train train/labels.csv --test test/labels.csv --weights FILE

A table has a column of paths (`path` or `filename`) and a column of 0 and 1 for each label. Without one,
pictures of red circles, green squares, blue triangles and white lines are drawn, and a network of random
weights looks at them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import _quiet  # noqa: F401 - before Keras, which imports TensorFlow
import keras
import numpy as np
from PIL import Image, ImageDraw

import topwork as tw

SHAPES = {
    "circle": (220, 40, 40),
    "square": (40, 190, 60),
    "triangle": (40, 70, 220),
    "line": (250, 250, 250),
}
SIDE = 64


def parse_arguments() -> argparse.Namespace:
    """Where the tables, the photographs and the weights are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--train", type=Path, metavar="CSV", help="default: shapes are drawn")
    add("--test", type=Path, metavar="CSV")
    add("--images", default="images", help="folder beside a table that its paths start from")
    add("--backbone", default="mobilenet", help=", ".join(tw.list_backbones()))
    add("--cut-layers", nargs="+", help="to compare; default: the ends of blocks")
    add("--weights", metavar="FILE", help="a file, `imagenet` or `none`; default: none for drawn shapes")
    add("--image-size", type=int, help="default: 224 for photographs")
    add("--cache-dir", type=Path, help="keeps features: a second run computes none")
    add("--output", type=Path, default=Path(), help="where pictures and the model are put")
    return parser.parse_args()


def main() -> None:
    """Compare cuts, solve the head, look at it label by label, save it and use it."""
    args = parse_arguments()
    size = args.image_size or (224 if args.train else SIDE)
    default = "imagenet" if args.train else "none"
    weights = None if (args.weights or default) == "none" else args.weights or default
    args.output.mkdir(parents=True, exist_ok=True)
    train, test = (read(args, part, size) for part in ("train", "test"))
    names = train.class_names
    print(f"{len(train.file_paths)} + {len(test.file_paths)} images, labels: {', '.join(names)}")

    keras.utils.set_random_seed(0)
    cuts = tw.compare_cuts(
        args.backbone,
        train,
        test,
        cut_layers=args.cut_layers,
        weights=weights,
        cache_dir=args.cache_dir,
        input_shape=(size, size, 3),
    )
    print(f"\n{cuts}\n")

    keras.utils.set_random_seed(0)  # where the weights are random, the same ones again
    backbone = tw.load_backbone(
        args.backbone, cuts.best.cut_layer, weights=weights, input_shape=(size, size, 3)
    )
    model = tw.add_head(len(names), task="labels", hidden_units=None)(tw.freeze(backbone))
    tw.fit_head(model, train, validation_data=test, cache_dir=args.cache_dir)

    found = tw.interpret.report(model, test)
    print(f"\n{found}\n")
    found.plot().savefig(args.output / "several_labels.png")
    found.plot_calibration().savefig(args.output / "several_labels_calibration.png")
    found.plot_mistakes().savefig(args.output / "several_labels_mistakes.png")

    saved = args.output / "several_labels.keras"
    model.save(saved)
    # The names of the labels are in the file. A label that must not be missed may hold earlier.
    reloaded = keras.saving.load_model(saved)
    for prediction in tw.predict(reloaded, test.file_paths[:3], threshold={names[0]: 0.3}):
        print(f"{Path(prediction.image).name}: {', '.join(prediction.labels) or 'none of them'}")


def read(args: argparse.Namespace, part: str, size: int) -> Any:
    """A table of files with their labels, as a data set."""
    table = getattr(args, part)
    if table is None:
        return tw.data.read_folder(draw(args.output / "shapes" / part, seed=len(part)), (size, size))
    folder = table.parent / args.images
    return tw.data.read_folder(table, (size, size), root=folder if folder.is_dir() else None)


def draw(folder: Path, seed: int, n_images: int = 160) -> dict[str, Any]:
    """Pictures of none to four shapes on a noisy ground, and the table of what is on each."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    shown = rng.integers(0, 2, (n_images, len(SHAPES)))
    files = [folder / f"{number}.png" for number in range(n_images)]
    for file, row in zip(files, shown, strict=True):
        ground = np.clip(rng.normal(rng.integers(60, 180), 12, (SIDE, SIDE, 3)), 0, 255)
        image = Image.fromarray(ground.astype("uint8"))
        for shape, is_shown in zip(SHAPES, row, strict=True):
            if is_shown:
                draw_shape(ImageDraw.Draw(image), shape, rng)
        image.save(file)
    return {"path": files, **dict(zip(SHAPES, shown.T, strict=True))}


def draw_shape(pen: ImageDraw.ImageDraw, shape: str, rng: np.random.Generator) -> None:
    """Of about its colour, anywhere."""
    x, y = rng.integers(2, SIDE - 26, 2).tolist()
    side = int(rng.integers(14, 24))
    colour = tuple(np.clip(SHAPES[shape] + rng.normal(0, 15, 3), 0, 255).astype(int).tolist())
    box = (x, y, x + side, y + side)
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    elif shape == "triangle":
        pen.polygon([(x, y + side), (x + side / 2, y), (x + side, y + side)], fill=colour)
    else:
        pen.line([(0, y), (SIDE, y + side)], fill=colour, width=3)


if __name__ == "__main__":
    main()
