"""What fine-tuning from a solved head gains or harms, by recipe and how far one goes.

    python benchmarks/fine_tuning_recipes.py --material DIR > rows.txt
    python benchmarks/fine_tuning_recipes.py --summary rows.txt

`DIR` has `data/<set>/{train,test}` and `weights/`. The head is solved, and each recipe fine-tunes from
the same weights: the upper part of the network alone, as `fit` would, on the features of what is frozen.
Accuracy on the test images (of cards: the share of right decisions) of the weights before, after, and on
the way between (Wortsman et al., 2022, https://arxiv.org/abs/2109.01903). Nothing is chosen by these
figures here. The second call makes the table of the documentation of them: gains over the head alone.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import accuracy
import keras
import numpy as np

import topwork as tw

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Network:
    """What is fine-tuned.

    Attributes:
        name: As in `load_backbone`.
        cut: The layer at which the head is grafted.
        weights: The file.
        size: Of the images, in pixels.
        starts: First layers to train, by name or by index.
    """

    name: str
    cut: str
    weights: str
    size: int
    starts: tuple[str, ...]


NETWORKS = {
    "MobileNet": Network(
        "mobilenet",
        "conv_pw_12_relu",
        "mobilenet_1_0_224_imagenet_notop.h5",
        128,
        ("conv_dw_12", "conv_dw_8", "conv1"),
    ),
    "InceptionV3": Network("inception_v3", "mixed7", "inception_v3_imagenet_notop.h5", 150, ("172",)),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to fine-tune.

    Attributes:
        optimizer: Makes one.
        peak: Of OneCycle; None: a constant rate.
        layer_decay: As in `fine_tune`.
        pull: Towards the pretrained weights: half of it times the squared distance is added to the loss.
        views: Augmented copies of each image; 1: the image as it is.
        scale_and_shift: Train these of BatchNormalization, and nothing else of the trunk.
    """

    optimizer: Callable[[], Any]
    peak: float | None = None
    layer_decay: float = 1.0
    pull: float = 0.0
    views: int = 1
    scale_and_shift: bool = False


def sgd(rate: float) -> Callable[[], Any]:
    return lambda: keras.optimizers.SGD(rate, momentum=0.9)


def adam(rate: float, epsilon: float = 1e-7) -> Callable[[], Any]:
    return lambda: keras.optimizers.Adam(rate, epsilon=epsilon)


RECIPES = {
    "SGD 1e-4, constant": Recipe(sgd(1e-4)),
    "SGD 1e-3": Recipe(sgd(1e-3), 1e-3),
    "SGD 1e-2": Recipe(sgd(1e-2), 1e-2),
    "Adam 1e-4": Recipe(adam(1e-4), 1e-4),
    "Adam 3e-4": Recipe(adam(3e-4), 3e-4),
    "Adam 1e-3": Recipe(adam(1e-3), 1e-3),
    "Adam 3e-4, epsilon 1e-3": Recipe(adam(3e-4, 1e-3), 3e-4),
    "Adam 1e-3, epsilon 1e-3": Recipe(adam(1e-3, 1e-3), 1e-3),
    "Adam 3e-4, layer_decay 0.6": Recipe(adam(3e-4), 3e-4, layer_decay=0.6),
    "Adam 3e-4, L2-SP 0.01": Recipe(adam(3e-4), 3e-4, pull=0.01),
    "Adam 3e-4, augmented": Recipe(adam(3e-4), 3e-4, views=4),
    "scale and shift alone, Adam 1e-3": Recipe(adam(1e-3), 1e-3, scale_and_shift=True),
}


