"""Whether a head with a hidden layer, trained with an annealed rate, gains on the solved one.

    python benchmarks/hidden_layer.py --material DIR

`DIR` has `data/<set>/{train,test}/<class>/` and `weights/`. MobileNet to `conv_pw_12_relu` at 224 px; on
its averaged features a hidden layer of 1,024 units, trained with Adam and `OneCycle` for 20 epochs: on
the features as they are and changed in several ways. Accuracy on the test images, mean and range over
seeds; `fit_head` on the same features beside it. Nothing is chosen by these figures here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accuracy
import keras
import numpy as np

import topwork as tw

Arrays = tuple[Any, Any]
N_UNITS, DROPOUT, EPOCHS = 1024, 0.2, 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--material", type=Path, required=True, metavar="DIR")
    add("--cache-dir", type=Path, help="to keep features in, so that a second run is quick")
    add("--sets", nargs="+", default=["trash", "grocery", "handsigns"])
    add("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print("| data | head | accuracy |\n| --- | --- | --- |")
    for name in arguments.sets:
        train, test = features(arguments, name)
        print(f"| {name} | `fit_head` | {solved(train, test):.3f} |", flush=True)
        for way, run in WAYS.items():
            found = []
            for seed in range(arguments.seeds):
                keras.utils.set_random_seed(seed)
                found.append(run(train, test))
            text = f"{np.mean(found):.3f} ({min(found):.3f} to {max(found):.3f})"
            print(f"| {name} | {way} | {text} |", flush=True)


def features(arguments: argparse.Namespace, name: str) -> tuple[Arrays, Arrays]:
    """Averages of the last layer, of the training and the test images, with their labels."""
    cut, size, file = accuracy.NETWORKS["mobilenet"]
    weights = str(arguments.material / "weights" / file)
    backbone = tw.load_backbone("mobilenet", cut, weights=weights, input_shape=(size, size, 3))
    model = tw.add_head(2, hidden_units=None)(tw.freeze(backbone))
    parts = []
    for part in ("train", accuracy.SETS[name]):
        images, labels = accuracy.read(arguments.material / "data" / name / part, size)
        parts.append((tw.features(model, images, cache_dir=arguments.cache_dir, verbose=0), labels))
    return parts[0], parts[1]


def solved(train: Arrays, test: Arrays) -> float:
    inputs = keras.Input(train[0].shape[1:])
    n_classes = int(train[1].max()) + 1
    model = keras.Model(inputs, keras.layers.Dense(n_classes, activation="softmax")(inputs))
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    tw.fit_head(model, *train, verbose=0)
    return float(model.evaluate(*test, verbose=0)[1])


def hidden(
    train: Arrays,
    test: Arrays,
    *,
    change: Callable[[Any], keras.layers.Layer] | None = None,
    smoothing: float = 0.0,
    epochs: int = EPOCHS,
) -> float:
    """Train a head with a hidden layer; `change` makes a layer to put before it."""
    n_classes = int(train[1].max()) + 1
    x = inputs = keras.Input(train[0].shape[1:])
    if change is not None:
        x = change(train[0])(x)
    x = keras.layers.Dense(N_UNITS, activation="relu")(x)
    x = keras.layers.Dropout(DROPOUT)(x)
    model = keras.Model(inputs, keras.layers.Dense(n_classes, activation="softmax")(x))
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    data = [(x, keras.utils.to_categorical(y, n_classes)) for x, y in (train, test)]
    model.fit(*data[0], epochs=epochs, callbacks=[tw.callbacks.OneCycle()], verbose=0)
    return float(model.evaluate(*data[1], verbose=0)[1])


def standardised(features: Any) -> keras.layers.Layer:
    return keras.layers.Normalization(mean=features.mean(axis=0), variance=features.var(axis=0) + 1e-6)


def scaled(features: Any) -> keras.layers.Layer:
    """Divided by the root of the deviation, as `fit_head` does it, and to a length of about 10."""
    deviation = features.std(axis=0) + 1e-6
    factor = deviation.sum() / 100
    return keras.layers.Normalization(mean=features.mean(axis=0), variance=deviation * factor)


WAYS: dict[str, Callable[[Arrays, Arrays], float]] = {
    "features as they are": hidden,
    "standardised": lambda a, b: hidden(a, b, change=standardised),
    "divided by the root of their deviation": lambda a, b: hidden(a, b, change=scaled),
    "batch normalization": lambda a, b: hidden(a, b, change=lambda _: keras.layers.BatchNormalization()),
    "label smoothing 0.1": lambda a, b: hidden(a, b, smoothing=0.1),
    "40 epochs": lambda a, b: hidden(a, b, epochs=2 * EPOCHS),
}


if __name__ == "__main__":
    main()
