"""`compare_boundaries`: short fine-tunings tell from where on to unfreeze."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Sequence
from typing import Any

import keras

from topwork._data.classes import class_numbers
from topwork._data.labels import label_kind
from topwork._data.reading import open_source
from topwork._errors import InputError, public, whole_number
from topwork._evidence.comparison import Comparison, accuracy_cells, standard_error
from topwork._evidence.labelled import LabelledData, check_data
from topwork._names import published
from topwork._networks.blocks import block_ends, spread
from topwork._networks.compilation import compile_arguments, fresh_optimizer, require_compiled
from topwork._networks.freezing import _DEFAULT_LEARNING_RATE, _can_learn, _fine_tune_boundary, fine_tune
from topwork._networks.graph import head_start, require_functional
from topwork._training.fit import fit
from topwork._voice import say

NOT_AT_ALL = "not at all"
_MOST_BLOCKS = 12
_MOST_BOUNDARIES = 4
_COUNT = "n_images"


@published
@dataclasses.dataclass(frozen=True)
class BoundaryRow:
    """One boundary, as `compare_boundaries` found it.

    Attributes:
        unfreeze_from: The first layer that was trained, what `fine_tune` takes; `"not at all"` for the
            model as it is.
        index: Of that layer in `model.layers`; None for the model as it is.
        accuracy: On the validation images, after the last epoch.
        standard_error: Of the accuracy.
        trainable_parameters: How many numbers were trained.
        seconds: That it took, computing what is frozen included.
    """

    unfreeze_from: str
    index: int | None
    accuracy: float
    standard_error: float
    trainable_parameters: int
    seconds: float

    @property
    def name(self) -> str:
        return self.unfreeze_from if self.index is None else f"{self.unfreeze_from} ({self.index})"

    @property
    def group(self) -> str:
        return ""

    @property
    def cost(self) -> float:
        return self.trainable_parameters

    @property
    def note(self) -> str:
        return f"{self.trainable_parameters / 1e6:.2f} M"

    def cells(self) -> dict[str, str]:
        return {
            "unfreeze from": self.unfreeze_from,
            "index": "-" if self.index is None else str(self.index),
            **accuracy_cells(self.accuracy, self.standard_error),
            "trainable parameters": f"{self.trainable_parameters:,}",
            "seconds": f"{self.seconds:.1f}",
        }


@public
def compare_boundaries(
    model: keras.Model,
    train: Any,
    validation_data: Any,
    *,
    boundaries: Sequence[int | str] | None = None,
    epochs: int = 3,
    learning_rate: float = _DEFAULT_LEARNING_RATE,
    cache_dir: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    precision: str = "float32",
    verbose: str | int = "auto",
) -> Comparison[BoundaryRow]:
    """Find the boundary to fine-tune from, by a short fine-tuning from each.

    Each starts from the weights that the model has, with the optimizer that `fine_tune` makes, and
    what is frozen is computed once. They run on a copy: the model itself is left as it was. How much of
    a network to fine-tune depends on how much data there is and how far it is from what the network
    was trained on (Yosinski et al., 2014, https://arxiv.org/abs/1411.1792).

    Args:
        model: A compiled model whose head was trained.
        train: (images, labels) as arrays, a batched `tf.data.Dataset` or a `keras.utils.PyDataset`.
        validation_data: Likewise; the accuracies are measured on it.
        boundaries: Indices as in `model.layers`, or layer names. None: the beginnings of four
            blocks, spread over the trunk.
        epochs: Of each fine-tuning.
        learning_rate: As in `fine_tune`.
        cache_dir: A folder to keep features in, as in `fit`.
        engine: As in `fit`.
        precision: As in `fit`.
        verbose: As in `fit`; 0 is silent.

    Returns:
        A row for the model as it is, `"not at all"`, and one for each boundary. `.best` is the one
        that trains the least of those that are not worse than the top one by more than its
        standard error; `.best.unfreeze_from` is what `fine_tune` takes. It prints as a table;
        `.plot()` draws it.

    Raises:
        ValueError: The model was not compiled or is no classifier, or a boundary or the data cannot
            be used.

    Example:
        >>> import numpy as np
        >>> import topwork as tw
        >>> backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(32, 32, 3))
        >>> model = tw.add_head(n_classes=2, hidden_units=8)(tw.freeze(backbone))
        >>> data = np.random.uniform(0, 255, (8, 32, 32, 3)), np.arange(8) % 2
        >>> found = tw.compare_boundaries(
        ...     model, data, data, boundaries=["conv_dw_13"], epochs=1, verbose=0
        ... )
        >>> [row.unfreeze_from for row in found]
        ['not at all', 'conv_dw_13']
    """
    _check_model(model)
    indices = _indices(model, boundaries)
    check_data(LabelledData(train, "training data"), LabelledData(validation_data, "validation data"))
    keeping = {"cache_dir": cache_dir, "engine": engine, "precision": precision}
    data = _Data(train, validation_data, keeping, verbose)
    copy, start = _copy(model), model.get_weights()
    tuned = []
    for number, index in enumerate(indices, start=1):
        where = f"layer {index}, {model.layers[index].name!r}"
        say(f"fine-tuning from {where} ({number} of {len(indices)})", verbose)
        copy.set_weights(start)
        fine_tune(copy, index, learning_rate=learning_rate)
        tuned.append(data.fit(copy, index, epochs))
    copy.set_weights(start)
    untouched, n_images = data.evaluate(copy)
    rows = (
        dataclasses.replace(row, standard_error=standard_error(row.accuracy, n_images))
        for row in (untouched, *tuned)
    )
    title = f"{model.name} after fine-tuning (epochs: {epochs}), accuracy on {n_images:,} images"
    return Comparison(title, tuple(rows), "trained parameters")


def _check_model(model: keras.Model) -> None:
    require_functional(model)
    require_compiled(model)
    kind = label_kind(model)
    if kind is None or not kind.is_one_class:
        raise InputError(
            "accuracies are compared, so that the model must have one output and "
            "the loss sparse_categorical_crossentropy, categorical_crossentropy or, with one unit, "
            f"binary_crossentropy. {model.name!r} gives {model.output_shape}, and its loss is "
            f"{model.loss!r}. Compile it with one of these."
        )


def _indices(model: keras.Model, boundaries: Sequence[int | str] | None) -> list[int]:
    """The boundaries as indices, the ones that train least first."""
    if boundaries is None:
        indices = spread(_block_starts(model), _MOST_BOUNDARIES)
        if not indices:
            raise InputError(
                f"{model.name!r} has no block with weights to train behind a clean "
                "cut. Name layers to unfreeze from in boundaries; describe(model) lists them."
            )
        return indices[::-1]
    if isinstance(boundaries, str) or whole_number(boundaries) is not None or not len(boundaries):
        raise InputError(
            "boundaries must be a list of indices as in model.layers, or of layer "
            f"names. Received: {boundaries!r}. Leave it out to compare the beginnings of blocks."
        )
    return sorted({_fine_tune_boundary(model, each) for each in boundaries}, reverse=True)


def _block_starts(model: keras.Model) -> list[int]:
    names = [layer.name for layer in model.layers]
    starts = [names.index(end) + 1 for end in block_ends(model, _MOST_BLOCKS)]
    head = head_start(model)
    return [start for start in starts if any(map(_can_learn, model.layers[start:head]))]


def _copy(model: keras.Model) -> keras.Model:
    """A model of the same layers, with variables of its own, that reports its accuracy."""
    with model.distribute_strategy.scope():
        copy = keras.models.clone_model(model)
        arguments = {**compile_arguments(model), "metrics": ["accuracy"], "weighted_metrics": None}
        copy.compile(optimizer=fresh_optimizer(model.optimizer), **arguments)
    return copy


@dataclasses.dataclass(frozen=True)
class _Data:
    """The data, and how to go through it. Rows have no standard error yet."""

    train: Any
    validation: Any
    keeping: dict[str, Any]
    verbose: str | int

    def fit(self, model: keras.Model, index: int, epochs: int) -> BoundaryRow:
        start = time.perf_counter()
        history = fit(
            model,
            self.train,
            validation_data=self.validation,
            epochs=epochs,
            **self.keeping,
            verbose=self.verbose,
        )
        return BoundaryRow(
            unfreeze_from=model.layers[index].name,
            index=index,
            accuracy=float(history.history["val_accuracy"][-1]),
            standard_error=math.nan,
            trainable_parameters=sum(math.prod(each.shape) for each in model.trainable_variables),
            seconds=time.perf_counter() - start,
        )

    def evaluate(self, model: keras.Model) -> tuple[BoundaryRow, int]:
        """The row of the model as it is, and the number of validation images."""
        flat = keras.Model(model.inputs, model.outputs[0])  # takes a list, however `model` is called
        n_images, n_right = 0, 0
        for batch in open_source(model, self.validation).batches():
            predictions = flat.predict_on_batch(batch.inputs)
            n_images += len(batch)
            is_sigmoid = predictions.shape[1] == 1
            predicted = predictions[:, 0] > 0.5 if is_sigmoid else predictions.argmax(axis=1)
            right = class_numbers(batch.y, "the validation data", max(2, predictions.shape[1]))
            n_right += int((predicted == right).sum())
        return BoundaryRow(NOT_AT_ALL, None, n_right / n_images, math.nan, 0, 0.0), n_images
