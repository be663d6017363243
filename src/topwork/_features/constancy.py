"""What can be read of a call: whether it gives the same for an image whenever it is run.

Reading is the first answer and knows Keras' own layers and elementwise operations. What it cannot
judge is tried, see `_features/trial.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._features.unknown_code import has_unknown_code, named
from topwork._networks.graph import Step, steps, sublayers
from topwork._networks.unnesting import has_own_graph


def obstacle(step: Step) -> str | None:
    """Why what a call gives for one image changes during training; None if nothing is known to."""
    return _step_obstacle(step, is_off=_is_called_for_inference(step))


def needs_trial(step: Step) -> bool:
    """Whether reading does not tell if a call is repeatable and treats each image by itself."""
    operation = step.operation
    if has_unknown_code(step):
        return True
    if not isinstance(operation, keras.Layer):
        return not _is_elementwise(step)
    if is_keras_model(operation):
        return any(map(needs_trial, _inner_steps(operation)))
    return _needs_trial(operation) or _reaches_the_batch(step)


def is_switched_off(step: Step) -> bool:
    """Whether a call holds random layers that are inactive because it is made for inference."""
    return _is_called_for_inference(step) and any(map(_is_random, sublayers([step.operation])))


def is_keras_model(operation: Any) -> bool:
    """Whether an operation is a model of one of Keras' own classes, whose graph can be read."""
    return has_own_graph(operation) and _is_keras_own(type(operation))


def _is_keras_own(cls: type) -> bool:
    return cls.__module__.startswith("keras.")


def _inner_steps(model: keras.Model) -> Iterator[Step]:
    return (step for step in steps(model) if not step.is_input)


def _is_called_for_inference(step: Step) -> bool:
    if step.for_inference:
        return True
    # Keras 3.10 to 3.15 records the argument, but runs the call as in training. Nobody who writes
    # `base(x, training=False)`, as Keras' own guide does, means that. For layers that are no models,
    # Keras records False even if nothing was passed.
    return is_keras_model(step.operation) and step.kwargs.get("training") is False


def _step_obstacle(step: Step, *, is_off: bool) -> str | None:
    given = keras.tree.flatten((step.args, step.kwargs))
    if any(isinstance(each, (keras.Variable, tf.Variable)) and each.trainable for each in given):
        return (
            f"{named(step.operation)} reads a variable that is not frozen, and may change at any time. "
            "trainable=False, where the variable is made, says that it does not"
        )
    return _obstacle(step.operation, is_off=is_off)


def _obstacle(operation: Any, *, is_off: bool) -> str | None:
    if not isinstance(operation, keras.Layer):
        return None
    if is_keras_model(operation):
        inner = (
            _step_obstacle(step, is_off=is_off or _is_called_for_inference(step))
            for step in _inner_steps(operation)
        )
        return next(filter(None, inner), None)
    name = f"layer {operation.name!r} ({type(operation).__name__})"
    # The flags of the variables: the flag of a layer does not show that a layer inside was thawed.
    if any(variable.trainable for variable in operation.variables):
        return f"{name} is trainable"
    if getattr(operation, "activity_regularizer", None) is not None:
        return f"{name} adds to the loss"
    # The trial judges layers of other packages: one that draws numbers changes a generator's state.
    if _is_keras_own(type(operation)) and _is_random(operation) and not is_off:
        return f"{name} is random"
    if isinstance(operation, keras.layers.BatchNormalization) and operation.trainable:
        return f"{name} may behave differently in training"
    return None


def _is_random(layer: keras.Layer) -> bool:
    if isinstance(layer, _DROPOUTS):
        return layer.rate > 0
    # Seed generators are among `variables`, and not among `weights`.
    weights = set(map(id, layer.weights))
    return any(v.name == "seed_generator_state" for v in layer.variables if id(v) not in weights)


_DROPOUTS = (
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)

# These take a `training` argument and ignore it: their base class has one, or quantization to float8.
_SAME_IN_TRAINING = (
    keras.layers.CenterCrop,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Resizing,
)


def _needs_trial(layer: keras.Layer) -> bool:
    if isinstance(layer, keras.layers.BatchNormalization) or _is_random(layer):
        return False  # an obstacle unless frozen, or switched off
    if isinstance(layer, _DROPOUTS) or _is_same_in_training(layer):
        return False
    return _takes_training(layer)


def _is_same_in_training(layer: keras.Layer) -> bool:
    # The class itself: one derived from it may use the argument.
    is_float8 = getattr(layer, "quantization_mode", None) == "float8"
    return type(layer) in _SAME_IN_TRAINING and not is_float8


def _takes_training(layer: keras.Layer) -> bool:
    parameters = inspect.signature(layer.call).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return "training" in parameters or takes_any


def _reaches_the_batch(step: Step) -> bool:
    """Whether a layer of Keras' own was told to work along the axis of the batch."""
    rank = max(len(tensor.shape) for tensor in (*step.inputs, *step.outputs))
    axes = [getattr(step.operation, name, None) for name in ("axis", "axes")]
    return any(isinstance(a, int) and (a == 0 or a <= -rank) for a in keras.tree.flatten(axes))


# fmt: off
_ELEMENTWISE = frozenset((
    "Abs", "Absolute", "Add", "Cast", "Ceil", "Clip", "Cos", "Divide", "DivideNoNan", "Elu",
    "Equal", "Exp", "Exp2", "Expm1", "Floor", "FloorDivide", "Gelu", "Greater", "GreaterEqual",
    "HardSigmoid", "HardSilu", "HardSwish", "HardTanh", "Identity", "Isfinite", "Isinf", "Isnan",
    "LeakyRelu", "Less", "LessEqual", "Log", "Log10", "Log1p", "Log2", "LogicalAnd", "LogicalNot",
    "LogicalOr", "LogicalXor", "Maximum", "Minimum", "Mod", "Multiply", "Negative", "NotEqual",
    "Power", "Reciprocal", "Relu", "Relu6", "Round", "Rsqrt", "Selu", "Sigmoid", "Sign", "Silu",
    "Sin", "Softplus", "Softsign", "Sqrt", "Square", "Subtract", "Swish", "Tanh", "TrueDivide",
    "Where",
))
# fmt: on


def _is_elementwise(step: Step) -> bool:
    """Whether a plain operation, such as those of a preprocess_input, treats each image by itself."""
    ranks = {len(tensor.shape) for tensor in step.inputs}
    if type(step.operation).__name__ in ("Concatenate", "Stack"):
        return not _reaches_the_batch(step)
    if type(step.operation).__name__ == "GetItem":
        return _keeps_the_batch(step.args[1:] or step.kwargs.get("key"), max(ranks, default=0))
    if type(step.operation).__name__ not in _ELEMENTWISE or len(ranks) != 1:
        return False
    # A constant that has a batch axis holds another value for each place in the batch.
    values = [v for v in keras.tree.flatten((step.args, step.kwargs)) if not _is_symbolic(v)]
    shapes = [np.shape(v) for v in values if hasattr(v, "__array__")]
    return all(len(shape) < max(ranks) or shape[0] == 1 for shape in shapes)


def _keeps_the_batch(key: Any, rank: int) -> bool:
    while isinstance(key, tuple) and len(key) == 1 and isinstance(key[0], tuple):
        key = key[0]
    parts = key if isinstance(key, tuple) else (key,)
    if parts[0] is Ellipsis:
        return len(parts) <= rank
    return isinstance(parts[0], slice) and parts[0] == slice(None)


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)
