"""What the features of several layers side by side gain, with a solved head, on real photographs.

    python benchmarks/layers_side_by_side.py --material DIR [--cache-dir DIR]

Test accuracy of `fit_head` on the average of the last layer, on those of the ends of all blocks, and on
those of the last three with the four quarters of the last one. The layers are those that `transfer`
tries. `DIR` as in `accuracy.py`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import _photographs
import accuracy

import topwork as tw

# The ends of blocks; the weights at hand end with the last one of each.
LAYERS = {
    "mobilenet": [f"conv_pw_{number}_relu" for number in (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12)],
    "inception_v3": ["max_pooling2d", "max_pooling2d_1", *(f"mixed{number}" for number in range(1, 9))],
    "vgg16": [
        "block1_pool",
        "block2_conv1",
        "block2_pool",
        "block3_conv1",
        "block3_conv2",
        "block3_pool",
        "block4_conv1",
        "block4_conv2",
        "block4_pool",
        "block5_conv1",
        "block5_conv2",
        "block5_pool",
    ],
}


def main() -> None:
    parser = _photographs.material_parser(__doc__, LAYERS, accuracy.SETS)
    parser.set_defaults(sets=list(accuracy.SETS)[:4])
    arguments = parser.parse_args()
    print("| network | data | last layer | all blocks | three blocks and quarters |")
    print("| --- | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for network in arguments.networks:
            for name in arguments.sets:
                figures = accuracies(arguments.material, network, name, arguments.cache_dir or folder)
                print("|", " | ".join((network, name, *(f"{f:.3f}" for f in figures))), "|", flush=True)


def accuracies(material: Path, network: str, name: str, cache_dir: Path | str) -> list[float]:
    _, size, file = accuracy.NETWORKS[network]
    folder, layers = material / "data" / name, LAYERS[network]
    train, test = (accuracy.read(folder / part, size) for part in ("train", accuracy.SETS[name]))
    weights, shape = str(material / "weights" / file), (size, size, 3)
    backbone = tw.freeze(tw.load_backbone(network, layers[-1], weights=weights, input_shape=shape))
    found = []
    for options in (
        {},
        {"with_layers": layers[:-1]},
        {"with_layers": layers[-3:-1], "pooling": "pyramid"},
    ):
        model = tw.add_head(int(train[1].max()) + 1, hidden_units=None, **options)(backbone)
        history = tw.fit_head(model, *train, validation_data=test, cache_dir=cache_dir, verbose=0)
        found.append(history.history["val_accuracy"][0])
    return found


if __name__ == "__main__":
    main()
