"""The frozen part as a function from batches of images to arrays, run by one engine or another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from topwork._features.engine import Engine, EngineError
from topwork._networks.variables import give_weights

Function = Callable[[list[Any]], list[Any]]


def make_function(prefix: keras.Model, engine: Engine, batch_size: int | None) -> Function:
    """The prefix as a function from arrays of exactly `batch_size` images to arrays; None: of any number.

    Raises:
        EngineError: The engine cannot run it.
    """
    if engine.name == "openvino":
        # Imported here because it is an extra.
        from topwork._features.openvino_model import openvino_function

        return openvino_function(prefix, engine.precision, batch_size)
    shorter = prefix if engine.is_plain else _in_precision(prefix, engine.precision)
    dtypes = [tensor.dtype for tensor in prefix.outputs]
    # Folding the variables into constants was measured at 3 to 10 % more images a second, and
    # makes tracing take 2.5 s longer: it does not pay below some 20,000 images.
    function = tf.function(
        lambda inputs: [
            tf.cast(output, dtype)
            for output, dtype in zip(
                keras.tree.flatten(shorter(inputs, training=False)), dtypes, strict=True
            )
        ],
        autograph=False,
    )
    # Traced once, also for images of several sizes, and without TensorFlow's warning of retracing
    # where there are several models.
    traced = function.get_concrete_function(
        [tf.TensorSpec((batch_size, *tensor.shape[1:]), tensor.dtype) for tensor in prefix.inputs]
    )
    return lambda arrays: [output.numpy() for output in traced([tf.constant(each) for each in arrays])]


def _in_precision(model: keras.Model, precision: str) -> keras.Model:
    """A copy with the same weights whose layers compute in bfloat16 or float16, as in mixed precision."""
    policy = keras.DTypePolicy(f"mixed_{precision}")

    def again(operation: Any) -> Any:
        types = {"dtype": policy} if isinstance(operation, keras.Layer) else {}
        return type(operation).from_config({**operation.get_config(), **types})

    try:
        copy = keras.models.clone_model(model, clone_function=again, recursive=True)
        give_weights(copy, model.get_weights())
    except Exception as error:  # layers of the user's own may do anything
        raise EngineError(
            f"a layer cannot be made anew from its configuration ({type(error).__name__}: {error})"
        ) from error
    return copy
