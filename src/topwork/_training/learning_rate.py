"""`find_learning_rate`: the range test on features, in seconds."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from topwork._data.reading import open_source
from topwork._errors import InputError, public
from topwork._features.cache import open_cache
from topwork._features.computation import Computation, Run
from topwork._features.split import require_split
from topwork._figures import BLUE, RED, new_figure
from topwork._names import published
from topwork._networks.arguments import required_whole
from topwork._networks.compilation import fresh_optimizer, require_compiled
from topwork._networks.graph import require_functional
from topwork._networks.thawed import freeze_again
from topwork._networks.variables import restored
from topwork._tables import html_lines, html_table, text_table
from topwork._training.one_cycle import simple_optimizers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SMOOTHING = 0.9
# A loss has diverged when it is so many times the lowest.
_DIVERGED = 4.0
# The rate with the lowest loss is at the edge of divergence. Divided by this it trains.
_SAFETY = 10.0


@published
@dataclasses.dataclass(frozen=True)
class RangeTest:
    """Losses at rising learning rates; prints as a table, draws itself.

    Attributes:
        rates: In rising order.
        losses: Smoothed, of the steps with these rates.
        best: A peak for `OneCycle`: a tenth of the rate with the lowest loss.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    best: float

    def __str__(self) -> str:
        return "\n".join([*text_table(*self._cells()), f"best: {self.best:.2g}"])

    def _repr_html_(self) -> str:
        return html_lines(f"best: {self.best:.2g}", bold=1) + html_table(*self._cells())

    def _cells(self) -> tuple[tuple[str, str], list[tuple[str, str]]]:
        every = max(1, len(self.rates) // 12)
        pairs = zip(self.rates[::every], self.losses[::every], strict=True)
        return ("rate", "loss"), [(f"{rate:.2g}", f"{loss:.4g}") for rate, loss in pairs]

    def plot(self) -> Figure:
        """A figure of the losses over the rates, the best one marked."""
        figure = new_figure(figsize=(6, 3.5))
        axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="loss (smoothed)")
        axes.plot(self.rates, self.losses, color=BLUE)
        axes.axvline(self.best, color=RED, linestyle="--", label=f"best: {self.best:.2g}")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        return figure


@public
def find_learning_rate(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
    batch_size: int = 32,
    cache_dir: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    precision: str = "float32",
    verbose: str | int = "auto",
) -> RangeTest:
    """Find a learning rate with the range test: try rates that rise with each step.

    The rate rises until the loss diverges (Smith, 2017, https://arxiv.org/abs/1506.01186). What is frozen
    is computed once, so all steps together take seconds. The model, its optimizer and metrics, and the
    random state do not change.

    Args:
        model: A compiled model with a frozen part.
        x: Images, as `fit` takes them.
        y: Labels, if `x` is arrays.
        lowest: The first rate.
        highest: The last one, if the loss does not diverge before.
        steps: How many rates to try, each in one step.
        batch_size: Images in a step.
        cache_dir: As in `fit`.
        engine: As in `fit`.
        precision: As in `fit`.
        verbose: As in `fit`; 0 is silent.

    Returns:
        The losses. `.best` is a peak for `OneCycle`, `.plot()` draws them.

    Raises:
        ValueError: An argument is out of its range, the model has no frozen part, or the data cannot
            be used.

    Example:
        >>> import numpy as np
        >>> import topwork as tw
        >>> backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(32, 32, 3))
        >>> model = tw.add_head(n_classes=2, hidden_units=8)(tw.freeze(backbone))
        >>> images = np.random.uniform(0, 255, (8, 32, 32, 3))
        >>> found = tw.callbacks.find_learning_rate(model, images, np.arange(8) % 2, verbose=0)
        >>> found.rates[0] <= found.best <= found.rates[-1]
        True
    """
    _check(model, lowest, highest)
    steps, batch_size = required_whole("steps", steps, 10), required_whole("batch_size", batch_size, 1)
    halves = require_split(model)
    cache = open_cache("auto", cache_dir, engine, precision)
    computation = Computation(model, halves.prefix, cache, verbose)
    (table,) = computation.tables(Run(open_source(model, x, y), "training data"))
    rates = np.geomspace(lowest, highest, steps)
    with restored([*model.variables, *(v for metric in model.metrics for v in metric.variables)]):
        losses = _losses(model, halves.tail, table, rates, batch_size)
    return _result(rates, losses)


def _check(model: Any, lowest: float, highest: float) -> None:
    require_functional(model)
    require_compiled(model)
    freeze_again(model)
    if not 0 < lowest < highest < math.inf:
        raise InputError(
            "rates go from lowest to highest, 0 < lowest < highest. Received: "
            f"lowest={lowest!r}, highest={highest!r}."
        )


def _losses(model: Any, tail: Any, table: Any, rates: Any, batch_size: int) -> list[float]:
    """Smoothed losses of steps at these rates, as far as they do not diverge."""
    simple_optimizers(model.optimizer)
    optimizer = fresh_optimizer(model.optimizer)
    (simple, *others) = simple_optimizers(optimizer)
    shares = [float(each.learning_rate) / float(simple.learning_rate) for each in others]
    variables = model.trainable_variables
    optimizer.build(variables)
    average, losses = 0.0, []
    for number, (rate, batch) in enumerate(
        zip(rates, _batches(table, batch_size), strict=False), start=1
    ):
        for each, share in zip((simple, *others), (1.0, *shares), strict=True):
            each.learning_rate = rate * share
        features, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        with tf.GradientTape() as tape:
            predicted = tail(features, training=True)
            loss = model.compute_loss(features, y, predicted, sample_weight)
            scaled = optimizer.scale_loss(loss)
        optimizer.apply(tape.gradient(scaled, [v.value for v in variables]), variables)
        average = _SMOOTHING * average + (1 - _SMOOTHING) * float(loss)
        losses.append(average / (1 - _SMOOTHING**number))
        if not math.isfinite(losses[-1]) or losses[-1] > _DIVERGED * min(losses):
            break
    return losses


def _batches(table: Any, batch_size: int) -> Iterator[Any]:
    """Batches in a random order of their own, that of TensorFlow and NumPy left alone."""
    rng = np.random.default_rng(0)
    tensors = [part for part in (table.y, table.sample_weight) if part is not None]
    while True:
        order = rng.permutation(len(table))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            features = table.layout.unpack(tf.constant(table.read(rows)))
            labels = keras.tree.map_structure(lambda part, rows=rows: tf.constant(part[rows]), tensors)
            yield (features[0] if len(features) == 1 else features, *labels)


def _result(rates: Any, losses: list[float]) -> RangeTest:
    finite = [loss if math.isfinite(loss) else math.inf for loss in losses]
    at_lowest = float(rates[int(np.argmin(finite))])
    best = max(at_lowest / _SAFETY, float(rates[0]))
    return RangeTest(tuple(float(rate) for rate in rates[: len(losses)]), tuple(losses), best)
