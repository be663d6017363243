"""Learning rates that fall from block to block towards the input."""

from __future__ import annotations

import re

import keras

from topwork._errors import InputError
from topwork._networks.blocks import blocks_of
from topwork._networks.compilation import fresh_optimizer
from topwork._networks.graph import head_start, steps, sublayers
from topwork._networks.unnesting import unnested


def check_decay(decay: float) -> None:
    """Raise for a decay that is none, or that the installed Keras has no optimizer for."""
    if not 0 < decay <= 1:
        raise InputError(f"layer_decay must be over 0 and at most 1. Received: {decay!r}.")
    if decay < 1 and not hasattr(keras.optimizers, "MultiOptimizer"):
        raise InputError(
            "layer_decay needs keras.optimizers.MultiOptimizer, which is in Keras 3.15 and "
            f"later. Installed: {keras.__version__}. Upgrade Keras, or leave layer_decay at 1."
        )


def layerwise_optimizer(
    optimizer: keras.optimizers.Optimizer, model: keras.Model, decay: float
) -> keras.optimizers.Optimizer:
    """Keras' `MultiOptimizer`, one copy of `optimizer` for each block of the trunk that is trained.

    The head keeps the optimizer's rate; each block below has `decay` times that of the one above.
    """
    rates = keras.optimizers.OptimizerMap(default_optimizer=optimizer)
    for depth, paths in enumerate(reversed(_blocks(model)), start=1):
        block = fresh_optimizer(optimizer)
        block.learning_rate = float(optimizer.learning_rate) * decay**depth
        rates[f"({'|'.join(map(re.escape, paths))})"] = block
    return keras.optimizers.MultiOptimizer(rates)


def _blocks(model: keras.Model) -> list[list[str]]:
    """The paths of what is trained in the trunk, a list for each block."""
    parts = [block.operations for block in blocks_of(unnested(steps(model)))]
    parts.append(model.layers[: head_start(model)])  # the rest, behind the last clean cut
    known: set[str] = set()
    blocks = []
    for part in parts:
        layers = sublayers(each for each in part if isinstance(each, keras.Layer))
        paths = dict.fromkeys(weight.path for each in layers for weight in each.trainable_weights)
        blocks.append([path for path in paths if path not in known])
        known.update(paths)
    return [block for block in blocks if block]
