"""Boundaries: which layers are frozen and which are trained."""

from __future__ import annotations

import operator
from typing import Any

import keras

from topwork._errors import InputError, closest, public
from topwork._networks.applications import APPLICATIONS
from topwork._networks.compilation import fresh_optimizer, recompile
from topwork._networks.graph import clean_cuts, head_start, require_functional, sublayers
from topwork._networks.layerwise import layerwise_optimizer

_DEFAULT_LEARNING_RATE = 1e-4


@public
def freeze(model: keras.Model, until: int | str | None = None) -> keras.Model:
    """Freeze the layers before a boundary: training no longer changes their weights.

    Works in place. If this changes which variables are trainable, a compiled model is compiled again,
    with a new optimizer. (Keras ignores a change of `trainable` after `compile`, and does not say so.)

    Args:
        model: Any functional or Sequential Keras model.
        until: Index as in `model.layers`, or layer name. The layers before it are frozen. It is itself
            not frozen, like the end of a slice; it and the layers after it do not change. None: all
            layers are frozen.

    Returns:
        The same model.

    Raises:
        ValueError: The boundary is unknown, out of range, lies in the head, or selects nothing.

    Example:
        >>> import topwork as tw
        >>> backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(64, 64, 3))
        >>> tw.freeze(backbone, until="conv_dw_11").layers[0].trainable
        False
    """
    require_functional(model)
    end = len(model.layers) if until is None else _freeze_boundary(model, until)
    before = _trainable(model)
    for layer in model.layers[:end]:
        layer.trainable = False
    if model.compiled and _trainable(model) != before:
        recompile(model, fresh_optimizer(model.optimizer))
    return model


@public
def fine_tune(
    model: keras.Model,
    unfreeze_from: int | str | None = None,
    *,
    learning_rate: float = _DEFAULT_LEARNING_RATE,
    optimizer: str | keras.optimizers.Optimizer | None = None,
    layer_decay: float = 1.0,
) -> keras.Model:
    """Make the top of the backbone trainable, for fine-tuning.

    Works in place. The layers before the boundary are frozen. The boundary and all layers after it are
    trainable. The model is compiled again, with its own loss and metrics. BatchNormalization stays
    frozen everywhere: its moving statistics come from a million images, and a few hundred images would
    overwrite them (https://keras.io/guides/transfer_learning/).

    Args:
        model: A compiled functional or Sequential model, made by `add_head` or not.
        unfreeze_from: Index as in `model.layers` (172 means what it means in
            `keras.applications`), or layer name; it and what follows become trainable. None: the
            boundary recommended for the backbone, 172 for InceptionV3.
        learning_rate: Of the head, and of the fine-tuned blocks unless `layer_decay` is below 1.
        optimizer: Name or instance; None: SGD with momentum 0.9. An instance brings its own
            learning rate; its state is not used.
        layer_decay: Factor on the learning rate from block to block towards the input, over 0 up to
            1; with 0.9 the last block gets 0.9 of the head's rate, the one below 0.81. The blocks
            end where the network can be cut cleanly. Needs Keras 3.15 (Howard and Ruder, 2018,
            https://arxiv.org/abs/1801.06146).

    Returns:
        The same model.

    Raises:
        ValueError: The model was not compiled, or an argument is out of its range: the boundary is
            unknown, out of range, lies in the head or selects nothing to train, for example.

    Example:
        >>> import topwork as tw
        >>> backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(64, 64, 3))
        >>> model = tw.add_head(n_classes=5)(tw.freeze(backbone))
        >>> model = tw.fine_tune(model, unfreeze_from="conv_dw_11")
        >>> model.get_layer("conv_pw_12").trainable, model.get_layer("conv_pw_12_bn").trainable
        (True, False)
    """
    require_functional(model)
    if not model.compiled:
        raise InputError(
            f"fine_tune compiles the model again with the loss it has, and {model.name!r} was never "
            "compiled. Call model.compile(loss=..., metrics=...) first."
        )
    rates = _optimizer(optimizer, learning_rate)
    boundary = _fine_tune_boundary(model, unfreeze_from)
    if not 0 < layer_decay <= 1:
        raise InputError(f"layer_decay must be over 0 and at most 1. Received: {layer_decay!r}.")
    if layer_decay < 1:
        rates = layerwise_optimizer(rates, model, boundary, layer_decay)
    _thaw(model, boundary)
    recompile(model, rates)
    return model


def _thaw(model: keras.Model, boundary: int) -> None:
    model.trainable = True  # the flag of the model itself would hold back its layers
    for i, layer in enumerate(model.layers):
        layer.trainable = i >= boundary
    for layer in sublayers(model.layers):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def _trainable(model: keras.Model) -> set[int]:
    return {id(variable) for variable in model.trainable_variables}


def _optimizer(optimizer: Any, learning_rate: float) -> keras.optimizers.Optimizer:
    if not learning_rate > 0:
        raise InputError(f"learning_rate must be greater than 0. Received: {learning_rate!r}.")
    if optimizer is None:
        return keras.optimizers.SGD(learning_rate=learning_rate, momentum=0.9)
    if isinstance(optimizer, keras.optimizers.Optimizer):
        if learning_rate != _DEFAULT_LEARNING_RATE:
            raise InputError(
                "an optimizer instance has its own learning rate. Received: both "
                f"{optimizer!r} and learning_rate={learning_rate}. Set the rate in the optimizer."
            )
        return fresh_optimizer(optimizer)
    try:
        named = keras.optimizers.get(optimizer)
    except (ValueError, TypeError) as error:
        raise InputError(
            "optimizer must be the name of a Keras optimizer, such as 'sgd' or 'adam', "
            f"or an instance. Received: {optimizer!r}."
        ) from error
    named.learning_rate = learning_rate
    return named


