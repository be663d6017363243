"""What the benchmarks on photographs share: their arguments, the two data sets, a frozen backbone."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras

import topwork as tw


def parser(
    description: str | None, *, cut: bool = True, data_required: bool = True
) -> argparse.ArgumentParser:
    """The arguments that say which photographs go through which network, and where that is cut."""
    parser = _parser(description)
    add = parser.add_argument
    parts = "with `train` and `validation`, each with a folder for each class"
    add("--data", type=Path, required=data_required, metavar="DIR", help=parts)
    add("--weights", default="imagenet", metavar="FILE")
    add("--backbone", default="inception_v3")
    if cut:
        add("--cut-layer", default="mixed7")
    add("--image-size", type=int, default=150)
    return parser


def material_parser(
    description: str | None, networks: Iterable[str], sets: Iterable[str]
) -> argparse.ArgumentParser:
    """The arguments of what runs networks over sets in a folder of photographs and weights."""
    parser = _parser(description)
    add = parser.add_argument
    add("--material", type=Path, required=True, metavar="DIR")
    add("--networks", nargs="+", default=list(networks), choices=list(networks))
    add("--sets", nargs="*", default=list(sets), choices=list(sets))
    add("--cache-dir", type=Path, help="to keep features in, so that a second run is quick")
    return parser


def _parser(description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def load(arguments: argparse.Namespace) -> list[Any]:
    """Training and validation data."""
    return [
        tw.data.read_folder(arguments.data / part, (arguments.image_size, arguments.image_size), seed=0)
        for part in ("train", "validation")
    ]


def frozen_backbone(arguments: argparse.Namespace) -> keras.Model:
    size = arguments.image_size
    return tw.freeze(
        tw.load_backbone(
            arguments.backbone,
            arguments.cut_layer,
            weights=arguments.weights,
            input_shape=(size, size, 3),
        )
    )
