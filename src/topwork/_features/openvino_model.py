"""A model as OpenVINO runs it on a processor: the same graph and weights, in numbers half as long."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import openvino as ov
import tensorflow as tf

from topwork._features.engine import EngineError

_NAMES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
# How lines of OpenVINO's messages begin that say where in its source it was, or where to extend it.
_NOT_FOR_USERS = ("Exception", "Check", "FrontEnd", "Model wasn't", "Summary", "To facilitate")


@functools.cache
def _core() -> ov.Core:
    return ov.Core()


def openvino_function(
    model: keras.Model, precision: str, batch_size: int | None
) -> Callable[[list[Any]], list[Any]]:
    """The model as a function from batches of exactly `batch_size` images to its outputs.

    Raises:
        EngineError: The model has an operation that OpenVINO does not know.
    """
    dtypes = [tf.as_dtype(tensor.dtype).as_numpy_dtype for tensor in model.outputs]
    places = {id(tensor): i for i, tensor in enumerate(model.inputs)}
    passed_on = [places.get(id(tensor)) for tensor in model.outputs]
    compiled = _compiled(model, precision, batch_size)
    request = compiled.create_infer_request()
    names = {name for port in compiled.inputs for name in port.names}

    def run(arrays: list[Any]) -> list[Any]:
        images = {f"image_{i}:0": _as_received(array) for i, array in enumerate(arrays)}
        request.infer({name: array for name, array in images.items() if name in names})
        return [
            # A copy: the next batch is written to the same place.
            request.get_tensor(f"feature_{i}:0").data.astype(dtype, copy=True)
            if place is None
            else arrays[place]
            for i, (dtype, place) in enumerate(zip(dtypes, passed_on, strict=True))
        ]

    return run


def _compiled(model: keras.Model, precision: str, batch_size: int | None) -> Any:
    options = {
        "INFERENCE_PRECISION_HINT": _NAMES[precision],
        "PERFORMANCE_HINT": "LATENCY",  # one batch after the other, each on all processors
        "ENABLE_CPU_PINNING": False,  # others compute on them too: the decoding of images
    }
    n_threads = tf.config.threading.get_intra_op_parallelism_threads()
    if n_threads:
        options["INFERENCE_NUM_THREADS"] = n_threads
    graph = _frozen_graph(model, batch_size)
    with tempfile.TemporaryDirectory(prefix="topwork-openvino-") as folder:
        path = Path(folder) / "model.pb"
        try:
            path.write_bytes(graph)
            # Not `openvino.convert_model`, which does the same slower and sends usage statistics.
            return _core().compile_model(_core().read_model(path), "CPU", options)
        except Exception as error:  # of many types: a full disk, an operation that is not known
            raise EngineError(_first_words(error)) from error


def _first_words(error: Exception) -> str:
    """What OpenVINO says, but for where in its source it does."""
    lines = [line.strip(" -\t") for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(_NOT_FOR_USERS)]
    return " ".join(told)[:300].rstrip(".") or type(error).__name__


def _frozen_graph(model: keras.Model, batch_size: int | None) -> bytes:
    """The model as a TensorFlow graph with its weights as constants."""
    trained, others = (
        [variable.numpy() for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )

    def call(*images: Any) -> list[Any]:
        outputs, _ = model.stateless_call(
            [tf.constant(value) for value in trained],
            [tf.constant(value) for value in others],
            list(images),
            training=False,
        )
        return [
            tf.identity(_readable(output), name=f"feature_{i}")
            for i, output in enumerate(keras.tree.flatten(outputs))
        ]

    specs = [
        tf.TensorSpec((batch_size, *tensor.shape[1:]), _readable_type(tensor.dtype), name=f"image_{i}")
        for i, tensor in enumerate(model.inputs)
    ]
    function = tf.function(call, autograph=False).get_concrete_function(*specs)
    try:
        return function.graph.as_graph_def().SerializeToString()
    except Exception as error:  # of several types, depending on where it is noticed
        raise EngineError(f"its weights do not fit into one graph of at most 2 GB ({error})") from error


def _readable_type(dtype: Any) -> tf.DType:
    """The type in which arrays go in and out: NumPy has no bfloat16."""
    return tf.float32 if tf.as_dtype(dtype) in (tf.bfloat16, tf.float16) else tf.as_dtype(dtype)


def _readable(tensor: Any) -> Any:
    return tf.cast(tensor, _readable_type(tensor.dtype))


def _as_received(array: Any) -> Any:
    return np.ascontiguousarray(array, _readable_type(array.dtype).as_numpy_dtype)
