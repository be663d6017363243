"""Learning rates that fall from block to block towards the input."""

from __future__ import annotations

import re

import keras

from topwork._errors import InputError
from topwork._networks.compilation import fresh_optimizer
from topwork._networks.graph import clean_cuts, head_start


def layerwise_optimizer(
    optimizer: keras.optimizers.Optimizer, model: keras.Model, boundary: int, decay: float
) -> keras.optimizers.Optimizer:
    """Keras' `MultiOptimizer`, one copy of `optimizer` for each block of the trunk from `boundary` on.

    The head keeps the optimizer's rate; each block below has `decay` times that of the one above.
    """
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        raise InputError(
            "layer_decay needs keras.optimizers.MultiOptimizer, which is in Keras 3.15 and "
            f"later. Installed: {keras.__version__}. Upgrade Keras, or leave layer_decay at 1."
        )
    rates = keras.optimizers.OptimizerMap(default_optimizer=optimizer)
    for depth, names in enumerate(reversed(_blocks(model, boundary)), start=1):
        block = fresh_optimizer(optimizer)
        block.learning_rate = float(optimizer.learning_rate) * decay**depth
        rates[f"({'|'.join(map(re.escape, names))})/.*"] = block
    return keras.optimizers.MultiOptimizer(rates)


def _blocks(model: keras.Model, boundary: int) -> list[list[str]]:
    """The names of the trunk's layers with weights from `boundary` on, a list for each block."""
    ends = set(clean_cuts(model))
    blocks: list[list[str]] = [[]]
    for layer in model.layers[boundary : head_start(model)]:
        if layer.weights and not isinstance(layer, keras.layers.BatchNormalization):
            blocks[-1].append(layer.name)
        if layer.name in ends and blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]
