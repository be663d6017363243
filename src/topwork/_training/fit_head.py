"""`fit_head`: the best linear head on frozen features, solved and not trained."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import keras

from topwork._data.imbalance import labels_at_once, warn_of_rare_classes
from topwork._data.labels import label_kind
from topwork._data.origin import learn_names
from topwork._data.randomness import warn_of_randomness
from topwork._data.reading import Source, build_sequential
from topwork._data.weighting import class_weights
from topwork._errors import public
from topwork._features.cache import open_cache
from topwork._features.computation import Computation, Run
from topwork._features.memory import memory_for_features
from topwork._features.table import Table
from topwork._networks.compilation import require_compiled
from topwork._networks.graph import require_functional
from topwork._networks.thawed import freeze_again
from topwork._networks.units import set_units
from topwork._training.data_arguments import Data
from topwork._training.head_examples import head_examples
from topwork._training.linear import LinearModel, fit_linear
from topwork._training.linear_head import LinearHead, linear_head, units_of
from topwork._training.step import takes_features
from topwork._voice import say


@public
def fit_head(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    validation_data: Any = None,
    class_weight: Mapping[int, float] | str | None = None,
    sample_weight: Any = None,
    cache_dir: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    precision: str = "float32",
    verbose: str | int = "auto",
) -> keras.callbacks.History:
    """Solve for a head that is one Dense layer: no learning rate, no epochs, nothing random.

    What is frozen is computed once. On these features the regularised optimum is computed: logistic
    regression for softmax and sigmoid units, ridge regression for numbers. Cross-validation on the
    training images chooses the strength of the penalty: the one with the lowest loss. Several labels
    and numbers have one each. The solution is written into the Dense layer. The model stays a plain
    Keras model.

    Such a head is a good start for fine-tuning. If a head has not converged, the first steps of
    fine-tuning damage what was pretrained (Kumar et al., 2022, https://arxiv.org/abs/2202.10054).

    Dropout, augmentation layers and the optimizer of the model are not used. If the features would take
    more than half of the free memory, they stay in the store or in a temporary file, and each iteration
    reads them in blocks.

    Args:
        model: A compiled model of which only one Dense layer is trainable: `add_head(...,
            hidden_units=None)` on a frozen backbone. The layer has softmax, sigmoid units or no
            activation, and the model the loss that belongs to it.
        x: Images, as `fit` takes them.
        y: Labels, if `x` is arrays.
        validation_data: As in `fit`; only measured on.
        class_weight: A weight for each class, by its number or name; the weight of other classes is 1.
            `"balanced"`: all classes count the same, however many images they have. Not for several
            labels an image.
        sample_weight: One weight for each image, if `x` is arrays.
        cache_dir: A folder to keep features in, as in `fit`, which finds them there.
        engine: As in `fit`.
        precision: As in `fit`.
        verbose: 0 is silent.

    Returns:
        A History of one epoch, with the loss and the metrics as `model.evaluate` gives them for the
        solved head: what `interpret.plot_history` and `callbacks.KeepBest(baseline=...)` take.
        `history.params["strength"]` is the penalty that was chosen, and
        `history.params["held_out_losses"]` the losses that it was chosen by; for several labels or
        numbers lists of them, one for each.

    Raises:
        ValueError: More than one Dense layer is trainable, the loss has no optimum that can be solved
            for, or the data cannot be used.

    Example:
        >>> import numpy as np
        >>> import topwork as tw
        >>> backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(32, 32, 3))
        >>> model = tw.add_head(n_classes=3, hidden_units=None)(tw.freeze(backbone))
        >>> images, labels = np.random.uniform(0, 255, (12, 32, 32, 3)), np.arange(12) % 3
        >>> history = tw.fit_head(model, images, labels, verbose=0)
        >>> sorted(history.history)
        ['accuracy', 'loss']
    """
    build_sequential(model, x)
    require_functional(model)
    require_compiled(model)
    freeze_again(model)
    head = linear_head(model)
    is_numbers = head.loss == "squared"
    if is_numbers:
        units_of(head)  # raises, before anything is computed
    data = Data.of(x, y, sample_weight, validation_data)
    train, validation = data.open(model)
    class_weight = class_weights(class_weight, label_kind(model), train.class_names)
    cache = open_cache("auto", cache_dir, engine, precision)
    learn_names(model, x)
    prefix = keras.Model(model.inputs, head.features, name=f"{model.name}_prefix")
    computation = Computation(model, prefix, cache, verbose)
    tables = _tables(model, computation, train, validation, class_weight)
    set_units(model, tables[0].y, by_gradients=False)
    units = units_of(head) if is_numbers else None
    start = time.perf_counter()
    examples = head_examples(tables[0], head, class_weight, units)
    solved = fit_linear(examples, head.loss, intercept=head.dense.use_bias, memory=memory_for_features())
    _write(head.dense, solved)
    figures = _measure(model, head, tables)
    _say(solved, figures, time.perf_counter() - start, verbose)
    return _history(model, solved, figures, len(tables[0].batch_lengths), verbose)


def _tables(
    model: keras.Model,
    computation: Computation,
    train: Source,
    validation: Source | None,
    class_weight: Any,
) -> list[Table]:
    """The features of the training data, and of the validation data if there is any."""
    warn_of_rare_classes(model, train, *labels_at_once(train), class_weight)
    runs = [Run(train, "training data")]
    if validation is not None:
        runs.append(Run(validation, "validation data"))
    for run in runs:
        warn_of_randomness(run.source.given[0], run.name)
    tables = computation.tables(*runs)
    computation.say(tables)
    warn_of_rare_classes(model, train, tables[0].y, tables[0].sample_weight, class_weight)
    return tables


def _write(dense: keras.layers.Dense, solved: LinearModel) -> None:
    dense.kernel.assign(solved.kernel)
    if dense.use_bias:
        dense.bias.assign(solved.bias)


def _measure(model: keras.Model, head: LinearHead, tables: list[Table]) -> dict[str, float]:
    """Loss and metrics, as `model.evaluate` gives them; those of a second data set begin with `val_`."""
    figures: dict[str, float] = {}
    with takes_features(model, lambda features, training: head.predict(*features)):
        for prefix, table in zip(("", "val_"), tables, strict=False):
            data = table.dataset(None, shuffle=False)
            found = model.evaluate(data, verbose=0, return_dict=True)
            figures |= {f"{prefix}{name}": value for name, value in found.items()}
    return figures


def _say(solved: LinearModel, figures: dict[str, float], seconds: float, verbose: str | int) -> None:
    measured = " - ".join(f"{name}: {value:.4f}" for name, value in figures.items())
    say(
        f"head solved in {seconds:.1f} s, {_penalty(solved)} tried by cross-validation. {measured}",
        verbose,
    )


def _penalty(solved: LinearModel) -> str:
    n_tried = max(map(len, solved.losses))
    lowest, highest = min(solved.strengths), max(solved.strengths)
    if lowest == highest:
        return f"penalty {lowest:.2g} of {n_tried}"
    return f"penalties of {lowest:.2g} to {highest:.2g} of {n_tried}"


def _history(
    model: keras.Model,
    solved: LinearModel,
    figures: dict[str, float],
    n_batches: int,
    verbose: str | int,
) -> keras.callbacks.History:
    is_one = len(solved.strengths) == 1
    history = keras.callbacks.History()
    history.set_model(model)
    history.set_params(
        {
            "verbose": verbose,
            "epochs": 1,
            "steps": n_batches,
            "strength": solved.strengths[0] if is_one else list(solved.strengths),
            "held_out_losses": solved.losses[0] if is_one else list(solved.losses),
        }
    )
    history.on_train_begin()
    history.on_epoch_end(0, figures)
    model.history = history
    return history
