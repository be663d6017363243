"""Grafting a new head on a backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from topwork._networks.compilation import build_optimizer
from topwork._networks.graph import require_functional

_POOLINGS = {
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
    "flatten": keras.layers.Flatten,
}


def add_head(
    n_classes: int,
    dropout: float = 0.2,
    *,
    pooling: str = "avg",
    hidden_units: int | None = 1024,
    learning_rate: float = 1e-4,
) -> Callable[[keras.Model], keras.Model]:
    """Make a classification head; like a Keras layer, it is made first and applied then.

    The head is pooling, Dense(`hidden_units`, relu), Dropout, Dense. The model that comes back shares
    the backbone's layers and is compiled: RMSprop, the fitting cross-entropy, metric `accuracy`.

    Args:
        n_classes: 1 for one sigmoid unit (labels 0 and 1, binary cross-entropy); 2 or more for
            softmax (labels 0 to `n_classes - 1`, sparse categorical cross-entropy).
        dropout: Fraction of the hidden units dropped in training, 0 up to, not including, 1.
        pooling: How a feature map (height, width, channels) becomes a vector: `"avg"` and `"max"`
            over height and width, `"flatten"` keeps all of it. A backbone cut at a vector, such as
            VGG16's `"fc2"`, is taken as it is.
        hidden_units: Width of the hidden layer; None for no hidden layer.
        learning_rate: Of RMSprop.

    Returns:
        A function that takes a backbone and returns a compiled model, images in, probabilities
        (batch, `n_classes`) out.

    Raises:
        ValueError: An argument is out of its range, or the model has no feature map or vector to
            put a head on.

    Example:
        >>> import topwork as tw
        >>> backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(64, 64, 3))
        >>> model = tw.add_head(n_classes=5)(backbone)
        >>> model.output_shape
        (None, 5)
    """
    _check_positive_int("n_classes", n_classes)
    if hidden_units is not None:
        _check_positive_int("hidden_units", hidden_units)
    if not 0 <= dropout < 1:
        raise ValueError(f"add_head: dropout is a fraction, 0 <= dropout < 1. Received: {dropout!r}.")
    if pooling not in _POOLINGS:
        raise ValueError(
            f"add_head: pooling must be one of {', '.join(map(repr, _POOLINGS))}. Received: {pooling!r}."
        )
    if not learning_rate > 0:
        raise ValueError(f"add_head: learning_rate must be greater than 0. Received: {learning_rate!r}.")

    def graft(backbone: keras.Model) -> keras.Model:
        x = _pool(backbone, pooling)
        if hidden_units is not None:
            x = keras.layers.Dense(hidden_units, activation="relu", name="head_hidden")(x)
        if dropout > 0:
            x = keras.layers.Dropout(dropout, name="head_dropout")(x)
        outputs = _classify(x, n_classes)
        model = keras.Model(backbone.input, outputs, name=backbone.name)
        _compile(model, n_classes, learning_rate)
        return model

    return graft


def _check_positive_int(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"add_head: {name} must be a whole number of at least 1. Received: {value!r}.")


def _pool(backbone: keras.Model, pooling: str) -> Any:
    require_functional(backbone, "add_head(...)")
    taken = [layer.name for layer in backbone.layers if layer.name.startswith("head_")]
    if taken:
        raise ValueError(
            f"add_head: the model {backbone.name!r} has a head already ({', '.join(taken)}). Apply "
            "add_head to the backbone, as load_backbone returned it."
        )
    shape = backbone.output_shape
    rank = len(shape) if isinstance(shape, tuple) else None
    if rank == 2:
        return backbone.output
    if rank == 4:
        return _POOLINGS[pooling](name="head_pooling")(backbone.output)
    raise ValueError(
        "add_head: a head is put on one feature map (batch, height, width, channels) or one vector "
        f"(batch, features). The model {backbone.name!r} gives {shape}."
    )


def _classify(x: Any, n_classes: int) -> Any:
    # float32 also under mixed precision: a softmax in float16 loses small probabilities.
    return keras.layers.Dense(
        n_classes,
        activation="sigmoid" if n_classes == 1 else "softmax",
        dtype="float32",
        name="head_output",
    )(x)


def _compile(model: keras.Model, n_classes: int, learning_rate: float) -> None:
    loss = "binary_crossentropy" if n_classes == 1 else "sparse_categorical_crossentropy"
    model.compile(
        optimizer=keras.optimizers.RMSprop(learning_rate=learning_rate),
        loss=loss,
        metrics=["accuracy"],
    )
    build_optimizer(model)
