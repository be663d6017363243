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

import _quiet  # noqa: F401 - before Keras, which imports TensorFlow
import keras
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.datasets import load_digits

import topwork as tw

SIZE = 48
BACKBONE = {"name": "mobilenet", "alpha": 0.25, "input_shape": (SIZE, SIZE, 3)}
CUT_LAYERS = ["conv_pw_3_relu", "conv_pw_7_relu", "conv_pw_13_relu"]  # early, in the middle, at the end
FONTS = ["DejaVuSans[!D]*", "DejaVuSerif[!D]*", "STIXGeneral*", "cmr10*", "cmss10*", "cmtt10*"]
LINE = "{:16}{:18}{:>10}{:>12}{:>9}"

Images = tuple[np.ndarray, np.ndarray]


def parse_arguments() -> argparse.Namespace:
    """Everything has a default."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", help="`imagenet` or a file, instead of learning letters")
    add("--letters", type=int, default=10, help="copies of each letter in each font")
    add("--letter-epochs", type=int, default=8)
    add("--tune-epochs", type=int, default=10, help="of fine-tuning")
    add("--scratch-epochs", type=int, default=50, help="of the network that learned nothing before")
    add("--seed", type=int, default=0, help="of the letters, the choice of digits, and the training")
    add("--output", type=Path, default=Path(), help="where the pictures and the weights are put")
    return parser.parse_args()


def main() -> None:
    """Pretrain, transfer, compare, draw."""
    args = parse_arguments()
    args.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    weights = args.weights or pretrain(args.letters, args.letter_epochs, args.output, args.seed)
    train, validation, test = digits(seed=args.seed)
    counts = [f"{len(labels):,}" for _, labels in (train, validation, test)]
    print("Digits: {} labelled images to learn from, {} to choose on, {} to test on.\n".format(*counts))
    print(LINE.format("pretrained", "cut layer", "head only", "fine-tuned", "seconds"))

    runs = []
    for cut_layer in CUT_LAYERS:
        start = time.perf_counter()
        runs.append(transfer(weights, cut_layer, train, validation, test, args.tune_epochs))
        print_row(Path(weights).name, cut_layer, *runs[-1][3:], time.perf_counter() - start)
    start = time.perf_counter()
    accuracy = from_scratch(train, test, args.scratch_epochs)
    print_row("none", "conv_pw_6_relu", None, accuracy, time.perf_counter() - start)
    print("Accuracies are on the test digits. The last network learned nothing but the labelled ones.\n")

    best = max(runs, key=lambda run: run[2].history["val_accuracy"][-1])
    model, head, tuned, *_ = best
    plot = tw.interpret.plot_history(head, tuned, labels=["head", "fine-tuning"])
    plot.savefig(args.output / "quickstart_history.png", dpi=150)
    draw_predictions(model, *test).savefig(args.output / "quickstart_digits.png", dpi=150)
    print(f"Saved quickstart_history.png and quickstart_digits.png in {args.output.resolve()}")


def transfer(
    weights: Path | str, cut_layer: str, train: Images, validation: Images, test: Images, epochs: int
) -> tuple[keras.Model, keras.callbacks.History, keras.callbacks.History, float, float]:
    """What topwork is for: cut, freeze, graft, solve the head; thaw the last three blocks, train on."""
    backbone = tw.load_backbone(**BACKBONE, cut_layer=cut_layer, weights=weights)
    tw.freeze(backbone)
    model = tw.add_head(n_classes=10, hidden_units=None)(backbone)
    head = tw.fit_head(model, *train, validation_data=validation, verbose=0)
    head_accuracy = model.evaluate(*test, verbose=0)[1]

    last_block = int(cut_layer.split("_")[2])
    boundary = f"conv_dw_{max(last_block - 2, 1)}"
    tw.fine_tune(model, boundary, optimizer=keras.optimizers.Adam(3e-4))
    guard = tw.callbacks.KeepBest(baseline=head)  # what fine-tuning spoils is undone
    options = {"validation_data": validation, "batch_size": 10, "verbose": 0}
    tuned = tw.fit(model, *train, epochs=epochs, callbacks=[guard], **options)
    return model, head, tuned, head_accuracy, model.evaluate(*test, verbose=0)[1]


def from_scratch(train: Images, test: Images, epochs: int = 50) -> float:
    """The accuracy of the same network without pretraining, trained on the labelled digits."""
    # Of the cuts and the rates that were tried, those that served it best.
    model = tw.add_head(n_classes=10, learning_rate=3e-3)(untrained("conv_pw_6_relu"))
    model.fit(*train, epochs=epochs, batch_size=10, verbose=0)
    return model.evaluate(*test, verbose=0)[1]


def pretrain(copies: int, epochs: int, folder: Path, seed: int = 0) -> Path:
    """Train a network on printed letters; return the file with its weights."""
    start = time.perf_counter()
    images, labels = letters(copies, seed)
    backbone = untrained()
    model = tw.add_head(len(string.ascii_letters), hidden_units=None, dropout=0)(backbone)
    batch_size = 64
    steps = epochs * math.ceil(len(images) / batch_size)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps)
    model.compile(keras.optimizers.Adam(rate), loss=model.loss, metrics=["accuracy"])
    print(f"Learning {len(images):,} printed letters, the longest part ...", flush=True)
    model.fit(images, labels, epochs=epochs, batch_size=batch_size, verbose=2)  # nothing is frozen
    file = folder / "letters.keras"
    backbone.save(file)
    print(f"Saved {file} after {time.perf_counter() - start:.0f} s.\n", flush=True)
    return file


def untrained(cut_layer: str | None = None) -> keras.Model:
    """The network with random weights, ready for a training of a few hundred steps."""
    network = tw.load_backbone(**BACKBONE, cut_layer=cut_layer, weights=None)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # with the default, 0.99, its averages lag behind that few
    return network


def letters(copies: int, seed: int = 0) -> Images:
    """Each letter in each font, `copies` times, moved and blurred at random; and its number."""
    rng = np.random.default_rng(seed)
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


def digits(per_class: int = 10, n_validation: int = 400, seed: int = 0) -> tuple[Images, Images, Images]:
    """scikit-learn's handwritten digits, 8x8 pixels from 0 to 16, as RGB images from 0 to 255.

    Ten of each to learn from, some to choose on, and the rest to test on.
    """
    pixels, labels = load_digits(return_X_y=True)
    small = [Image.fromarray((image * 255 / 16).astype("uint8")) for image in pixels.reshape(-1, 8, 8)]
    grey = np.stack([np.asarray(im.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for im in small])
    images = np.repeat(grey[..., None], 3, axis=-1)
    order = np.random.default_rng(seed).permutation(len(labels))
    labelled = np.concatenate([order[labels[order] == digit][:per_class] for digit in range(10)])
    others = order[~np.isin(order, labelled)]
    parts = labelled, others[:n_validation], others[n_validation:]
    first, second, third = ((images[part], labels[part]) for part in parts)
    return first, second, third


def print_row(pretrained: str, cut_layer: str, head: float | None, tuned: float, seconds: float) -> None:
    """A line of the table, as soon as it is known."""
    first = "-" if head is None else f"{head:.1%}"
    line = LINE.format(pretrained, cut_layer, first, f"{tuned:.1%}", f"{seconds:.1f}")
    print(line, flush=True)


def draw_predictions(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> plt.Figure:
    """A few digits with what the model takes them for; mistakes in red, with what is right."""
    predicted = model.predict(images, verbose=0).argmax(axis=-1)
    shown = np.random.default_rng(0).choice(len(images), 24, replace=False)
    figure, grid = plt.subplots(3, 8, figsize=(8, 3.8), layout="constrained")
    for axes, i in zip(grid.flat, shown, strict=True):
        axes.imshow(images[i])
        is_right = predicted[i] == labels[i]
        title = f"{predicted[i]}" if is_right else f"{predicted[i]}, is {labels[i]}"
        axes.set_title(title, color="black" if is_right else "red", weight="bold")
        axes.axis("off")
    figure.suptitle(
        f"{np.mean(predicted == labels):.1%} of {len(images):,} digits right; in red: taken for, is"
    )
    return figure


if __name__ == "__main__":
    main()
