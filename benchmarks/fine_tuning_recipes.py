"""What fine-tuning from a solved head gains or harms, by optimizer, rate and how far one goes.

    python benchmarks/fine_tuning_recipes.py --material DIR

`DIR` has `data/<set>/{train,test}/<class>/` and `weights/`. MobileNet to `conv_pw_12_relu`, at 160 px;
the head is solved, then each recipe fine-tunes from the same weights, from `conv_dw_8`, for 8 epochs.
Accuracy on the test images of the weights before, after, and on the way between (Wortsman et al., 2022,
https://arxiv.org/abs/2109.01903). Nothing is chosen by these figures here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import accuracy
import keras
import numpy as np

import topwork as tw

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
WEIGHTS = "mobilenet_1_0_224_imagenet_notop.h5"

# An optimizer, the peak of OneCycle (None: a constant rate), and what fine_tune takes beside.
RECIPES: dict[str, tuple[Callable[[], Any], float | None, dict[str, float]]] = {
    "SGD 1e-4, constant": (lambda: keras.optimizers.SGD(1e-4, momentum=0.9), None, {}),
    "SGD 1e-3": (lambda: keras.optimizers.SGD(1e-3, momentum=0.9), 1e-3, {}),
    "SGD 1e-2": (lambda: keras.optimizers.SGD(1e-2, momentum=0.9), 1e-2, {}),
    "Adam 1e-4": (lambda: keras.optimizers.Adam(1e-4), 1e-4, {}),
    "Adam 3e-4": (lambda: keras.optimizers.Adam(3e-4), 3e-4, {}),
    "Adam 3e-4, layer_decay 0.6": (lambda: keras.optimizers.Adam(3e-4), 3e-4, {"layer_decay": 0.6}),
    "Adam 3e-4, epsilon 1e-3": (lambda: keras.optimizers.Adam(3e-4, epsilon=1e-3), 3e-4, {}),
    "Adam 1e-3": (lambda: keras.optimizers.Adam(1e-3), 1e-3, {}),
    "Adam 1e-3, epsilon 1e-3": (lambda: keras.optimizers.Adam(1e-3, epsilon=1e-3), 1e-3, {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--material", type=Path, required=True, metavar="DIR")
    add("--sets", nargs="+", default=["handsigns", "grocery", "trash"])
    add("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    add("--start", default="conv_dw_8")
    add("--epochs", type=int, default=8)
    add("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    print("| data | recipe | seed | " + " | ".join(f"{share:.0%} of the way" for share in SHARES) + " |")
    print("| --- | --- | --- | " + " | ".join("---:" for _ in SHARES) + " |")
    for name in arguments.sets:
        for row in rows(arguments, name):
            print("|", " | ".join((name, *row)), "|", flush=True)


def rows(arguments: argparse.Namespace, name: str) -> Iterator[tuple[str, ...]]:
    folder = arguments.material / "data" / name
    train, test = (accuracy.read(folder / part, 160) for part in ("train", "test"))
    model = solved(str(arguments.material / "weights" / WEIGHTS), train)
    start = model.get_weights()
    for recipe in arguments.recipes:
        optimizer, peak, options = RECIPES[recipe]
        for seed in range(arguments.seeds):
            keras.utils.set_random_seed(seed)
            model.set_weights(start)
            tw.fine_tune(model, arguments.start, optimizer=optimizer(), **options)
            callbacks = [] if peak is None else [tw.callbacks.OneCycle(peak)]
            tw.fit(model, *train, epochs=arguments.epochs, callbacks=callbacks, verbose=0)
            figures = along_the_way(model, start, test)
            yield (recipe, str(seed), *(f"{figure:.3f}" for figure in figures))


def solved(weights: str, train: Any) -> keras.Model:
    backbone = tw.load_backbone(
        "mobilenet", "conv_pw_12_relu", weights=weights, input_shape=(160, 160, 3)
    )
    model = tw.add_head(int(train[1].max()) + 1, hidden_units=None)(tw.freeze(backbone))
    tw.fit_head(model, *train, verbose=0)
    return model


def along_the_way(model: keras.Model, start: list[Any], test: Any) -> Iterator[float]:
    end = model.get_weights()
    for share in SHARES:
        model.set_weights([a + share * (b - a) for a, b in zip(start, end, strict=True)])
        predicted = model.predict(test[0], verbose=0).argmax(axis=1)
        yield float(np.mean(predicted == test[1]))


if __name__ == "__main__":
    main()
