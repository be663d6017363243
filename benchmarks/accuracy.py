"""What each way to a model gives on real photographs: test accuracy, and what it takes.

    python benchmarks/accuracy.py --material DIR [--cache-dir DIR]

`DIR` has `data/<set>/{train,test}/<class>/`, `data/cards` (several labels an image, `labels.csv`) and
`weights/`. Ways: the course's recipe (RMSprop at a constant 1e-4, 1,024 hidden units, 20 epochs of
`model.fit`; on sets of up to `--course-images`, as it runs the whole network in every epoch), the same
five lines with `topwork.fit`, with Adam and `OneCycle`, `fit_head`, `transfer` with the network named,
and a cross-validated logistic regression of scikit-learn on the features of `fit_head`, standardised.

Accuracy of the last epoch on the test images (of cards: the share of right decisions), mean and range
over seeds; those that draw nothing at random run once. One pass of the network over the images is shown
by itself, and the seconds of the ways are those beyond it, where features are shared (`transfer` and
`model.fit` have passes of their own in theirs). Last, `fit_head` whole, without a store, against one
`model.predict` over the same images.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _photographs
import keras
import numpy as np

import topwork as tw

SETS = {
    "trash": "test",
    "grocery": "test",
    "handsigns": "test",
    "cats_vs_dogs": "validation",
    "cards": "test",
}
NETWORKS = {
    "mobilenet": ("conv_pw_12_relu", 224, "mobilenet_1_0_224_imagenet_notop.h5"),
    "inception_v3": ("mixed7", 150, "inception_v3_imagenet_notop.h5"),
    "vgg16": ("block5_pool", 150, "vgg16_imagenet_notop.h5"),
}
WAYS = ("course", "lines", "cycle", "fit_head", "transfer", "tuned", "peer", "ratio")


@dataclasses.dataclass(frozen=True)
class Case:
    """A network and a set of photographs.

    Attributes:
        network: Its name.
        weights: The file.
        backbone: Cut and frozen.
        train: Images and labels.
        test: Likewise.
        task: As in `add_head`.
        cache_dir: For the features.
        epochs: Of what is trained.
    """

    network: str
    weights: str
    backbone: keras.Model
    train: tuple[Any, Any]
    test: tuple[Any, Any]
    task: str
    cache_dir: Path
    epochs: int

    @property
    def n_outputs(self) -> int:
        labels = self.train[1]
        return labels.shape[1] if labels.ndim > 1 else int(labels.max()) + 1

    def headed(self, **options: Any) -> keras.Model:
        return tw.add_head(self.n_outputs, task=self.task, **options)(self.backbone)


def main() -> None:
    arguments = _arguments()
    print("| network | data | way | accuracy | seconds | CPU seconds |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for network in arguments.networks:
            for name in arguments.sets:
                case = open_case(arguments, network, name, arguments.cache_dir or Path(folder))
                for row in rows(case, arguments):
                    print("|", " | ".join((network, name, *row)), "|", flush=True)


def _arguments() -> argparse.Namespace:
    parser = _photographs.material_parser(__doc__, NETWORKS, SETS)
    add = parser.add_argument
    add("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    add("--seeds", type=int, default=3)
    add("--epochs", type=int, default=20)
    add("--course-images", type=int, default=500, help="of larger sets the course's recipe is left out")
    return parser.parse_args()


def open_case(arguments: argparse.Namespace, network: str, name: str, cache_dir: Path) -> Case:
    cut, size, file = NETWORKS[network]
    folder, weights = arguments.material / "data" / name, str(arguments.material / "weights" / file)
    train, test = (read(folder / part, size) for part in ("train", SETS[name]))
    backbone = tw.load_backbone(network, cut, weights=weights, input_shape=(size, size, 3))
    task = "labels" if train[1].ndim > 1 else "classes"
    return Case(
        network, weights, tw.freeze(backbone), train, test, task, cache_dir, epochs=arguments.epochs
    )


def read(folder: Path, size: int) -> tuple[Any, Any]:
    """All images, squeezed to the size, and their labels."""
    if (folder / "labels.csv").exists():
        data = tw.data.read_folder(
            folder / "labels.csv", (size, size), root=folder / "images", shuffle=False, crop=False
        )
    else:
        data = keras.utils.image_dataset_from_directory(
            folder, image_size=(size, size), shuffle=False, verbose=False
        )
    images, labels = zip(*data.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def rows(case: Case, arguments: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    start = now()
    for images, _ in (case.train, case.test):
        tw.precompute(case.headed(hidden_units=None), images, cache_dir=case.cache_dir, verbose=0)
    yield ("(one pass)", "", *taken(start))
    for key, (name, n_seeds, run) in ways(arguments.seeds).items():
        left_out = key == "course" and len(case.train[0]) > arguments.course_images
        if key not in arguments.ways or left_out:
            continue
        found, start = [], now()
        for seed in range(n_seeds):
            keras.utils.set_random_seed(seed)
            found.append(run(case))
        text = f"{np.mean(found):.3f}"
        if n_seeds > 1:
            text += f" ({min(found):.3f} to {max(found):.3f})"
        yield (name, text, *taken(start, n_seeds))
    if "ratio" in arguments.ways:
        whole, one_pass = whole_and_pass(case)
        text = f"{whole / one_pass:.2f} (a pass takes {one_pass:.2f} s)"
        yield ("`fit_head`, whole, in passes of `model.predict`", text, f"{whole:.1f}", "")


def ways(n_seeds: int) -> dict[str, tuple[str, int, Callable[[Case], float]]]:
    """A name, how many seeds it needs, and a function that trains and gives the test accuracy."""
    return {
        "course": ("the course's recipe, `model.fit`", n_seeds, course),
        "lines": ("the same with `fit`", n_seeds, lines),
        "cycle": ("Adam, `OneCycle`", n_seeds, cycle),
        "fit_head": ("`fit_head`", 1, solved),
        "transfer": ("`transfer`, no fine-tuning", 1, transferred),
        "tuned": ("`transfer`", 1, lambda case: transferred(case, fine_tuning=True)),
        "peer": ("scikit-learn", 1, peer),
    }


def course(case: Case) -> float:
    model = case.headed()
    model.fit(*case.train, epochs=case.epochs, verbose=0)
    return float(model.evaluate(*case.test, verbose=0, return_dict=True)["accuracy"])


def lines(case: Case, optimizer: Any = None, callbacks: Any = ()) -> float:
    model = case.headed()
    if optimizer is not None:
        metric = "binary_accuracy" if case.task == "labels" else "accuracy"
        model.compile(optimizer=optimizer, loss=model.loss, metrics=[metric])
    options = {"epochs": case.epochs, "cache_dir": case.cache_dir, "verbose": 0}
    history = tw.fit(model, *case.train, validation_data=case.test, callbacks=list(callbacks), **options)
    name = next(name for name in history.history if name.startswith("val_") and name.endswith("accuracy"))
    return float(history.history[name][-1])


def cycle(case: Case) -> float:
    return lines(case, keras.optimizers.Adam(), [tw.callbacks.OneCycle()])


def solved(case: Case) -> float:
    model = case.headed(hidden_units=None)
    options = {"cache_dir": case.cache_dir, "verbose": 0}
    history = tw.fit_head(model, *case.train, validation_data=case.test, **options)
    return float(history.history["val_accuracy"][0])


def transferred(case: Case, fine_tuning: bool = False) -> float:
    found = tw.transfer(
        case.train,
        names=case.network,
        weights=case.weights,
        task=case.task,
        fine_tuning=fine_tuning,
        cache_dir=case.cache_dir,
        verbose=0,
    )
    return float(found.model.evaluate(*case.test, verbose=0, return_dict=True)["accuracy"])


def peer(case: Case) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.multioutput import MultiOutputClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = (
        tw.features(case.headed(), images, cache_dir=case.cache_dir, verbose=0)
        for images, _ in (case.train, case.test)
    )
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    strengths = {"logisticregression__C": np.logspace(-5, 1, 13)}
    search = GridSearchCV(pipeline, strengths, cv=5)
    if case.task == "labels":
        several = MultiOutputClassifier(search).fit(train, case.train[1])
        return float((several.predict(test) == case.test[1]).mean())
    return float(search.fit(train, case.train[1]).score(test, case.test[1]))


def whole_and_pass(case: Case) -> tuple[float, float]:
    """Seconds of `fit_head` with all that belongs to it, and those of one `model.predict`.

    In turn, five times each, the shortest of each.
    """
    seconds: dict[str, list[float]] = {"predict": [], "fit_head": []}
    for _ in range(5):
        model = case.headed(hidden_units=None)
        start = time.perf_counter()
        model.predict(case.train[0], verbose=0)
        seconds["predict"].append(time.perf_counter() - start)
        model = case.headed(hidden_units=None)
        start = time.perf_counter()
        tw.fit_head(model, *case.train, verbose=0)
        seconds["fit_head"].append(time.perf_counter() - start)
    return min(seconds["fit_head"]), min(seconds["predict"])


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def taken(start: tuple[float, float], n_times: int = 1) -> tuple[str, str]:
    seconds, cpu = ((after - before) / n_times for before, after in zip(start, now(), strict=True))
    return f"{seconds:.1f}", f"{cpu:.1f}"


if __name__ == "__main__":
    main()
