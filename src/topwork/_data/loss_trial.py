"""Trying on the first labels whether a model's losses and metrics can be computed of them."""

from __future__ import annotations

import weakref
from typing import Any

import keras
import tensorflow as tf

from topwork._data.inputs import map_arrays
from topwork._data.labels import output_names
from topwork._private_keras import compilation, loss_and_metrics

# What was found to fit what a model is compiled with, as long as that lives.
_FITTING: weakref.WeakKeyDictionary[Any, set[Any]] = weakref.WeakKeyDictionary()
_METHODS = ("compute_loss", "compute_metrics", "train_step", "test_step")


def compilation_problem(model: keras.Model, y: Any, sample_weight: Any, n_images: int) -> str | None:
    """What is wrong with labels for the loss and the metrics of a model; None if nothing is found.

    They are traced and not run, and once for labels of one structure and shape: a loss of the user's own,
    which may count, or write down what it gets, is left alone as far as can be.

    Args:
        model: A compiled one.
        y: The labels of a batch, as they come; None: there are none.
        sample_weight: Its weights.
        n_images: How many there are in it.
    """
    if not _can_be_tried(model):
        return None
    made = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    outputs = keras.tree.map_structure(lambda each: _output(each, n_images), made)
    given = [map_arrays(_spec, part) for part in (y, sample_weight)]
    known = _FITTING.setdefault(compilation(model), set())
    key = str([map_arrays(lambda spec: (*spec.shape[1:], spec.dtype), part) for part in given])
    if key in known:
        return None
    for name, function in loss_and_metrics(model).items():
        try:
            _trace(function, given[0], outputs, given[1])
        except Exception as error:  # may be the user's own code, and raise anything
            labels = f"labels of {_shapes(given[0])}" if y is not None else "no labels"
            return (
                f"{labels}, and the {_named(model, name)} cannot be computed of them and of what the "
                f"model gives, {_shapes(outputs)}: {_reason(error)}. {_advice(output_names(model))}"
            )
    known.add(key)
    return None


def _can_be_tried(model: keras.Model) -> bool:
    """Whether training takes what was compiled as it is, in a graph of one device."""
    is_plain = all(getattr(type(model), name) is getattr(keras.Model, name) for name in _METHODS)
    is_on_one_device = model.distribute_strategy is tf.distribute.get_strategy()
    return is_plain and is_on_one_device and not tf.distribute.has_strategy() and not model.run_eagerly


def _output(tensor: Any, n_images: int) -> tf.TensorSpec:
    return tf.TensorSpec((n_images, *tensor.shape[1:]), tensor.dtype)


def _spec(array: Any) -> tf.TensorSpec:
    return tf.TensorSpec(array.shape, array.dtype)


def _trace(function: Any, y: Any, outputs: Any, sample_weight: Any) -> None:
    """Trace as Keras' step does; what is None is no argument of a graph."""
    leaves = [leaf for leaf in keras.tree.flatten([y, outputs, sample_weight]) if leaf is not None]

    def call(*tensors: Any) -> None:
        values = iter(tensors)
        parts = [map_arrays(lambda _: next(values), part) for part in (y, outputs, sample_weight)]
        function(*parts)

    tf.function(call, autograph=False).get_concrete_function(*leaves)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).strip("'\" .")
    if isinstance(error, KeyError) and " " not in text:
        return f"no such key: {text}"
    return text.rpartition("}} ")[2].partition(" [Op:")[0][:300].rstrip(". ")


def _advice(names: list[str]) -> str:
    if len(names) == 1:
        return "Give labels that it takes, as one array, or compile the model with another one"
    return (
        f"Labels, losses, loss_weights and metrics are dicts by the names of the outputs, "
        f"{', '.join(names)}, or lists in their order, with None for an output without"
    )


def _named(model: keras.Model, name: str) -> str:
    if name != "loss":
        return f"{name} that it was compiled with"
    given = model.loss
    if isinstance(given, (dict, list, tuple)):
        return "losses"  # what is wrong with them is in Keras' words
    return f"loss {getattr(given, 'name', getattr(given, '__name__', given))!r}"


def _shapes(part: Any) -> str:
    shapes = [None if leaf is None else tuple(leaf.shape) for leaf in keras.tree.flatten(part)]
    return f"shape{'s' if len(shapes) > 1 else ''} {', '.join(map(str, shapes))}"
