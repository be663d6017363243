"""`compare_boundaries`: short fine-tunings tell from where on to unfreeze."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from topwork._data.classes import READERS
from topwork._data.ragged import in_even_parts
from topwork._data.reading import open_source
from topwork._errors import InputError, public, whole_number
from topwork._evidence.comparison import Comparison, score_cells
from topwork._evidence.labelled import LabelledData, check_data
from topwork._evidence.scores import SCORES, judged, standard_error
from topwork._names import published
from topwork._networks.blocks import block_ends, spread
from topwork._networks.boundary import Path, address, can_learn, fine_tune_boundary
from topwork._networks.classifier import Task, task_of, values_of
from topwork._networks.compilation import compile_arguments, fresh_optimizer, require_compiled
from topwork._networks.freezing import DEFAULT_LEARNING_RATE, fine_tune
from topwork._networks.graph import head_start, require_functional
from topwork._networks.unnesting import has_own_graph
from topwork._networks.variables import give_weights
from topwork._training.fit import fit
from topwork._voice import say

NOT_AT_ALL = "not at all"
_MOST_BLOCKS = 12
_MOST_BOUNDARIES = 4


@published
@dataclasses.dataclass(frozen=True)
class BoundaryRow:
    """One boundary, as `compare_boundaries` found it.

    Attributes:
        unfreeze_from: The first layer that was trained, what `fine_tune` takes; `"not at all"` for the
            model as it is.
        index: Of that layer in `model.layers`; None for the model as it is.
        score: On the validation images, after the last epoch: what `metric` says.
        standard_error: Of the score.
        trainable_parameters: How many numbers were trained.
        seconds: That it took, computing what is frozen included.
        metric: `"accuracy"`; of several labels an image `"mean average precision"`; of numbers `"R²"`.
    """

    unfreeze_from: str
    index: int | None
    score: float
    standard_error: float
    trainable_parameters: int
    seconds: float
    metric: str = "accuracy"

    @property
    def accuracy(self) -> float:
        """The score, if it is an accuracy; else NaN."""
        return self.score if self.metric == "accuracy" else math.nan

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
            **score_cells(self),
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
    learning_rate: float = DEFAULT_LEARNING_RATE,
    cache_dir: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    precision: str = "float32",
    verbose: str | int = "auto",
) -> Comparison[BoundaryRow]:
    """Find the boundary to fine-tune from, by a short fine-tuning from each.

    Each fine-tuning starts from the weights that the model has, with the optimizer that `fine_tune`
    makes. What is frozen is computed once. All of this runs on a copy; the model itself does not change.
    How much of a network should be fine-tuned depends on how much data there is, and on how different
    it is from what the network was trained on (Yosinski et al., 2014,
    https://arxiv.org/abs/1411.1792).

    Args:
        model: A compiled model whose head was trained: for classes, for several labels an image or for
            numbers, as its loss says.
        train: (images, labels) as arrays, a batched `tf.data.Dataset` or a `keras.utils.PyDataset`.
        validation_data: Likewise; the scores are measured on it: the accuracy of classes, the mean
            average precision of several labels an image, R² of numbers.
        boundaries: Indices as in `model.layers`, or layer names. None: the beginnings of four
            blocks, spread over the backbone.
        epochs: Of each fine-tuning.
        learning_rate: As in `fine_tune`.
        cache_dir: A folder to keep features in, as in `fit`.
        engine: As in `fit`.
        precision: As in `fit`.
        verbose: As in `fit`; 0 is silent.

    Returns:
        A row for the model without fine-tuning, `"not at all"`, and a row for each boundary. Of the
        rows within one standard error of the top one, `.best` is the one that trains the fewest
        parameters. `fine_tune` takes `.best.unfreeze_from`. The result prints as a table; `.plot()`
        draws it.

    Raises:
        ValueError: The model was not compiled or has no one vector of outputs for an image, or a
            boundary or the data cannot be used.

    Example:
        >>> import numpy as np
        >>> import topwork as tw
        >>> backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(32, 32, 3))
        >>> model = tw.add_head(n_classes=2, hidden_units=8)(tw.freeze(backbone))
        >>> images, labels = np.random.uniform(0, 255, (16, 32, 32, 3)), np.arange(16) % 2
        >>> found = tw.compare_boundaries(
        ...     model,
        ...     (images[:8], labels[:8]),
        ...     (images[8:], labels[8:]),
        ...     boundaries=["conv_dw_13"],
        ...     epochs=1,
        ...     verbose=0,
        ... )
        >>> [row.unfreeze_from for row in found]
        ['not at all', 'conv_dw_13']
    """
    require_functional(model)
    require_compiled(model)
    task = task_of(model)
    paths = _paths(model, boundaries)
    labelled = LabelledData(train, "training data"), LabelledData(validation_data, "validation data")
    check_data(*labelled, task.kind)
    keeping = {"cache_dir": cache_dir, "engine": engine, "precision": precision}
    data = _Data(train, validation_data, task, keeping, verbose)
    copy, start = _copy(model, task), model.get_weights()
    tuned = []
    for number, path in enumerate(paths, start=1):
        where = f"layer {path[0]}, {address(model, path)!r}"
        say(f"fine-tuning from {where} ({number} of {len(paths)})", verbose)
        give_weights(copy, start)
        fine_tune(copy, address(copy, path), learning_rate=learning_rate)
        tuned.append(data.fit(copy, path, epochs))
    give_weights(copy, start)
    score, error, n_images = data.judge(copy)
    metric = SCORES[task.kind]
    untouched = BoundaryRow(NOT_AT_ALL, None, score, error, 0, 0.0, metric)
    if task.kind == "classes":
        errors = [standard_error(row.score, n_images) for row in tuned]
        tuned = [
            dataclasses.replace(row, standard_error=error)
            for row, error in zip(tuned, errors, strict=True)
        ]
    title = f"{model.name} after fine-tuning (epochs: {epochs}), {metric} on {n_images:,} images"
    return Comparison(title, (untouched, *tuned), "trained parameters")


def _paths(model: keras.Model, boundaries: Sequence[int | str] | None) -> list[Path]:
    """The boundaries, the ones that train least first."""
    if boundaries is None:
        indices = spread(_block_starts(model), _MOST_BOUNDARIES)
        inner = [i for i, each in enumerate(model.layers) if has_own_graph(each) and can_learn(each)]
        if not indices and len(inner) == 1:
            return [(inner[0], *path) for path in _paths(model.layers[inner[0]], None)]
        if not indices:
            raise InputError(
                f"{model.name!r} has no block with weights to train behind a clean "
                "cut. Name layers to unfreeze from in boundaries; describe(model) lists them."
            )
        return [(index,) for index in reversed(indices)]
    if isinstance(boundaries, str) or whole_number(boundaries) is not None or not len(boundaries):
        raise InputError(
            "boundaries must be a list of indices as in model.layers, or of layer "
            f"names. Received: {boundaries!r}. Leave it out to compare the beginnings of blocks."
        )
    return sorted({fine_tune_boundary(model, each) for each in boundaries}, reverse=True)


def _block_starts(model: keras.Model) -> list[int]:
    names = [layer.name for layer in model.layers]
    starts = [names.index(end) + 1 for end in block_ends(model, _MOST_BLOCKS)]
    head = head_start(model)
    return [start for start in starts if any(map(can_learn, model.layers[start:head]))]


def _copy(model: keras.Model, task: Task) -> keras.Model:
    """A model of the same layers, with variables of its own, that reports its accuracy."""
    accuracy: Any = "accuracy"
    if task.from_logits and task.units == 1:
        # Given by name, the metric would take 0.5 as the threshold of logits.
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    metrics = [accuracy] if task.kind == "classes" else None
    with model.distribute_strategy.scope():
        copy = keras.models.clone_model(model)
        arguments = {**compile_arguments(model), "metrics": metrics, "weighted_metrics": None}
        copy.compile(optimizer=fresh_optimizer(model.optimizer), **arguments)
    return copy


@dataclasses.dataclass(frozen=True)
class _Data:
    """The data, and how to go through it. Rows of fitted classifiers have no standard error yet."""

    train: Any
    validation: Any
    task: Task
    keeping: dict[str, Any]
    verbose: str | int

    def fit(self, model: keras.Model, path: Path, epochs: int) -> BoundaryRow:
        start = time.perf_counter()
        history = fit(
            model,
            self.train,
            validation_data=self.validation,
            epochs=epochs,
            **self.keeping,
            verbose=self.verbose,
        )
        # An accuracy was measured in the last epoch, on the features.
        is_known = self.task.kind == "classes"
        accuracy = float(history.history["val_accuracy"][-1]) if is_known else math.nan
        score, error = (accuracy, math.nan) if is_known else self.judge(model)[:2]
        return BoundaryRow(
            unfreeze_from=address(model, path),
            index=path[0],
            score=score,
            standard_error=error,
            trainable_parameters=sum(math.prod(each.shape) for each in model.trainable_variables),
            seconds=time.perf_counter() - start,
            metric=SCORES[self.task.kind],
        )

    def judge(self, model: keras.Model) -> tuple[float, float, int]:
        """Score, standard error, and the number of validation images."""
        flat = keras.Model(model.inputs, model.outputs[0])  # takes a list, however `model` is called
        targets, predictions = [], []
        for batch in open_source(model, self.validation).batches():
            outputs = in_even_parts(flat.predict_on_batch, batch.inputs)
            predictions.append(values_of(outputs, self.task))
            targets.append(READERS[self.task.kind](batch.y, "the validation data", self.task.n))
        found = judged(self.task.kind, np.concatenate(targets), np.concatenate(predictions))
        return *found, sum(map(len, targets))
