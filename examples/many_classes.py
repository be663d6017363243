"""Any number of classes, 200 birds for example: the head first, then the top of the network.

python examples/many_classes.py --data DIR --weights FILE

DIR holds one folder of photographs for each class, or `train` and `validation` with such folders.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _photos
import keras

import topwork as tw


def parse_arguments() -> argparse.Namespace:
    """The defaults are InceptionV3 up to mixed10, at the size that it was trained at."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR")
    add("--backbone", default="inception_v3", help=", ".join(tw.list_backbones()))
    add("--cut-layer", help="default: the last feature map")
    add("--weights", default="imagenet", metavar="FILE", help="a file, `imagenet` or `none`")
    add("--image-size", type=int, default=299)
    add("--unfreeze-from", help="index or name; default: recommended, 172 for inception_v3")
    add("--tune-epochs", type=int, default=8, help="of fine-tuning")
    add("--output", type=Path, default=Path(), help="where the plot and the model are put")
    return parser.parse_args()


def main() -> None:
    """Train, fine-tune, plot, save."""
    args = parse_arguments()
    keras.utils.set_random_seed(0)
    train, validation, class_names = _photos.load_folder(args.data, args.image_size)

    backbone = tw.load_backbone(
        args.backbone,
        cut_layer=args.cut_layer,
        weights=None if args.weights == "none" else args.weights,
        input_shape=(args.image_size, args.image_size, 3),
    )
    tw.freeze(backbone)
    model = tw.add_head(n_classes=len(class_names), hidden_units=None)(backbone)
    head = tw.fit_head(model, train, validation_data=validation)

    boundary = args.unfreeze_from
    boundary = int(boundary) if boundary and boundary.isdigit() else boundary
    tw.fine_tune(model, boundary, optimizer="adam")
    rate = tw.callbacks.OneCycle(3e-4)
    guard = tw.callbacks.KeepBest(baseline=head)  # fine-tuning must do no harm
    callbacks, epochs = [rate, guard], args.tune_epochs
    tuned = tw.fit(model, train, validation_data=validation, epochs=epochs, callbacks=callbacks)

    args.output.mkdir(parents=True, exist_ok=True)
    plot = tw.interpret.plot_history(head, tuned, labels=["head", "fine-tuning"])
    plot.savefig(args.output / "many_classes.png", dpi=150)
    model.save(args.output / "many_classes.keras")
    (args.output / "many_classes.txt").write_text("\n".join(class_names) + "\n")
    for phase, history in {"Head only": head, "Fine-tuned": tuned}.items():
        accuracy = history.history["val_accuracy"][-1]
        print(f"{phase}: validation accuracy {accuracy:.4f} on {len(class_names)} classes")
    print(f"Kept: {guard.best:.4f}")
    print(f"Saved many_classes.png, .keras and .txt (the names of the classes) in {args.output}")


if __name__ == "__main__":
    main()
