"""Transfer learning in three minutes, with nothing to download.

python examples/quickstart.py

A small network learns printed letters, drawn from the fonts that come with matplotlib. Its weights go to
a file, and from there into backbones for another task: handwritten digits, ten labelled ones of each.
Where is it best cut? Does fine-tuning help? What would a network do that learned nothing before?
"""

from __future__ import annotations

import argparse
import math
import string
import time
from pathlib import Path

import keras
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.datasets import load_digits

import topwork as tw

SIZE = 48
BACKBONE = {"name": "mobilenet", "alpha": 0.25, "input_shape": (SIZE, SIZE, 3)}
CUT_LAYERS = ["conv_pw_6_relu", "conv_pw_11_relu", "conv_pw_13_relu"]
FONTS = ["DejaVuSans[!D]*", "DejaVuSerif[!D]*", "STIXGeneral*", "cmr10*", "cmss10*", "cmtt10*"]

Images = tuple[np.ndarray, np.ndarray]
Row = tuple[str, str, float | None, float, float]


def parse_arguments() -> argparse.Namespace:
    """Everything has a default."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", help="`imagenet` or a file, instead of learning letters")
    add("--letters", type=int, default=5, help="copies of each letter in each font")
    add("--letter-epochs", type=int, default=7)
    add("--epochs", type=int, default=40, help="of each head")
    add("--tune-epochs", type=int, default=10, help="of fine-tuning")
    add("--output", type=Path, default=Path(), help="where the pictures and the weights are put")
    return parser.parse_args()


def main() -> None:
    """Pretrain, transfer, compare, draw."""
    args = parse_arguments()
    args.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(1)
    weights = args.weights or pretrain(args.letters, args.letter_epochs, args.output)
    train, test = digits()
    print(f"Digits: {len(train[0])} labelled images to learn from, {len(test[0]):,} to test on.\n")

    rows, runs = [], []
    for cut_layer in CUT_LAYERS:
        start = time.perf_counter()
        model, *histories = transfer(weights, cut_layer, train, test, args.epochs, args.tune_epochs)
        accuracies = [history.history["val_accuracy"][-1] for history in histories]
        rows.append((Path(weights).name, cut_layer, *accuracies, time.perf_counter() - start))
        runs.append((model, *histories))
    rows.append(from_scratch(CUT_LAYERS[0], train, test, args.epochs + args.tune_epochs))
    print_table(rows)

    print("The settings and the best cut were chosen on the test digits: a demonstration, not a claim.")
    best = max(range(len(CUT_LAYERS)), key=lambda i: rows[i][3])
    model, head, tuned = runs[best]
    plot = tw.interpret.plot_history(head, tuned, labels=["head", "fine-tuning"])
    plot.savefig(args.output / "quickstart_history.png", dpi=150)
    draw_predictions(model, *test).savefig(args.output / "quickstart_digits.png", dpi=150)
    print(f"Saved quickstart_history.png and quickstart_digits.png ({CUT_LAYERS[best]}) in {args.output}")


def transfer(
    weights: Path | str, cut_layer: str, train: Images, test: Images, epochs: int, tune_epochs: int
) -> tuple[keras.Model, keras.callbacks.History, keras.callbacks.History]:
    """What topwork is for: cut, freeze, graft, train; thaw the last three blocks, train on."""
    keras.utils.set_random_seed(1)
    backbone = tw.load_backbone(**BACKBONE, cut_layer=cut_layer, weights=weights)
    tw.freeze(backbone)
    model = tw.add_head(n_classes=10, learning_rate=1e-3)(backbone)
    test_batches = tf.data.Dataset.from_tensor_slices(test).batch(256)
    options = {"validation_data": test_batches, "batch_size": 10, "verbose": 0}
    head = tw.fit(model, *train, epochs=epochs, **options)

    last_block = int(cut_layer.split("_")[2])
    tw.fine_tune(model, f"conv_dw_{last_block - 2}", optimizer=keras.optimizers.Adam(1e-3))
    return model, head, tw.fit(model, *train, epochs=tune_epochs, **options)


def from_scratch(cut_layer: str, train: Images, test: Images, epochs: int) -> Row:
    """The same network without pretraining: all of it is trained, on the labelled digits alone."""
    keras.utils.set_random_seed(1)
    start = time.perf_counter()
    # Of the cuts and the rates that were tried, those that served it best.
    model = tw.add_head(n_classes=10, learning_rate=3e-3)(untrained(cut_layer))
    model.fit(*train, epochs=epochs, batch_size=10, verbose=0)
    accuracy = model.evaluate(*test, verbose=0)[1]
    return ("none", cut_layer, None, accuracy, time.perf_counter() - start)


def pretrain(copies: int, epochs: int, folder: Path) -> Path:
    """Train a network on printed letters; return the file with its weights."""
    start = time.perf_counter()
    images, labels = letters(copies)
    backbone = untrained()
    model = tw.add_head(len(string.ascii_letters), hidden_units=None, dropout=0)(backbone)
    batch_size = 64
    steps = epochs * math.ceil(len(images) / batch_size)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps)
    model.compile(keras.optimizers.Adam(rate), loss=model.loss, metrics=["accuracy"])
    print(f"Learning {len(images):,} printed letters ...")
    model.fit(images, labels, epochs=epochs, batch_size=batch_size, verbose=2)  # nothing is frozen
    file = folder / "letters.keras"
    backbone.save(file)
    print(f"Saved {file} after {time.perf_counter() - start:.0f} s.\n")
    return file


def untrained(cut_layer: str | None = None) -> keras.Model:
    """The network with random weights, ready for a training of a few hundred steps."""
    network = tw.load_backbone(**BACKBONE, cut_layer=cut_layer, weights=None)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # with the default, 0.99, its averages lag behind that few
    return network


def letters(copies: int) -> Images:
    """Each letter in each font, `copies` times, moved and blurred at random; and its number."""
    rng = np.random.default_rng(0)
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    files = [file for pattern in FONTS for file in sorted(folder.glob(pattern))]
    fonts = [ImageFont.truetype(str(file), 42) for file in files]
    drawn = [
        (draw_letter(letter, font, rng), number)
        for number, letter in enumerate(string.ascii_letters)
        for font in fonts
        for _ in range(copies)
    ]
    images, labels = zip(*drawn, strict=True)
    return np.stack(images), np.array(labels)


def draw_letter(letter: str, font: ImageFont.FreeTypeFont, rng: np.random.Generator) -> np.ndarray:
    """White on black, as the digits are."""
    image = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(image).text((SIZE / 2, SIZE / 2), letter, fill=255, font=font, anchor="mm")
    matrix = np.eye(2) + rng.uniform(-0.25, 0.25, (2, 2))
    offset = SIZE / 2 - matrix @ np.full(2, SIZE / 2) + rng.uniform(-4, 4, 2)
    affine = (*matrix[0], offset[0], *matrix[1], offset[1])
    image = image.transform(image.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(1, 3)))
    return np.repeat(np.asarray(image)[..., None], 3, axis=-1)


def digits(per_class: int = 10) -> tuple[Images, Images]:
    """scikit-learn's handwritten digits, 8x8 pixels from 0 to 16, as RGB images from 0 to 255."""
    pixels, labels = load_digits(return_X_y=True)
    small = [Image.fromarray((image * 255 / 16).astype("uint8")) for image in pixels.reshape(-1, 8, 8)]
    grey = np.stack([np.asarray(im.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for im in small])
    images = np.repeat(grey[..., None], 3, axis=-1)
    order = np.random.default_rng(0).permutation(len(labels))
    labelled = np.concatenate([order[labels[order] == digit][:per_class] for digit in range(10)])
    rest = np.setdiff1d(order, labelled)
    return (images[labelled], labels[labelled]), (images[rest], labels[rest])


def print_table(rows: list[Row]) -> None:
    """One line for each network; the accuracies are those on the test digits."""
    print(f"{'pretrained':16}{'cut layer':18}{'head only':>10}{'fine-tuned':>12}{'seconds':>9}")
    for pretrained, cut_layer, head, tuned, seconds in rows:
        first = "-" if head is None else f"{head:.1%}"
        print(f"{pretrained:16}{cut_layer:18}{first:>10}{tuned:>12.1%}{seconds:>9.1f}")
    print("The last one was trained whole, on the labelled digits alone.\n")


def draw_predictions(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> plt.Figure:
    """A few digits with what the model takes them for; mistakes in red."""
    predicted = model.predict(images, verbose=0).argmax(axis=-1)
    shown = np.random.default_rng(0).choice(len(images), 24, replace=False)
    figure, grid = plt.subplots(3, 8, figsize=(8, 3.8), layout="constrained")
    for axes, i in zip(grid.flat, shown, strict=True):
        axes.imshow(images[i])
        right = predicted[i] == labels[i]
        axes.set_title(predicted[i], color="black" if right else "red", weight="bold")
        axes.axis("off")
    figure.suptitle(f"{np.mean(predicted == labels):.1%} of {len(images):,} digits right; red: wrong")
    return figure


if __name__ == "__main__":
    main()
