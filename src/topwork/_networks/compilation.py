"""Compiling a model again, with what it was compiled with."""

from __future__ import annotations

from typing import Any

import keras

from topwork._errors import InputError
from topwork._private_keras import compile_config, inner_layers


def require_compiled(model: keras.Model) -> None:
    """Raise for a model that has no loss to train for."""
    if not model.compiled:
        raise InputError(
            f"{model.name!r} was not compiled. Call model.compile(optimizer=..., loss=...), or make "
            "the head with add_head, which does."
        )
    if not _has_loss(model):
        received = "None" if model.loss is None else "None for every output"
        raise InputError(
            f"{model.name!r} was compiled without a loss, and has nothing to train for. Received: "
            f"loss={received}. Call model.compile(optimizer=..., loss=...), or make the head with "
            "add_head, which does."
        )


def _has_loss(model: keras.Model) -> bool:
    """Whether there is one in `compile`, or may be one in a layer (`add_loss`) or a step of one's own."""
    has_step = any(
        getattr(type(model), name) is not getattr(keras.Model, name)
        for name in ("compute_loss", "train_step")
    )
    given = keras.tree.flatten(model.loss)
    may_add = any(map(_may_add_a_loss, inner_layers(model, recursive=True)))
    return has_step or may_add or any(each is not None for each in given)


def _may_add_a_loss(layer: keras.Layer) -> bool:
    """A loss is added when the layer is called. The penalties of Keras' own are none to train for."""
    is_own = type(layer).__module__.partition(".")[0] != "keras"
    return is_own or getattr(layer, "activity_regularizer", None) is not None


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
