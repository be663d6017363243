"""Images a second of the frozen part by each engine, and what a head solved on its features is worth.

    python benchmarks/engines.py --material DIR [--cache-dir DIR]

`DIR` has `data/<set>/{train,test}/<class>/` and `weights/`. Speed: a batch of photographs, each engine in
turn, `--rounds` times, medians. "Times" is how many times as fast as TensorFlow in float32, by the clock
and by processor time, which what else the machine does disturbs less. Difference: of the features of
that batch from those of TensorFlow in float32, as a part of their size, the mean. Accuracy:
`fit_head` on the training images, measured on the test images with features of the same engine, and, in
brackets, by the whole Keras model in float32 with the same head. The last column is the standard error.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import _photographs
import keras
import numpy as np
from accuracy import NETWORKS, SETS, read

import topwork as tw
from topwork._features.engine import Engine, open_engine
from topwork._features.frozen_part import BATCH_SIZE, FrozenPart

ENGINES = [("tensorflow", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")]


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        cache_dir = arguments.cache_dir or Path(folder)
        figures = ["images/s", "times", "CPU ms", "times by CPU", "difference"]
        header = ["network", "engine", *figures, *arguments.sets]
        print("|", " | ".join(header), "|\n|", " | ".join(["---"] * len(header)), "|", flush=True)
        for name in arguments.networks:
            for row in rows(arguments, name, cache_dir):
                print("|", " | ".join(row), "|", flush=True)


def parse() -> argparse.Namespace:
    parser = _photographs.material_parser(__doc__, NETWORKS, SETS)
    add = parser.add_argument
    add("--rounds", type=int, default=7)
    names = [" ".join(engine) for engine in ENGINES]
    add("--judge", nargs="+", default=names, choices=names, help="engines to solve heads for")
    return parser.parse_args()


def rows(arguments: Any, name: str, cache_dir: Path) -> list[list[str]]:
    cut, size, weights = NETWORKS[name]
    file = str(arguments.material / "weights" / weights)
    backbone = tw.freeze(tw.load_backbone(name, cut, weights=file, input_shape=(size, size, 3)))
    found = speeds(backbone, photographs(arguments.material, size), arguments.rounds)
    data = {each: load(arguments.material / "data" / each, size, SETS[each]) for each in arguments.sets}
    plain = {each: features(backbone, test[0], ENGINES[0], cache_dir) for each, (_, test) in data.items()}
    table = []
    for engine in engines():
        speed, cpu, difference = found[engine]
        plain_speed, plain_cpu, _ = found[ENGINES[0]]
        figures = (
            *(f"{speed:.1f}", f"{speed / plain_speed:.2f}"),
            *(f"{cpu:.1f}", f"{plain_cpu / cpu:.2f}", f"{100 * difference:.2g} %"),
        )
        row = [name, " ".join(engine), *figures]
        for each, (train, test) in data.items():
            if " ".join(engine) in arguments.judge:
                ours, whole = accuracies(backbone, train, test, engine, plain[each], cache_dir)
                error = (ours * (1 - ours) / len(test[1])) ** 0.5
                row.append(f"{ours:.3f} ({whole:.3f}), +- {error:.3f}")
            else:
                row.append("")
        table.append(row)
    return table


@functools.cache
def engines() -> list[tuple[str, str]]:
    """Those that this processor has the instructions for; of others a warning says so."""
    return [each for each in ENGINES if open_engine(*each).precision == each[1]]


def photographs(material: Path, size: int) -> Any:
    """One batch."""
    data = keras.utils.image_dataset_from_directory(
        material / "data" / "trash" / "test",
        image_size=(size, size),
        batch_size=BATCH_SIZE,
        seed=0,
        verbose=False,
    )
    return next(data.as_numpy_iterator())[0]


def speeds(backbone: Any, images: Any, n_rounds: int) -> dict[Any, tuple[float, float, float]]:
    """Images a second, milliseconds of processor time an image, and the difference of each engine."""
    pooled = keras.Model(backbone.inputs, keras.layers.GlobalAveragePooling2D()(backbone.outputs[0]))
    parts = {each: FrozenPart(pooled, Engine(*each, is_required=True)) for each in engines()}
    rows = {each: part.rows([images]).view(np.float32) for each, part in parts.items()}
    seconds: dict[Any, list[tuple[float, float]]] = {each: [] for each in engines()}
    for _ in range(n_rounds):
        for each, part in parts.items():
            start, cpu = time.perf_counter(), time.process_time()
            part.rows([images])
            seconds[each].append((time.perf_counter() - start, time.process_time() - cpu))
    plain = rows[ENGINES[0]]
    size = np.linalg.norm(plain, axis=1)
    return {
        each: (
            BATCH_SIZE / statistics.median(wall for wall, _ in seconds[each]),
            1000 * statistics.median(cpu for _, cpu in seconds[each]) / BATCH_SIZE,
            float(np.mean(np.linalg.norm(rows[each] - plain, axis=1) / size)),
        )
        for each in engines()
    }


def load(folder: Path, size: int, test: str) -> tuple[Any, Any]:
    train, other = (read(folder / part, size) for part in ("train", test))
    return train, other


def features(backbone: Any, images: Any, engine: tuple[str, str], cache_dir: Path) -> Any:
    ours = {"engine": engine[0], "precision": engine[1]}
    return tw.features(backbone, images, **ours, cache_dir=cache_dir, verbose=0)


def accuracies(
    backbone: Any, train: Any, test: Any, engine: tuple[str, str], plain: Any, cache_dir: Path
) -> tuple[float, float]:
    """Of a head on features of an engine: with features of that engine, and with those of the model."""
    several = train[1].ndim > 1
    n_outputs = train[1].shape[1] if several else int(train[1].max()) + 1
    head = tw.add_head(n_outputs, hidden_units=None, task="labels" if several else "classes")
    model = head(backbone)
    ours = {"engine": engine[0], "precision": engine[1]}
    history = tw.fit_head(model, *train, validation_data=test, **ours, cache_dir=cache_dir, verbose=0)
    measured = next(v[0] for k, v in history.history.items() if k.startswith("val_") and "acc" in k)
    scores = np.asarray(model.layers[-1](plain))
    if scores.shape[1] == 1:
        scores = scores[:, 0]
    predicted = scores > 0.5 if several or scores.ndim == 1 else scores.argmax(axis=1)
    return measured, float((predicted == test[1]).mean())


if __name__ == "__main__":
    main()