def main() -> None:
    arguments = _arguments()
    if arguments.summary:
        summarise(arguments.summary)
        return
    print("| network | data | from | recipe | seed | " + " | ".join(f"{s:.0%}" for s in SHARES) + " |")
    print("| --- | --- | --- | --- | --- | " + " | ".join("---:" for _ in SHARES) + " |")
    for name in arguments.sets:
        for row in rows(arguments, name):
            print("|", " | ".join((arguments.network, name, *row)), "|", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--material", type=Path, metavar="DIR")
    add("--summary", type=Path, nargs="+", metavar="FILE", help="make the table of rows printed before")
    add("--network", default="MobileNet", choices=NETWORKS)
    add("--sets", nargs="+", default=list(accuracy.SETS), choices=accuracy.SETS)
    add("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    add("--starts", nargs="+", help="first layers to train, by name or by index")
    add("--most-images", type=int, default=400, help="of each part of a set")
    add("--epochs", type=int, default=8)
    add("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if not arguments.summary and not arguments.material:
        parser.error("one of --material and --summary is needed")
    return arguments


def rows(arguments: argparse.Namespace, name: str) -> Iterator[tuple[str, ...]]:
    network, folder = NETWORKS[arguments.network], arguments.material / "data" / name
    train, test = (
        some(accuracy.read(folder / part, network.size), arguments.most_images)
        for part in ("train", accuracy.SETS[name])
    )
    model = solved(network, str(arguments.material / "weights" / network.weights), train)
    for start in arguments.starts or network.starts:
        below = keras.Model(model.inputs, entries(model, start))
        lower = (features(below, train[0]), train[1]), (features(below, test[0]), test[1])
        for recipe in arguments.recipes:
            for seed, figures in enumerate(
                tuned(model, start, RECIPES[recipe], below, train[0], lower, arguments)
            ):
                yield (start, recipe, str(seed), *(f"{figure:.4f}" for figure in figures))


def some(data: tuple[Any, Any], n_images: int) -> tuple[Any, Any]:
    """About that many of the images, evenly drawn."""
    step = -(-len(data[0]) // n_images)
    return data[0][::step], data[1][::step]


def solved(network: Network, weights: str, train: tuple[Any, Any]) -> keras.Model:
    shape = (network.size, network.size, 3)
    backbone = tw.load_backbone(network.name, network.cut, weights=weights, input_shape=shape)
    several = train[1].ndim > 1
    head = tw.add_head(
        train[1].shape[1] if several else int(train[1].max()) + 1,
        hidden_units=None,
        task="labels" if several else "classes",
    )
    model = head(tw.freeze(backbone))
    tw.fit_head(model, *train, verbose=0)
    return model


def boundary(start: str) -> str | int:
    return int(start) if start.isdigit() else start


def entries(model: keras.Model, start: str) -> list[Any]:
    """The tensors that go from the layers before a boundary to those after it."""
    layers, at = model.layers, boundary(start)
    index = at if isinstance(at, int) else layers.index(model.get_layer(at))
    below = {id(layer.output) for layer in layers[:index]}
    needed = [tensor for layer in layers[index:] for tensor in keras.tree.flatten(layer.input)]
    return list({id(tensor): tensor for tensor in needed if id(tensor) in below}.values())


def features(below: keras.Model, images: Any) -> list[Any]:
    """An array for each tensor."""
    return keras.tree.flatten(below.predict(images, batch_size=BATCH_SIZE, verbose=0))


def tuned(
    model: keras.Model,
    start: str,
    recipe: Recipe,
    below: keras.Model,
    images: Any,
    lower: tuple[tuple[list[Any], Any], tuple[list[Any], Any]],
    arguments: argparse.Namespace,
) -> Iterator[list[float]]:
    """For each seed, the accuracy along the way."""
    (x, y), test = lower
    before = model.get_weights()
    tw.fine_tune(model, boundary(start), optimizer=recipe.optimizer(), layer_decay=recipe.layer_decay)
    upper = above(model, start)
    if recipe.scale_and_shift:
        train_scale_and_shift(upper)
    for variable in upper.trainable_variables if recipe.pull else ():
        variable.regularizer = pulled(variable, recipe.pull)
    optimizer = model.optimizer if recipe.layer_decay < 1 else recipe.optimizer()
    upper.compile(optimizer, model.loss)
    optimizer.build(upper.trainable_variables)
    fresh = [variable.numpy() for variable in optimizer.variables]
    for seed in range(arguments.seeds):
        keras.utils.set_random_seed(seed)
        views = [x] if recipe.views == 1 else augmented(below, images, recipe.views, seed)
        model.set_weights(before)
        for variable, value in zip(optimizer.variables, fresh, strict=True):
            variable.assign(value)
        callbacks = [] if recipe.peak is None else [tw.callbacks.OneCycle(recipe.peak)]
        data = Shuffled(views, y, seed)
        upper.fit(data, epochs=arguments.epochs, callbacks=callbacks, shuffle=False, verbose=0)
        yield along_the_way(upper, before_of(model, upper, before), test)
    model.set_weights(before)


def above(model: keras.Model, start: str) -> keras.Model:
    """The part from a layer on, on what comes into it; statistics of BatchNormalization are kept."""
    entry = entries(model, start)
    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in entry]
    return keras.Model(inputs, keras.Model(entry, model.output)(inputs, training=False))


def train_scale_and_shift(upper: keras.Model) -> None:
    part = upper.layers[-1]
    for layer in part.layers:
        is_head = layer is part.layers[-1]
        layer.trainable = is_head or isinstance(layer, keras.layers.BatchNormalization)


def pulled(variable: Any, strength: float) -> Callable[[Any], Any]:
    start = keras.ops.convert_to_tensor(variable.numpy())
    return lambda value: strength / 2 * keras.ops.sum(keras.ops.square(value - start))


def augmented(below: keras.Model, images: Any, n_views: int, seed: int) -> list[list[Any]]:
    """Features of copies mirrored, turned, moved and magnified a little: of each view, of each tensor."""
    change = tw.data.augmentation(seed=seed)
    batches = [images[i : i + BATCH_SIZE] for i in range(0, len(images), BATCH_SIZE)]
    views = [np.concatenate([change(b, training=True) for b in batches]) for _ in range(n_views)]
    return [features(below, view) for view in views]


class Shuffled(keras.utils.PyDataset):
    """Batches in an order of their own in each epoch, of one view of each image, drawn at random."""

    def __init__(self, views: list[list[Any]], y: Any, seed: int) -> None:
        super().__init__()
        self._views, self._y, self._random = views, y, np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self._y) // BATCH_SIZE)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = self._order[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
        drawn = [[tensor[row] for tensor in self._views[self._drawn[row]]] for row in rows]
        return tuple(map(np.stack, zip(*drawn, strict=True))), self._y[rows]

    def on_epoch_end(self) -> None:
        """Draw anew; called by Keras."""
        n_images = len(self._y)
        self._order = self._random.permutation(n_images)
        self._drawn = self._random.integers(len(self._views), size=n_images)


def before_of(model: keras.Model, upper: keras.Model, before: list[Any]) -> list[Any]:
    """The weights from before, in the order of the upper part's."""
    values = dict(zip((id(v) for v in model.weights), before, strict=True))
    return [values[id(v)] for v in upper.weights]


def along_the_way(upper: keras.Model, start: list[Any], test: tuple[Any, Any]) -> list[float]:
    end, found = upper.get_weights(), []
    for share in SHARES:
        upper.set_weights([a + share * (b - a) for a, b in zip(start, end, strict=True)])
        found.append(right(upper.predict(test[0], batch_size=64, verbose=0), test[1]))
    return found


def right(outputs: Any, labels: Any) -> float:
    if labels.ndim > 1:
        return float(((outputs > 0.5) == labels).mean())
    if outputs.shape[1] == 1:
        return float(((outputs[:, 0] > 0.5) == labels).mean())
    return float((outputs.argmax(axis=1) == labels).mean())


def summarise(files: list[Path]) -> None:
    """Gains over the head alone, in points: half of the way and all of it, mean over the seeds."""
    found = read_rows(files)
    sets = [name for name in accuracy.SETS if any(name in each for each in found.values())]
    print("| network | from | recipe | " + " | ".join(sets) + " | mean | worst |")
    print("| --- | --- | --- |" + " ---: |" * (len(sets) + 2))
    for key, by_set in found.items():
        cells = [cell_of(by_set[name]) if name in by_set else "-" for name in sets]
        gains = [gain_of(by_set[name]) for name in sets if name in by_set]
        ends = ["-", "-"]
        if len(gains) == len(sets):
            ends = [as_text(np.mean(gains, axis=0)), as_text(np.min(gains, axis=0))]
        print("|", " | ".join((*key, *cells, *ends)), "|")


def read_rows(files: list[Path]) -> dict[tuple[str, ...], dict[str, list[list[float]]]]:
    """By network, start and recipe, and then by data: the figures of each seed, once."""
    found: dict[tuple[str, ...], dict[str, list[list[float]]]] = collections.defaultdict(dict)
    seen: set[tuple[str, ...]] = set()
    for line in (line for file in files for line in file.read_text().splitlines()):
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) == 5 + len(SHARES) and cells[4].isdigit() and tuple(cells[:5]) not in seen:
            seen.add(tuple(cells[:5]))
            network, data, start, recipe, _, *figures = cells
            found[network, start, recipe].setdefault(data, []).append([float(f) for f in figures])
    return found


def as_text(gains: Any) -> str:
    return " / ".join(f"{gain:+.1f}" for gain in gains)


def gain_of(runs: list[list[float]]) -> Any:
    """Half of the way and all of it, in points."""
    alone, half, whole = (np.array(runs)[:, SHARES.index(share)] for share in (0.0, 0.5, 1.0))
    return 100 * np.array([(half - alone).mean(), (whole - alone).mean()])


def cell_of(runs: list[list[float]]) -> str:
    ends = 100 * (np.array(runs)[:, -1] - np.array(runs)[:, 0])
    text = as_text(gain_of(runs))
    return text if len(runs) == 1 else f"{text} ({min(ends):+.1f} to {max(ends):+.1f})"


if __name__ == "__main__":
    main()
