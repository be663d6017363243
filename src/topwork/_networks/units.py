"""The unit of the numbers that a head is to predict: their mean and deviation, in its last layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from topwork._errors import warn
from topwork._networks.compilation import build_optimizer, compile_arguments, fresh_optimizer

# The largest standard deviation divided by the smallest, of numbers that are learnt together.
_MOST_APART = 10
# The name of the layer that brings what a head for numbers has learnt to the unit of the targets.
UNITS = "head_units"


def needs_units(model: keras.Model) -> bool:
    """Whether the model has a head for numbers, made by `add_head`, that knows no unit yet."""
    return _unset_units(model) is not None


def _unset_units(model: keras.Model) -> Any:
    layer = next((layer for layer in model.layers if layer.name == UNITS), None)
    is_set = layer is None or (layer.scale, layer.offset) != (1.0, 0.0)
    return None if is_set else layer


def set_units(model: keras.Model, targets: Any, *, by_gradients: bool = True) -> None:
    """Set the mean and deviation of targets in a head for numbers that has none yet, and compile anew.

    Args:
        model: Any compiled model; one without such a head stays as it is.
        targets: (images,) or (images, numbers).
        by_gradients: Whether it is trained so; then what cannot be learnt together is said.
    """
    layer = _unset_units(model)
    if layer is None:
        return
    (targets,) = keras.tree.flatten(targets)
    values = np.asarray(targets, "float64").reshape(len(targets), -1)
    if not len(values) or not np.isfinite(values).all() or values.shape[1] != layer.input.shape[-1]:
        return  # what is wrong with them is said where labels are checked
    deviation = values.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    if by_gradients:
        _warn_of_sizes(deviation)
    layer.scale, layer.offset = deviation.tolist(), values.mean(axis=0).tolist()
    arguments = compile_arguments(model)
    arguments["loss_weights"] = [float(1 / np.square(deviation).mean())]
    model.compile(optimizer=fresh_optimizer(model.optimizer), **arguments)
    build_optimizer(model)


def _warn_of_sizes(deviation: Any) -> None:
    """The squared errors of all numbers are added up: the largest is what is learnt, by gradients."""
    low, high = int(deviation.argmin()), int(deviation.argmax())
    if deviation[high] > _MOST_APART * deviation[low]:
        warn(
            f"the numbers to be predicted are of different sizes: number {high} deviates by "
            f"{deviation[high]:.3g}, and number {low} by {deviation[low]:.3g}, so that the loss is "
            "nearly that of the former alone. fit_head solves for each by itself; for fit divide them "
            "before, targets / targets.std(axis=0)."
        )
