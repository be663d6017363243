"""Features larger than memory: what training on them takes of it.

    python benchmarks/larger_than_memory.py --gigabytes 20

Images of 32 px are generated on the fly, so that the data set itself takes no room; a frozen network with
`pooling="flatten"` makes 1 MB of features of each. They go to a temporary file (set TMPDIR to choose its
disk), and the head is trained on them. Prints the size of the features and the largest resident memory.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import topwork as tw

SIZE = 32
CHANNELS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--cache", default="auto")
    arguments = parser.parse_args()
    row_bytes = SIZE * SIZE * CHANNELS * 4
    n_images = int(arguments.gigabytes * 1e9 / row_bytes)
    model = build()
    before = resident_gigabytes()
    start = time.perf_counter()
    history = tw.fit(model, images(n_images), epochs=arguments.epochs, cache=arguments.cache)
    print("| features | images | seconds | resident before | resident at most | accuracy |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(
        f"| {n_images * row_bytes / 1e9:.1f} GB | {n_images:,} | {time.perf_counter() - start:.0f} "
        f"| {before:.2f} GB | {resident_gigabytes():.2f} GB | {history.history['accuracy'][-1]:.3f} |"
    )


def build() -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(CHANNELS, 3, padding="same", activation="relu")(x)
    backbone = tw.freeze(keras.Model(image, x))
    return tw.add_head(n_classes=2, dropout=0, pooling="flatten", hidden_units=None)(backbone)


def images(n_images: int) -> tf.data.Dataset:
    """Noise, brighter in its left or in its right half: the class."""

    def generate() -> Iterator[tuple[Any, int]]:
        rng = np.random.default_rng(0)
        for i in range(n_images):
            label = i % 2
            image = rng.uniform(0, 200, (SIZE, SIZE, 3)).astype("float32")
            image[:, label * SIZE // 2 : (label + 1) * SIZE // 2] += 50
            yield image, label

    signature = (tf.TensorSpec((SIZE, SIZE, 3)), tf.TensorSpec((), tf.int32))
    return tf.data.Dataset.from_generator(generate, output_signature=signature).batch(32)


def resident_gigabytes() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    main()
