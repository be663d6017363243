"""Losses, by what labels they take: the one table of them."""

from __future__ import annotations

import functools
from typing import Any

import keras

_losses = keras.losses

# `"sparse"`: class numbers; `"categorical"`: a probability for each class; `"binary"`: 0 or 1 for each
# unit; `"numbers"`: a number for each unit.
_KINDS = {
    _losses.sparse_categorical_crossentropy: "sparse",
    _losses.categorical_crossentropy: "categorical",
    _losses.categorical_focal_crossentropy: "categorical",
    _losses.binary_crossentropy: "binary",
    _losses.binary_focal_crossentropy: "binary",
    _losses.mean_squared_error: "numbers",
    _losses.mean_absolute_error: "numbers",
    _losses.mean_absolute_percentage_error: "numbers",
    _losses.mean_squared_logarithmic_error: "numbers",
    _losses.huber: "numbers",
    _losses.log_cosh: "numbers",
    _losses.poisson: "numbers",
}


def kind_of(loss: Any) -> str | None:
    """What labels a loss takes; None for one that is not in the table."""
    function, _ = unwrapped(loss)
    try:
        return _KINDS.get(function)
    except TypeError:  # what cannot be hashed
        return None


def unwrapped(loss: Any) -> tuple[Any, dict[str, Any]]:
    """The function that a loss is, and the options that it is called with.

    Args:
        loss: As `compile` takes it: a name, a function, a `functools.partial`, or an object.
    """
    try:
        loss = None if loss is None else _losses.get(loss)
    except ValueError:  # a name that is registered elsewhere
        return None, {}
    if isinstance(loss, functools.partial):
        return loss.func, dict(loss.keywords)
    if not isinstance(loss, keras.losses.Loss):
        return loss, {}
    try:
        options = loss.get_config()
    except NotImplementedError:  # of the user's own
        options = {}
    return getattr(loss, "fn", loss), options | _from_logits(loss)


def _from_logits(loss: Any) -> dict[str, bool]:
    value = getattr(loss, "from_logits", None)
    return {} if value is None else {"from_logits": bool(value)}
