"""Boundaries: which layers are frozen and which are trained."""

from __future__ import annotations

from typing import Any

import keras

from topwork._errors import InputError, public
from topwork._networks.boundary import Path, fine_tune_boundary, freeze_boundary, layers_before
from topwork._networks.compilation import fresh_optimizer, recompile
from topwork._networks.graph import require_functional, sublayers
from topwork._networks.layerwise import check_decay, layerwise_optimizer
from topwork._networks.variables import set_trainable

DEFAULT_LEARNING_RATE = 1e-4


@public
def freeze(model: keras.Model, until: int | str | None = None) -> keras.Model:
    """Freeze the layers before a boundary: training no longer changes their weights.

    Works in place. If this changes which variables are trainable, a compiled model is compiled again,
    with a new optimizer. (Keras ignores a change of `trainable` after `compile`, and does not say so.)

    Args:
        model: Any functional or Sequential Keras model.
        until: Index as in `model.layers`, or layer name; `"base/layer"` inside of a model `base` that is
            used as a layer. The layers before it are frozen. It is itself not frozen, like the end of a
            slice; it and the layers after it do not change. None: all layers are frozen.

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
    end = (len(model.layers),) if until is None else freeze_boundary(model, until)
    before = _trainable(model)
    for layer in layers_before(model, end):
        set_trainable(layer, False)
    if model.compiled and _trainable(model) != before:
        recompile(model, fresh_optimizer(model.optimizer))
    return model


@public
def fine_tune(
    model: keras.Model,
    unfreeze_from: int | str | None = None,
    *,
    learning_rate: float = DEFAULT_LEARNING_RATE,
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
            `keras.applications`), or layer name; it and what follows become trainable. `"base/layer"`
            lies inside of a model `base` that is used as a layer. None: the boundary recommended for
            the backbone, 172 for InceptionV3. For other networks: the beginning of the last stage,
            whose feature maps are the smallest; for a transformer, of the last quarter of its blocks.
        learning_rate: Of the head, and of the fine-tuned blocks unless `layer_decay` is below 1.
        optimizer: Name or instance; None: SGD with momentum 0.9. An instance brings its own
            learning rate; its state is not used. After `fit_head`, Adam at 3e-4 with
            `callbacks.OneCycle(3e-4)` was measured to be better.
        layer_decay: Factor on the learning rate from block to block towards the input, over 0 up to
            1; with 0.9 the last block gets 0.9 of the head's rate, the one below 0.81. The blocks
            end where the network can be cut cleanly, those of an encoder behind attention and
            multilayer perceptron. Needs Keras 3.15 (Howard and Ruder, 2018,
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
    boundary = fine_tune_boundary(model, unfreeze_from)
    check_decay(layer_decay)
    _thaw(model, boundary)
    if layer_decay < 1:
        rates = layerwise_optimizer(rates, model, layer_decay)
    recompile(model, rates)
    return model


def _thaw(model: keras.Model, boundary: Path) -> None:
    model.trainable = True  # the flag of the model itself would hold back its layers
    for layer in model.layers:
        set_trainable(layer, True)
    for layer in layers_before(model, boundary):
        set_trainable(layer, False)
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
        if learning_rate != DEFAULT_LEARNING_RATE:
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
