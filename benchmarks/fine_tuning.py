"""What fine-tuning gains or spoils: plain, layer by layer, gradually, and guarded, on photographs.

    python benchmarks/fine_tuning.py --data DIR --weights FILE

For each seed a head is trained on the frozen backbone; then each way of fine-tuning starts from those
weights and takes the same number of epochs, at a careful learning rate and at a careless one. Half of the
validation photographs, drawn by the seed, are what `KeepBest` sees. All accuracies are measured on the
other half, which nothing was chosen on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import _photographs
import keras
import numpy as np

import topwork as tw

PLAIN, GUARDED = "plain", "plain, with `KeepBest`"


def main() -> None:
    arguments = parse()
    train, validation = map(in_memory, _photographs.load(arguments))
    train = tuple(part[: arguments.images] for part in train)
    accuracies: dict[str, dict[str, list[float]]] = {}
    for seed in range(arguments.seeds):
        for way, rate, accuracy in one_seed(arguments, train, validation, seed):
            accuracies.setdefault(way, {}).setdefault(rate, []).append(accuracy)
            print(f"seed {seed}, {way}, {rate}: {accuracy:.4f}", flush=True)
    print(table(accuracies, [rate_name(rate) for rate in arguments.learning_rates]))


def parse() -> argparse.Namespace:
    parser = _photographs.parser(__doc__)
    add = parser.add_argument
    add("--boundaries", nargs="+", default=["conv_dw_12", "conv_dw_10"])
    add("--learning-rates", type=float, nargs="+", default=[1e-4, 1e-2])
    add("--layer-decay", type=float, default=0.5)
    add("--head-epochs", type=int, default=30)
    add("--images", type=int, default=1000, help="to train on")
    add("--epochs", type=int, default=4, help="of fine-tuning, a multiple of the boundaries")
    add("--seeds", type=int, default=3)
    parser.set_defaults(backbone="mobilenet", cut_layer="conv_pw_12_relu", image_size=128)
    return parser.parse_args()


def in_memory(data: Any) -> tuple[Any, Any]:
    images, labels = zip(*data.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def one_seed(
    arguments: argparse.Namespace, train: Any, validation: Any, seed: int
) -> Iterator[tuple[str, str, float]]:
    """A name of the way, of the learning rate, and the accuracy on photographs not chosen on."""
    keras.utils.set_random_seed(seed)
    order = np.random.default_rng(seed).permutation(len(validation[1]))
    seen, unseen = (tuple(part[half] for part in validation) for half in np.array_split(order, 2))
    model = tw.add_head(n_classes=1)(_photographs.frozen_backbone(arguments))
    head = tw.fit(model, *train, validation_data=seen, epochs=arguments.head_epochs, verbose=0)
    start = model.get_weights()
    before = accuracy(model, unseen)
    lowest = arguments.boundaries[-1]
    for rate in arguments.learning_rates:
        yield "not at all", rate_name(rate), before

        model.set_weights(start)
        guard = tw.callbacks.KeepBest(baseline=head, verbose=False)
        last = Last()
        tw.fine_tune(model, lowest, learning_rate=rate)
        run(model, train, seen, arguments.epochs, [last, guard])
        yield GUARDED, rate_name(rate), accuracy(model, unseen)
        model.set_weights(last.weights)
        yield PLAIN, rate_name(rate), accuracy(model, unseen)

        model.set_weights(start)
        tw.fine_tune(model, lowest, learning_rate=rate, layer_decay=arguments.layer_decay)
        run(model, train, seen, arguments.epochs, [])
        yield f"`layer_decay={arguments.layer_decay:g}`", rate_name(rate), accuracy(model, unseen)

        model.set_weights(start)
        for boundary in arguments.boundaries:
            tw.fine_tune(model, boundary, learning_rate=rate)
            run(model, train, seen, arguments.epochs // len(arguments.boundaries), [])
        yield "gradually", rate_name(rate), accuracy(model, unseen)


class Last(keras.callbacks.Callback):
    """The weights of the last epoch; stands before a guard that brings others back."""

    weights: list[Any]

    def on_train_end(self, logs: Any = None) -> None:
        self.weights = self.model.get_weights()


def run(model: keras.Model, train: Any, seen: Any, epochs: int, callbacks: list[Any]) -> None:
    tw.fit(model, *train, validation_data=seen, epochs=epochs, callbacks=callbacks, verbose=0)


def accuracy(model: keras.Model, data: Any) -> float:
    return model.evaluate(*data, verbose=0, return_dict=True)["accuracy"]


def rate_name(rate: float) -> str:
    return f"rate {rate:g}"


def table(accuracies: dict[str, dict[str, list[float]]], rates: list[str]) -> str:
    """Means over the seeds, with the lowest and the highest."""
    lines = [f"| fine-tuning | {' | '.join(rates)} |", "| --- |" + " ---: |" * len(rates)]
    for way, by_rate in accuracies.items():
        cells = [
            f"{np.mean(found):.1%} ({min(found):.1%} to {max(found):.1%})"
            for found in (by_rate[rate] for rate in rates)
        ]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
