"""Find the wrong labels and the duplicates in a folder of photographs.

python examples/wrong_labels.py --data DIR --weights FILE
python examples/wrong_labels.py --data DIR --change 0.05

DIR holds one folder of photographs for each class. With `--change` that share of the labels is made wrong
first, to see how many of them are found.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import _quiet  # noqa: F401 - above what imports TensorFlow
import numpy as np

import topwork as tw


def parse_arguments() -> argparse.Namespace:
    """The defaults are MobileNet up to its last but one block: quick, and good at this."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR")
    add("--backbone", default="mobilenet", help=", ".join(tw.list_backbones()))
    add("--cut-layer", help="default: the last feature map")
    add("--weights", default="imagenet", metavar="FILE", help="a file, `imagenet` or `none`")
    add("--image-size", type=int, default=224)
    add("--change", type=float, default=0.0, metavar="SHARE", help="of the labels, to try it out")
    add("--output", type=Path, default=Path(), help="where the pictures and the table are put")
    return parser.parse_args()


def main() -> None:
    """Look for wrong labels, then for duplicates."""
    args = parse_arguments()
    args.output.mkdir(parents=True, exist_ok=True)
    backbone = tw.load_backbone(
        args.backbone,
        cut_layer=args.cut_layer,
        weights=None if args.weights == "none" else args.weights,
        input_shape=(args.image_size, args.image_size, 3),
    )
    photographs = tw.data.read_folder(args.data, backbone)
    changed = np.empty(0, int)
    if args.change:
        photographs, changed = with_wrong_labels(photographs, args.data, args.change)

    found = tw.interpret.suspects(backbone, photographs)
    print(found)
    found.plot().savefig(args.output / "wrong_labels.png")
    write_table(args.output / "wrong_labels.csv", found.records)
    if len(changed):
        first = {suspect.index for suspect in found.rows[: len(changed)]}
        n_right = len(first & set(changed.tolist()))
        print(f"\n{n_right} of {len(changed)} changed labels are among the {len(first)} most suspicious")

    duplicates = tw.data.find_duplicates(args.data)
    print(f"\n{duplicates}")
    duplicates.plot().savefig(args.output / "duplicates.png")
    print(f"\nSaved wrong_labels.png and .csv and duplicates.png in {args.output}")


def with_wrong_labels(photographs: Any, folder: Path, share: float) -> tuple[Any, np.ndarray]:
    """The same photographs with a share of the labels changed, and the numbers of these."""
    files, names = photographs.file_paths, photographs.class_names
    labels = np.array([names.index(Path(file).relative_to(folder).parts[0]) for file in files])
    rng = np.random.default_rng(0)
    changed = rng.choice(len(files), max(1, round(share * len(files))), replace=False)
    labels[changed] += rng.integers(1, len(names), len(changed))
    table = {"path": files, "label": [names[label % len(names)] for label in labels]}
    size = tuple(photographs.element_spec[0].shape[1:3])
    return tw.data.read_folder(table, size, class_names=names), changed


def write_table(path: Path, records: list[dict[str, Any]]) -> None:
    """The suspects as a CSV file, to be gone through by hand."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, ["file", "given", "suggested", "probability"], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(records)


if __name__ == "__main__":
    main()