def _freeze_boundary(model: keras.Model, until: int | str) -> int:
    head = head_start(model)
    end = _resolve(model, until, "until", last=len(model.layers))
    if head < end < len(model.layers):
        raise InputError(
            f"until={until!r} lies in the head, which starts at index {head} "
            f"({model.layers[head].name!r}). {_valid(model, 1, head, until)} until=None freezes all."
        )
    if not any(layer.weights for layer in model.layers[:end]):
        raise InputError(
            f"until={until!r} selects nothing: no layer before index {end} has weights. "
            f"{_valid(model, 1, head, until)}"
        )
    return end


def _fine_tune_boundary(model: keras.Model, unfreeze_from: int | str | None) -> int:
    if unfreeze_from is None:
        return _recommended_boundary(model)
    head = head_start(model)
    start = _resolve(model, unfreeze_from, "unfreeze_from", last=len(model.layers) - 1)
    if start >= head:
        raise InputError(
            f"unfreeze_from={unfreeze_from!r} lies in the head, which starts at index "
            f"{head} ({model.layers[head].name!r}): nothing of the trunk would be trained. "
            f"{_valid(model, 0, head - 1, unfreeze_from)}"
        )
    if not any(_can_learn(layer) for layer in model.layers[start:head]):
        raise InputError(
            f"unfreeze_from={unfreeze_from!r} selects nothing: no layer from index {start} "
            f"to the end of the trunk ({head - 1}) has weights to train (BatchNormalization stays "
            f"frozen). {_valid(model, 0, head - 1, unfreeze_from)}"
        )
    return start


def _can_learn(layer: keras.Layer) -> bool:
    inner = layer.layers if isinstance(layer, keras.Model) else [layer]
    return any(
        part.weights and not isinstance(part, keras.layers.BatchNormalization)
        for part in sublayers(inner)
    )


def _recommended_boundary(model: keras.Model) -> int:
    names = [layer.name for layer in model.layers]
    application = APPLICATIONS.get(model.name)
    if application is None:
        raise InputError(
            f"no boundary is recommended for the model {model.name!r}, which is not named "
            f"like one of topwork's backbones. Pass unfreeze_from. {_valid(model, 0, len(names) - 1)}"
        )
    if application.boundary not in names[: head_start(model)]:
        raise InputError(
            f"the boundary recommended for {model.name!r}, {application.boundary!r}, lies "
            f"behind the layer that this model was cut at. Pass unfreeze_from. "
            f"{_valid(model, 0, head_start(model) - 1)}"
        )
    return names.index(application.boundary)


def _resolve(model: keras.Model, boundary: Any, argument: str, *, last: int) -> int:
    """Index in `model.layers` of a boundary given by index, from the end if negative, or by name."""
    if isinstance(boundary, str):
        return _index_of(model, boundary, argument)
    try:
        index = operator.index(boundary)
    except TypeError:
        index = None
    if index is None or isinstance(boundary, bool):
        raise InputError(f"{argument} must be an index, a layer name or None. Received: {boundary!r}.")
    n_layers = len(model.layers)
    if not -n_layers <= index <= last:
        raise InputError(
            f"{argument}={boundary} is out of range: {model.name!r} has {n_layers} layers. "
            f"{_valid(model, 0, min(last, head_start(model) - 1), n_layers)}{_nested_hint(model)}"
        )
    return index + n_layers if index < 0 else index


def _index_of(model: keras.Model, name: str, argument: str) -> int:
    names = [layer.name for layer in model.layers]
    if name in names:
        return names.index(name)
    for layer in model.layers:
        if isinstance(layer, keras.Model) and name in [inner.name for inner in layer.layers]:
            raise InputError(
                f"the layer {name!r} lies inside {layer.name!r}, a model used as a layer, "
                f"and a boundary is a layer of {model.name!r} itself. Received: {argument}={name!r}."
                f"{_nested_hint(model)}"
            )
    raise InputError(
        f"{model.name!r} has no layer named {name!r}. Closest: {closest(name, names)}. "
        "describe(model) lists all."
    )


def _nested_hint(model: keras.Model) -> str:
    nested = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    if not nested:
        return ""
    return (
        f" {nested[0]!r} is one layer here. topwork.flatten(model) gives a model of the same variables "
        "in which the layers inside are layers of its own."
    )


def _valid(model: keras.Model, first: int, last: int, near: int | str | None = None) -> str:
    """What would be valid, for an error message: the range, and the block boundaries close by."""
    names = [layer.name for layer in model.layers]
    text = f"Valid: an index from {first} to {last}, or the name of such a layer."
    starts = [names.index(cut) + 1 for cut in clean_cuts(model)]
    within = range(first, min(last + 1, len(names)))
    starts = [i for i in starts if i in within and _can_learn(model.layers[i])]
    if not starts:
        return text
    target = names.index(near) if near in names else near
    target = last if not isinstance(target, int) else target
    nearest = sorted(sorted(starts, key=lambda i: abs(i - target))[:3])
    listed = ", ".join(f"{i} ({names[i]!r})" for i in nearest)
    return f"{text} Nearest block boundaries: {listed}."
