"""Images a second from files: `read_folder` beside Keras' reader, and what each step of it takes.

python benchmarks/reading.py --data DIR [--image-size 224]

DIR has a folder for each class. Keras' reader squeezes, or crops without antialiasing, ignores
orientation, and knows four kinds of files; `read_folder` is to cost little more than it. Beside the
images a second stands the processor time of one, which does not depend on what else runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

import topwork as tw
from topwork._data.decoding import decode_file, read_bytes
from topwork._data.headers import read_header
from topwork._data.images import read_image, resized


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    size = (args.image_size, args.image_size)

    def keras_reader(**options: Any) -> Any:
        return keras.utils.image_dataset_from_directory(
            args.data, image_size=size, shuffle=False, verbose=False, **options
        )

    readers = {
        "read_folder": tw.data.read_folder(args.data, size, shuffle=False),
        "read_folder, crop=False": tw.data.read_folder(args.data, size, shuffle=False, crop=False),
        "Keras": keras_reader(),
        "Keras, crop_to_aspect_ratio": keras_reader(crop_to_aspect_ratio=True),
    }
    costs = side_by_side(readers, args.repeats)
    for name, (rate, cost) in costs.items():
        ratio = cost / costs["Keras"][1]
        print(
            f"{name:28} {rate:6.0f} images/s {1e3 * cost:7.3f} ms of processor, {ratio:.2f} times Keras'"
        )
    paths = readers["read_folder"].file_paths[:200]
    for name, seconds in steps(paths, size).items():
        print(f"{name:28} {1e3 * seconds:23.3f} ms, in one thread")


def side_by_side(readers: dict[str, Any], repeats: int) -> dict[str, tuple[float, float]]:
    """Of each: images a second, and seconds of processor an image; medians over runs that take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for run in range(repeats + 1):  # the first one fills the file system's cache
        for name, reader in readers.items():
            start, used = time.perf_counter(), time.process_time()
            n_images = sum(len(labels) for _, labels in reader)
            if run:
                rate = n_images / (time.perf_counter() - start)
                found[name].append((rate, (time.process_time() - used) / n_images))
    medians = {
        name: tuple(map(statistics.median, zip(*runs, strict=True))) for name, runs in found.items()
    }
    return {name: (rate, cost) for name, (rate, cost) in medians.items()}


def steps(paths: Sequence[str], size: tuple[int, int]) -> dict[str, float]:
    """Seconds an image for each step of the reader."""
    decoded = {path: decode_file(path, 3, 2 * max(size)) for path in paths}
    content = {path: read_bytes(path) for path in paths}
    return {
        "bytes": seconds(read_bytes, paths),
        "header": seconds(lambda path: read_header(content[path]), paths),
        "bytes, header and decoding": seconds(lambda path: decode_file(path, 3, 2 * max(size)), paths),
        "resizing": seconds(lambda path: resized(decoded[path], *size), paths),
        "all": seconds(lambda path: read_image(path, *size), paths),
    }


def seconds(step: Callable[[str], Any], paths: Sequence[str]) -> float:
    """For one image, the best of three runs."""
    runs = []
    for _ in range(3):
        start = time.process_time()
        for path in paths:
            step(path)
        runs.append((time.process_time() - start) / len(paths))
    return min(runs)


if __name__ == "__main__":
    main()
