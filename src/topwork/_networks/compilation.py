"""Compiling a model again, with what it was compiled with."""

from __future__ import annotations

from typing import Any

import keras

from topwork._errors import InputError
from topwork._private_keras import compile_config


def require_compiled(model: keras.Model) -> None:
    """Raise for a model that has no loss to train for."""
    if not model.compiled:
        raise InputError(
            f"{model.name!r} was not compiled. Call model.compile(optimizer=..., loss=...), or make "
            "the head with add_head, which does."
        )


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """The arguments of the model's last `compile`, the optimizer left out."""
    arguments = compile_config(model)
    arguments.pop("optimizer")
    return arguments


def fresh_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """A copy without state: an optimizer that was built accepts no other variables."""
    return type(optimizer).from_config(optimizer.get_config())


def recompile(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Compile `model` again with the same loss and metrics, so that `trainable` takes effect."""
    model.compile(optimizer=optimizer, **compile_arguments(model))
    build_optimizer(model)


def build_optimizer(model: keras.Model) -> None:
    """Create the optimizer's variables, in the order of the model's, which a saved file relies on."""
    model.optimizer.build(model.trainable_variables)
