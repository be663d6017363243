"""What `topwork.compare_cuts` costs, against one pass of `model.predict` through the whole network.

    python benchmarks/compare_cuts.py --data DIR --weights FILE

DIR has `train` and `validation`, each with a folder for each class. Both read and decode the same
photographs, in one run.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import _photographs

import topwork as tw


def main() -> None:
    arguments = parse()
    data = [part.take(arguments.batches) for part in _photographs.load(arguments)]
    predicted, compared = [], []
    for _ in range(arguments.repeats):
        predicted.append(predict(arguments, data))
        start = time.perf_counter()
        cuts = tw.compare_cuts(
            arguments.backbone, *data, weights=arguments.weights, cut_layers=arguments.cut_layers
        )
        compared.append(time.perf_counter() - start)
    one_pass, whole = min(predicted), min(compared)
    print(cuts)
    print(f"\nmodel.predict, one pass: {one_pass:.1f} s")
    print(f"compare_cuts, whole: {whole:.1f} s, {whole / one_pass:.2f} times one pass")
    if arguments.plot:
        cuts.plot().savefig(arguments.plot)


def parse() -> argparse.Namespace:
    parser = _photographs.parser(__doc__, cut=False)
    parser.add_argument("--cut-layers", nargs="+", help="default: about a dozen")
    parser.add_argument("--batches", type=int, default=-1, help="read no more of each data set")
    parser.add_argument("--repeats", type=int, default=1, help="of each, the fastest counts")
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def predict(arguments: argparse.Namespace, data: list[Any]) -> float:
    """Seconds of one pass over the images through the whole network, building it left out."""
    shape = (arguments.image_size, arguments.image_size, 3)
    network = tw.load_backbone(arguments.backbone, weights=arguments.weights, input_shape=shape)
    start = time.perf_counter()
    for part in data:
        network.predict(part, verbose=0)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
