"""Two classes of photographs: a new head, fine-tuning, saving, and using what was saved.

python examples/cats_and_dogs.py --data DIR --weights FILE
python examples/cats_and_dogs.py --data DIR --backbone vgg16 --hidden-units 256 --views 4

DIR holds `train` and `validation`, each with one folder of photographs for each of the two classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _photos
import keras

import topwork as tw

CUT_LAYERS = {"inception_v3": "mixed7", "mobilenet": "conv_pw_12_relu", "vgg16": "block5_pool"}


def parse_arguments() -> argparse.Namespace:
    """The network and its cut are those of the course notebook that this example comes from."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR")
    add("--backbone", default="inception_v3", help=", ".join(tw.list_backbones()))
    add("--cut-layer", help="default: one that suits the backbone, mixed7 for inception_v3")
    add("--weights", default="imagenet", metavar="FILE", help="a file, `imagenet` or `none`")
    add("--image-size", type=int, default=150)
    add("--pooling", choices=["avg", "max", "flatten"], default="avg")
    add("--hidden-units", type=int, help="of a head that is trained; default: none, it is solved")
    add("--epochs", type=int, default=20, help="of a head that is trained")
    add("--views", type=int, default=0, help="augmented copies to train on; 0: photographs as they are")
    add("--unfreeze-from", help="index or name; default: recommended, 172 for inception_v3")
    add("--tune-epochs", type=int, default=8, help="of fine-tuning; 0: none")
    add("--layer-decay", type=float, default=1.0, help="learning rate from a block to the one below")
    add("--photo", type=Path, help="what the saved model is tried on; default: one of DIR")
    add("--output", type=Path, default=Path(), help="where the plot and the model are put")
    return parser.parse_args()


def main() -> None:
    """Train, plot, save, reload, predict."""
    args = parse_arguments()
    keras.utils.set_random_seed(0)
    train, validation, class_names = _photos.load_folder(args.data, args.image_size)
    if len(class_names) != 2:
        raise SystemExit(f"{args.data} has {len(class_names)} classes; many_classes.py takes those")

    backbone = tw.load_backbone(
        args.backbone,
        cut_layer=args.cut_layer or CUT_LAYERS.get(args.backbone),
        weights=None if args.weights == "none" else args.weights,
        input_shape=(args.image_size, args.image_size, 3),
    )
    tw.freeze(backbone)
    model = tw.add_head(n_classes=1, pooling=args.pooling, hidden_units=args.hidden_units)(backbone)

    training = {"validation_data": validation}
    if args.views:
        training |= {"augment": tw.data.augmentation(), "views": args.views}
    if args.hidden_units is None:
        histories = [tw.fit_head(model, train, validation_data=validation)]
    else:
        model.compile("adam", model.loss, metrics=["accuracy"])
        rate = tw.callbacks.OneCycle()
        histories = [tw.fit(model, train, epochs=args.epochs, callbacks=[rate], **training)]
    print(f"Head only: validation accuracy {validation_accuracy(histories[0]):.4f}")

    if args.tune_epochs:
        boundary = args.unfreeze_from
        boundary = int(boundary) if boundary and boundary.isdigit() else boundary
        tw.fine_tune(model, boundary, optimizer="adam", layer_decay=args.layer_decay)
        rate = tw.callbacks.OneCycle(3e-4)
        # Should no epoch be better than the head alone was, its weights come back.
        guard = tw.callbacks.KeepBest(baseline=histories[0])
        callbacks = [rate, guard]
        histories.append(tw.fit(model, train, epochs=args.tune_epochs, callbacks=callbacks, **training))
        last = validation_accuracy(histories[1])
        print(f"Fine-tuned: validation accuracy {last:.4f} in the last epoch, {guard.best:.4f} kept")

    args.output.mkdir(parents=True, exist_ok=True)
    plot = args.output / "cats_and_dogs.png"
    labels = ["head", "fine-tuning"][: len(histories)]
    tw.interpret.plot_history(*histories, labels=labels).savefig(plot, dpi=150)
    saved = args.output / "cats_and_dogs.keras"
    model.save(saved)
    print(f"Saved {plot} and {saved}")

    # A plain Keras file: it takes raw pixels, and needs no topwork.
    reloaded = keras.saving.load_model(saved)
    photo = args.photo or Path(validation.file_paths[0])
    probability = float(reloaded.predict(_photos.load_photo(photo, args.image_size), verbose=0)[0, 0])
    label = int(probability > 0.5)
    print(f"{photo.name}: {class_names[label]} ({max(probability, 1 - probability):.1%})")


def validation_accuracy(history: keras.callbacks.History) -> float:
    """That of the last epoch, not of the best one: the validation data must not choose."""
    return history.history["val_accuracy"][-1]


if __name__ == "__main__":
    main()
