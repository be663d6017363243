"""What the silent mistakes of the classic course notebook cost, on photographs.

    python benchmarks/course_mistakes.py --data DIR --weights FILE

DIR has `train` and `validation`, each with a folder for each of two classes. Everything is measured on
the same photographs: what the pixels are scaled to, `trainbale`, a missing recompile, and thawed
BatchNormalization.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _photographs
import keras
import numpy as np

import topwork as tw

# As the networks that take -1 to 1 (InceptionV3, MobileNet) were trained, and what else is met.
SCALINGS: dict[str, Callable[[Any], Any]] = {
    "-1 to 1": lambda images: images / 127.5 - 1,
    "0 to 1": lambda images: images / 255,
    "0 to 255": lambda images: images,
}
Data = tuple[np.ndarray, np.ndarray]


def main() -> None:
    arguments = parse()
    train, validation = (
        read(part, n)
        for part, n in zip(
            _photographs.load(arguments), (arguments.images, arguments.validation_images), strict=True
        )
    )
    error = np.sqrt(0.95 * 0.05 / len(validation[1]))
    print(
        f"{arguments.backbone} to {arguments.cut_layer}, {arguments.image_size} px: {len(train[1])} "
        f"photographs to learn from, {len(validation[1])} others to test on. One standard error of an "
        f"accuracy of 95 %: {error:.1%}.\n"
    )
    for line in scaling_table(arguments, train, validation):
        print(line, flush=True)
    print()
    with tempfile.TemporaryDirectory() as folder:
        for line in training_table(arguments, train, validation, Path(folder)):
            print(line, flush=True)


def parse() -> argparse.Namespace:
    parser = _photographs.parser(__doc__)
    add = parser.add_argument
    add("--images", type=int, default=400, help="to learn from")
    add("--validation-images", type=int, default=500)
    add("--unfreeze-from", default="conv2d_56", help="172 of InceptionV3")
    add("--epochs", type=int, default=3, help="of each training that runs the whole network")
    add("--heads", type=int, default=5, help="trained for each scaling, from other random weights")
    return parser.parse_args()


def read(data: Any, n: int) -> Data:
    """The first `n` photographs of a shuffled data set."""
    batches = zip(*data.take(-(-n // 32)).as_numpy_iterator(), strict=True)
    images, labels = map(np.concatenate, batches)
    return images[:n], labels[:n]


# Scaling ----------------------------------------------------------------------------------------


def scaling_table(arguments: argparse.Namespace, train: Data, validation: Data) -> Iterator[str]:
    """Heads on globally averaged features, for each scaling in training and in use."""
    learned = {name: features(arguments, scale(train[0])) for name, scale in SCALINGS.items()}
    tested = {name: features(arguments, scale(validation[0])) for name, scale in SCALINGS.items()}
    yield f"| pixels in training | {' | '.join(f'tested on {name}' for name in SCALINGS)} |"
    yield "| --- |" + " ---: |" * len(SCALINGS)
    for name, rows in learned.items():
        found: list[list[float]] = []
        for seed in range(arguments.heads):
            head = trained_head(rows, train[1], seed)
            found.append([accuracy(head, (tested[other], validation[1])) for other in SCALINGS])
        means = np.mean(found, axis=0)
        yield f"| {name} | {' | '.join(f'{mean:.1%}' for mean in means)} |"


def features(arguments: argparse.Namespace, images: np.ndarray) -> np.ndarray:
    """What the frozen network makes of pixels that are scaled already."""
    backbone = backbone_of(arguments, preprocess=False)
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, pooled).predict(images, verbose=0)


def trained_head(rows: np.ndarray, labels: np.ndarray, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    vector = keras.Input(rows.shape[1:])
    head = tw.add_head(n_classes=1)(keras.Model(vector, keras.layers.Identity()(vector)))
    head.fit(rows, labels, epochs=20, verbose=0)
    return head


# Training ---------------------------------------------------------------------------------------


def training_table(
    arguments: argparse.Namespace, train: Data, validation: Data, folder: Path
) -> Iterator[str]:
    """Whole trainings with one mistake each, beside the same ones without it."""
    yield "| training | accuracy | numbers of the trunk that moved |"
    yield "| --- | ---: | ---: |"
    for name, run in RUNS.items():
        keras.utils.set_random_seed(0)
        model = tw.add_head(n_classes=1)(backbone_of(arguments))
        run(model, train, arguments, folder)
        before = trunk_weights(backbone_of(arguments))
        moved = [a.size for a, b in zip(before, trunk_weights(model), strict=True) if (a != b).any()]
        yield f"| {name} | {accuracy(model, validation):.1%} | {sum(moved):,} |"


def head_only(model: keras.Model, train: Data, arguments: argparse.Namespace, folder: Path) -> None:
    """With topwork; the other trainings begin with it."""
    tw.freeze(model, until="head_pooling")
    tw.fit(model, *train, epochs=20, verbose=0, cache_dir=folder)


def misspelt(model: keras.Model, train: Data, arguments: argparse.Namespace, folder: Path) -> None:
    for layer in model.layers:
        if not layer.name.startswith("head_"):
            layer.trainbale = False
    model.compile(keras.optimizers.RMSprop(1e-4), model.loss, metrics=["accuracy"])
    model.fit(*train, epochs=arguments.epochs, verbose=0)


def not_recompiled(model: keras.Model, train: Data, arguments: argparse.Namespace, folder: Path) -> None:
    tw.freeze(model, until="head_pooling")
    model.fit(*train, verbose=0)
    thaw(model, arguments)
    model.fit(*train, epochs=arguments.epochs, verbose=0)


def thawed_normalization(
    model: keras.Model, train: Data, arguments: argparse.Namespace, folder: Path
) -> None:
    head_only(model, train, arguments, folder)
    thaw(model, arguments)
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), model.loss, metrics=["accuracy"])
    model.fit(*train, epochs=arguments.epochs, verbose=0)


def fine_tuned(model: keras.Model, train: Data, arguments: argparse.Namespace, folder: Path) -> None:
    head_only(model, train, arguments, folder)
    tw.fine_tune(model, unfreeze_from=arguments.unfreeze_from)
    tw.fit(model, *train, epochs=arguments.epochs, verbose=0)


RUNS: dict[str, Callable[[keras.Model, Data, argparse.Namespace, Path], None]] = {
    "the head only, with topwork": head_only,
    "`trainbale`: nothing is frozen": misspelt,
    "thawed, not compiled again": not_recompiled,
    "thawed with its BatchNormalization": thawed_normalization,
    "thawed with `fine_tune`": fine_tuned,
}


def thaw(model: keras.Model, arguments: argparse.Namespace) -> None:
    """As notebooks do it; the flags alone."""
    boundary = [layer.name for layer in model.layers].index(arguments.unfreeze_from)
    for layer in model.layers[:boundary]:
        layer.trainable = False
    for layer in model.layers[boundary:]:
        layer.trainable = True


def trunk_weights(model: keras.Model) -> list[np.ndarray]:
    trunk = (layer for layer in model.layers if not layer.name.startswith("head_"))
    return [weight for layer in trunk for weight in layer.get_weights()]


# What both share --------------------------------------------------------------------------------


def backbone_of(arguments: argparse.Namespace, **options: Any) -> keras.Model:
    size = arguments.image_size
    return tw.load_backbone(
        arguments.backbone,
        arguments.cut_layer,
        weights=arguments.weights,
        input_shape=(size, size, 3),
        **options,
    )


def accuracy(model: keras.Model, data: Data) -> float:
    return model.evaluate(*data, verbose=0, return_dict=True)["accuracy"]


if __name__ == "__main__":
    main()
