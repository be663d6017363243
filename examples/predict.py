"""A whole pretrained network, classifier top included, on photographs: what does it see?

python examples/predict.py PHOTO [PHOTO ...] --backbone mobilenet --alpha 0.25 --weights FILE

For each photograph the five likeliest of ImageNet's 1,000 classes. For the first one a picture, too: the
photograph, all 1,000 outputs, and what the channels of an inner block make of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _photos
import keras
import matplotlib.pyplot as plt
import numpy as np

import topwork as tw

INNER_LAYERS = {"inception_v3": "mixed1", "mobilenet": "conv_pw_5_relu", "vgg16": "block3_pool"}


def parse_arguments() -> argparse.Namespace:
    """The default is MobileNet with ImageNet's weights, which Keras downloads."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("photos", type=Path, nargs="+", metavar="PHOTO")
    add("--backbone", default="mobilenet", help=", ".join(tw.list_backbones()))
    add("--alpha", type=float, help="width of MobileNet")
    add("--weights", default="imagenet", metavar="FILE", help="a file, `imagenet` or `none`")
    add("--inner-layer", help="whose channels are drawn; default: one in the middle")
    add("--output", type=Path, default=Path(), help="where the picture is put")
    return parser.parse_args()


def main() -> None:
    """Print the five likeliest classes of each photograph; draw the first one."""
    args = parse_arguments()
    network = tw.load_backbone(
        args.backbone,
        cut_layer="predictions",
        weights=None if args.weights == "none" else args.weights,
        **({} if args.alpha is None else {"alpha": args.alpha}),
    )
    predictions = tw.predict(network, args.photos, top=5)
    for prediction in predictions:
        print(prediction)

    # The network is flat, so that every inner output can be reached.
    name = args.inner_layer or INNER_LAYERS[network.name]
    inner = keras.Model(network.input, network.get_layer(name).output)
    photo = centre_crop(args.photos[0], network.input_shape[1])
    outputs = network.predict(photo, verbose=0)[0]
    features = inner.predict(photo, verbose=0)[0]
    print(f"Features of {name}: {' x '.join(map(str, features.shape))}")

    args.output.mkdir(parents=True, exist_ok=True)
    plot = args.output / "predict.png"
    draw(photo[0], outputs, predictions[0].name, features, name).savefig(plot, dpi=150)
    print(f"Saved {plot}")


def centre_crop(path: Path, image_size: int) -> np.ndarray:
    """The middle 7/8 of the photograph's central square: how ImageNet's networks are tested."""
    margin = image_size // 14
    photo = _photos.load_photo(path, image_size + 2 * margin)
    return photo[:, margin:-margin, margin:-margin]


def draw(
    photo: np.ndarray,
    probabilities: np.ndarray,
    likeliest_name: str,
    features: np.ndarray,
    layer_name: str,
) -> plt.Figure:
    """The photograph, the outputs, and the 24 strongest channels of an inner layer."""
    figure = plt.figure(figsize=(11, 6.5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    left, right = above.subplots(1, 2, width_ratios=[1, 2.6])
    left.imshow(photo.astype("uint8"))
    left.axis("off")

    right.vlines(np.arange(len(probabilities)), 0, probabilities, linewidth=0.8)
    right.margins(x=0.01)
    right.set(xlabel="class", ylabel="probability", title=f"{len(probabilities):,} outputs")
    likeliest = int(np.argmax(probabilities))
    right.annotate(
        likeliest_name,
        (likeliest, probabilities[likeliest]),
        xytext=(6 if likeliest < 700 else -6, -4),
        textcoords="offset points",
        ha="left" if likeliest < 700 else "right",
        va="top",
    )

    strongest = np.argsort(-features.std(axis=(0, 1)))[:24]
    below.suptitle(f"{layer_name}: {len(strongest)} of {features.shape[-1]} channels")
    for axes, channel in zip(below.subplots(3, 8).flat, strongest, strict=False):
        axes.imshow(features[..., channel], cmap="viridis")
    for axes in below.axes:
        axes.axis("off")
    return figure


if __name__ == "__main__":
    main()
