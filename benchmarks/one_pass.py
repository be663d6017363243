"""What one pass over photographs takes, beside the network alone and the decoding alone.

    python benchmarks/one_pass.py --material DIR
    taskset -c 0 python benchmarks/one_pass.py --material DIR

`DIR` has `data/cats_vs_dogs/train/<class>/` and `weights/`. In turn, `--rounds` times, seconds for
`--images` photographs, the shortest of each: decoding and nothing else; the network and nothing else; the
pass, its features in memory; the same with a new store; and again with the store that has them all. The
network is traced before. "Least" is the longest of three: of decoding, of the network, and of the
processor time of both over the processors: where each of them keeps all processors busy, they cannot
overlap. The last columns compare the pass with that, and the processor time of a pass with a
store with that of one without.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from accuracy import NETWORKS

import topwork as tw
from topwork._data.reading import open_source
from topwork._features.cache import open_cache
from topwork._features.computation import Computation, Run
from topwork._features.frozen_part import BATCH_SIZE, FrozenPart

SMALL = ("conv_pw_12_relu", 224, "mobilenet_2_5_224_imagenet.h5")
HEADER = [
    "network",
    "precision",
    "images",
    "decoding",
    "network alone",
    "least",
    "pass",
    "with a store",
    "found",
    "pass / least",
    "with a store / least",
    "CPU of the store",
]


def main() -> None:
    arguments = parse()
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"{arguments.images} images, {n_cores} processors\n")
    print("|", " | ".join(HEADER), "|\n|", " | ".join(["---"] * len(HEADER)), "|", flush=True)
    for name in arguments.networks:
        for precision in arguments.precisions:
            for kind in arguments.readers:
                found = seconds(arguments, name, precision, kind)
                print("|", " | ".join([name, precision, kind, *row(found, n_cores)]), "|", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = [*NETWORKS, "mobilenet_25"]
    add("--material", type=Path, required=True, metavar="DIR")
    add("--networks", nargs="+", default=["mobilenet", "inception_v3"], choices=names)
    add("--precisions", nargs="+", default=["float32", "bfloat16"])
    add("--readers", nargs="+", default=["keras"], choices=["keras", "topwork", "arrays"])
    add("--images", type=int, default=1920)
    add("--rounds", type=int, default=3)
    return parser.parse_args()


def seconds(arguments: Any, name: str, precision: str, kind: str) -> dict[str, tuple[float, float]]:
    """By the clock and of the processors, the shortest of each."""
    cut, size, weights = {**NETWORKS, "mobilenet_25": SMALL}[name]
    options = {"alpha": 0.25} if name == "mobilenet_25" else {}
    file = str(arguments.material / "weights" / weights)
    backbone = tw.load_backbone(
        name.removesuffix("_25"), cut, weights=file, input_shape=(size, size, 3), **options
    )
    pooled = keras.Model(backbone.inputs, keras.layers.GlobalAveragePooling2D()(backbone.outputs[0]))
    data = photographs(arguments, size, kind)
    part = FrozenPart(pooled, open_cache("auto", None, "auto", precision).engine)
    with tempfile.TemporaryDirectory() as full:
        work = steps(part, pooled, data, precision, Path(full))
        for step in work.values():
            step()
        rounds = [{name: timed(step) for name, step in work.items()} for _ in range(arguments.rounds)]
    return {name: tuple(map(min, zip(*(each[name] for each in rounds), strict=True))) for name in work}


def photographs(arguments: Any, size: int, kind: str) -> Any:
    folder = arguments.material / "data" / "cats_vs_dogs" / "train"
    n_batches = arguments.images // BATCH_SIZE
    if kind == "topwork":
        return tw.data.read_folder(folder, (size, size), seed=0, batch_size=BATCH_SIZE).take(n_batches)
    options = {"image_size": (size, size), "batch_size": BATCH_SIZE, "seed": 0, "verbose": False}
    data = keras.utils.image_dataset_from_directory(folder, **options).take(n_batches)
    if kind == "arrays":
        return next(data.unbatch().batch(arguments.images).as_numpy_iterator())[0]
    return data


def steps(part: Any, model: Any, data: Any, precision: str, full: Path) -> dict[str, Callable[[], Any]]:
    inputs = [batch.inputs for batch in open_source(model, data).batches()]

    def decode() -> None:
        for _ in open_source(model, data).batches():
            pass

    def network() -> None:
        for each in inputs:
            part.rows(each)

    def run(folder: Path | None) -> None:
        cache = open_cache("auto", folder, "auto", precision)
        computation = Computation(model, model, cache, 0)
        computation._frozen = part  # which is traced already
        computation.tables(Run(open_source(model, data), "data", labelled=False))

    def stored() -> None:
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder))

    return {
        "decoding": decode,
        "network": network,
        "pass": lambda: run(None),
        "store": stored,
        "found": lambda: run(full),
    }


def timed(step: Callable[[], Any]) -> tuple[float, float]:
    start, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - start, time.process_time() - cpu


def row(found: dict[str, tuple[float, float]], n_cores: int) -> list[str]:
    clock, cpu = ({name: each[i] for name, each in found.items()} for i in (0, 1))
    decoding, network = clock["decoding"], clock["network"]
    least = max(decoding, network, (cpu["decoding"] + cpu["network"]) / n_cores)
    columns = [decoding, network, least, clock["pass"], clock["store"], clock["found"]]
    ratios = f"{clock['pass'] / least:.3f}", f"{clock['store'] / least:.3f}"
    return [*(f"{each:.2f} s" for each in columns), *ratios, f"{cpu['store'] / cpu['pass'] - 1:.1%}"]


if __name__ == "__main__":
    main()
