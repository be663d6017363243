"""What `topwork.fit` costs over the least possible work, on a folder of photographs.

    python benchmarks/overhead.py --data DIR --weights FILE

The least possible: one `model.predict` of the frozen network over the data, with the labels collected,
then `fit` of the head alone on the arrays. `topwork.fit` finds the frozen part itself, checks pixels and
labels, and shuffles in every epoch. Both in one run, in turn, `--repeats` times; the ratio is that of the
medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import _photographs
import keras
import numpy as np

import topwork as tw


def main() -> None:
    arguments = parse()
    train, validation = _photographs.load(arguments)
    seconds: dict[str, list[float]] = {"by hand": [], "topwork.fit": []}
    for _ in range(arguments.repeats):
        for name, train_head in (("by hand", by_hand), ("topwork.fit", with_topwork)):
            keras.utils.set_random_seed(0)
            backbone = _photographs.frozen_backbone(arguments)
            start = time.perf_counter()
            accuracy = train_head(backbone, train, validation, arguments.epochs)
            seconds[name].append(time.perf_counter() - start)
            print(f"{name}: {seconds[name][-1]:.1f} s, validation accuracy {accuracy:.4f}")
    by_hand_median, ours = (statistics.median(each) for each in seconds.values())
    print("| by hand | topwork.fit | ratio |\n| --- | --- | --- |")
    print(f"| {by_hand_median:.1f} s | {ours:.1f} s | {ours / by_hand_median:.3f} |")


def parse() -> argparse.Namespace:
    parser = _photographs.parser(__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def by_hand(backbone: keras.Model, train: Any, validation: Any, epochs: int) -> float:
    extractor = keras.Model(backbone.input, keras.layers.GlobalAveragePooling2D()(backbone.output))
    x, y = features(extractor, train)
    head = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    head.compile(keras.optimizers.RMSprop(1e-4), loss="binary_crossentropy", metrics=["accuracy"])
    history = head.fit(x, y, validation_data=features(extractor, validation), epochs=epochs, verbose=0)
    return history.history["val_accuracy"][-1]


def features(extractor: keras.Model, data: Any) -> tuple[Any, Any]:
    """One pass; the labels are picked up on the way, since the order is another in each pass."""
    labels: list[Any] = []

    def images() -> Any:
        for x, y in data:
            labels.append(y)
            yield (x,)

    x = extractor.predict(images(), steps=len(data), verbose=0)
    return x, np.concatenate(labels)


def with_topwork(backbone: keras.Model, train: Any, validation: Any, epochs: int) -> float:
    model = tw.add_head(n_classes=1, hidden_units=256)(backbone)
    history = tw.fit(model, train, validation_data=validation, epochs=epochs, verbose=0)
    return history.history["val_accuracy"][-1]


if __name__ == "__main__":
    main()
