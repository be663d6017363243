"""What each way to a head gives on real photographs: test accuracy, and what it takes.

    python benchmarks/accuracy.py --material DIR [--cache-dir DIR]

`DIR` has `data/<set>/{train,test}/<class>/` and `weights/`. Ways: the five lines (RMSprop at a constant
1e-4, 1,024 hidden units, 20 epochs; `fit` gives the numbers that `model.fit` does, `--model-fit` runs
the latter), the same with `OneCycle`, `fit_head`, and a cross-validated logistic regression of
scikit-learn on the same features, standardised. Accuracy of the last epoch, mean and range over seeds;
those that draw nothing at random run once. Seconds and CPU seconds are those beyond the frozen pass,
which is run once for all ways and shown by itself; scikit-learn's have a pass of their own in them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

import topwork as tw

SETS = {"trash": "test", "grocery": "test", "handsigns": "test", "cats_vs_dogs": "validation"}
NETWORKS = {
    "mobilenet": ("conv_pw_12_relu", 224, "mobilenet_1_0_224_imagenet_notop.h5"),
    "inception_v3": ("mixed7", 150, "inception_v3_imagenet_notop.h5"),
    "vgg16": ("block5_pool", 150, "vgg16_imagenet_notop.h5"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--material", type=Path, required=True, metavar="DIR")
    add("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    add("--sets", nargs="+", default=list(SETS), choices=SETS)
    add("--cache-dir", type=Path, help="to keep features in, so that a second run is quick")
    add("--seeds", type=int, default=3)
    add("--epochs", type=int, default=20)
    add("--model-fit", action="store_true", help="train the five lines with model.fit")
    arguments = parser.parse_args()
    print("| network | data | way | accuracy | seconds | CPU seconds |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        cache_dir = arguments.cache_dir or Path(folder)
        for network in arguments.networks:
            for name in arguments.sets:
                for row in rows(arguments, network, name, cache_dir):
                    print("|", " | ".join((network, name, *row)), "|", flush=True)


def rows(arguments: Any, network: str, name: str, cache_dir: Path) -> Iterator[tuple[str, ...]]:
    cut, size, weights = NETWORKS[network]
    folder = arguments.material / "data" / name
    train, test = (read(folder / part, size) for part in ("train", SETS[name]))
    file = str(arguments.material / "weights" / weights)
    backbone = tw.freeze(tw.load_backbone(network, cut, weights=file, input_shape=(size, size, 3)))
    n_classes = int(train[1].max()) + 1
    start = time.perf_counter(), time.process_time()
    linear = tw.add_head(n_classes, hidden_units=None)(backbone)
    for images, _ in (train, test):
        tw.precompute(linear, images, cache_dir=cache_dir, verbose=0)
    yield ("(the frozen pass)", "", *taken(start))
    for way, n_seeds, run in ways(arguments, backbone, n_classes, cache_dir):
        found = []
        start = time.perf_counter(), time.process_time()
        for seed in range(n_seeds):
            keras.utils.set_random_seed(seed)
            found.append(run(train, test))
        text = f"{np.mean(found):.3f}"
        if n_seeds > 1:
            text += f" ({min(found):.3f} to {max(found):.3f})"
        yield (way, text, *taken(start, n_seeds))


def read(folder: Path, size: int) -> tuple[Any, Any]:
    data = keras.utils.image_dataset_from_directory(
        folder, image_size=(size, size), shuffle=False, verbose=False
    )
    images, labels = zip(*data.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def taken(start: tuple[float, float], n_times: int = 1) -> tuple[str, str]:
    now = time.perf_counter(), time.process_time()
    seconds, cpu = ((after - before) / n_times for before, after in zip(start, now, strict=True))
    return f"{seconds:.1f}", f"{cpu:.1f}"


def ways(
    arguments: Any, backbone: Any, n_classes: int, cache_dir: Path
) -> Iterator[tuple[str, int, Any]]:
    """A name, how many seeds it needs, and a function from both data sets to an accuracy."""

    def trained(train: Any, test: Any, cycle: bool = False) -> float:
        model = tw.add_head(n_classes)(backbone)
        options = {"validation_data": test, "epochs": arguments.epochs, "verbose": 0}
        if arguments.model_fit:
            return model.fit(*train, **options).history["val_accuracy"][-1]
        callbacks = [tw.callbacks.OneCycle()] if cycle else []
        history = tw.fit(model, *train, **options, callbacks=callbacks, cache_dir=cache_dir)
        return history.history["val_accuracy"][-1]

    def solved(train: Any, test: Any) -> float:
        model = tw.add_head(n_classes, hidden_units=None)(backbone)
        history = tw.fit_head(model, *train, validation_data=test, cache_dir=cache_dir, verbose=0)
        return history.history["val_accuracy"][0]

    def peer(train: Any, test: Any) -> float:
        features = [pooled(backbone, images) for images, _ in (train, test)]
        return scikit_learn(features[0], train[1], features[1], test[1])

    yield "five lines" + (" (model.fit)" if arguments.model_fit else ""), arguments.seeds, trained
    if not arguments.model_fit:
        yield "with `OneCycle`", arguments.seeds, lambda *data: trained(*data, cycle=True)
        yield "`fit_head`", 1, solved
        yield "scikit-learn", 1, peer


def pooled(backbone: Any, images: Any) -> Any:
    """The features that the heads are trained on."""
    pool = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, pool).predict(images, verbose=0)


def scikit_learn(features: Any, labels: Any, others: Any, other_labels: Any) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    strengths = {"logisticregression__C": np.logspace(-5, 1, 13)}
    search = GridSearchCV(pipeline, strengths, cv=5).fit(features, labels)
    return float(search.score(others, other_labels))


if __name__ == "__main__":
    main()
