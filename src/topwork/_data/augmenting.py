"""Random variations of the images: what `fit` does with its `augment` argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._data.data_sets import MappedPyDataset
from topwork._data.inputs import as_arrays, inputs_in_order, inputs_of
from topwork._data.reading import DEFAULT_BATCH_SIZE
from topwork._errors import InputError, warn
from topwork._networks.arguments import required_whole

Augment = Callable[[Any], Any]

PASS_AUGMENT = "Pass the images as they are, and the augmentation as augment=..., views=10."


def check_augment(augment: Any, views: Any) -> int:
    """The number of views; raise for arguments that cannot be right."""
    if augment is not None and not callable(augment):
        raise InputError(
            f"augment must be a Keras model or layer, or a function from a batch of images to "
            f"a batch of the same shape. Received: {augment!r}."
        )
    mixing = next(filter(_mixes_labels, _layers_of(augment)), None)
    if mixing is not None:
        raise InputError(
            f"augment={type(mixing).__name__} mixes the images of a batch, and their labels "
            "have to be mixed with them, which augment cannot do: it gets the images alone. Train with "
            "model.fit on dataset.map(...) of images and labels, or use topwork.data.augmentation()."
        )
    views = required_whole("views", views, 1)
    if augment is None and views > 1:
        raise InputError(
            f"views={views} copies of each image would be the same without augment. Pass "
            "augment=topwork.data.augmentation(), or leave views at 1."
        )
    return views


def _layers_of(augment: Any) -> list[Any]:
    inner = getattr(augment, "layers", None)
    return [augment, *inner] if isinstance(inner, list) else [augment]


def _mixes_labels(layer: Any) -> bool:
    # CutMix is younger than the oldest Keras that is supported.
    names = ("MixUp", "CutMix")
    return any(base.__name__ in names for base in type(layer).__mro__) and isinstance(layer, keras.Layer)


def warn_of_one_view(augment: Any, views: int) -> None:
    """Warn that one augmented copy stands for each image in all epochs."""
    if augment is not None and views == 1:
        warn(
            "with views=1 each image is augmented once, and every epoch gets that one copy. Pass "
            "views=10, say, for ten copies of which each epoch draws one, or cache=False to augment "
            "anew in every epoch.",
        )


def on_arrays(augment: Augment) -> Callable[[list[Any]], list[Any]]:
    """`augment` as a function from the input arrays of a batch to augmented ones."""

    def apply(inputs: list[Any]) -> list[Any]:
        arrays = [np.asarray(array) for array in keras.tree.flatten(_call(augment, inputs))]
        shapes, expected = [array.shape for array in arrays], [array.shape for array in inputs]
        if shapes != expected:
            raise InputError(
                f"augment must keep the shape of the images. It made {shapes} of {expected}."
            )
        for array in arrays:
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(
                    "augment made pixels that are NaN or infinite of a batch that has none. Find out "
                    "where they come from, a division by the deviation of an image that is all one "
                    "colour for example."
                )
        # A copy: `augment` may write the next batch to the same place while this one is computed.
        return [new.astype(old.dtype) for new, old in zip(arrays, inputs, strict=True)]

    return apply


def augmented_anew(
    augment: Augment,
    model: keras.Model,
    x: Any,
    y: Any,
    sample_weight: Any,
    batch_size: int | None,
    shuffle: bool | str,
) -> Any:
    """The data as something that Keras' `fit` takes, augmented anew whenever it is read."""
    if isinstance(x, keras.utils.PyDataset):
        return MappedPyDataset(x, _of_elements(augment, model))
    if not isinstance(x, tf.data.Dataset):
        parts = tuple(part for part in (x, y, sample_weight) if part is not None)
        # A list of arrays would be stacked.
        x = tf.data.Dataset.from_tensor_slices(tuple(_lists_as_tuples(as_arrays(p)) for p in parts))
        x = x.shuffle(int(x.cardinality())) if shuffle else x
        x = x.batch(batch_size or DEFAULT_BATCH_SIZE)
    elif batch_size is not None:
        x = x.unbatch().batch(batch_size)
    return x.map(lambda images, *rest: (_in_graph(augment, model, images), *rest)).prefetch(
        tf.data.AUTOTUNE
    )


def _of_elements(augment: Augment, model: keras.Model) -> Callable[[Any, int], Any]:
    apply = on_arrays(augment)

    def augmented(element: Any, _: int) -> Any:
        images, *rest = element
        return (_packed(model, apply(inputs_of(model, images))), *rest)

    return augmented


def _lists_as_tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _call(augment: Augment, inputs: list[Any]) -> Any:
    images = inputs[0] if len(inputs) == 1 else inputs
    return augment(images, training=True) if isinstance(augment, keras.Layer) else augment(images)


def _in_graph(augment: Augment, model: keras.Model, images: Any) -> Any:
    inputs = [
        _as_received(tensor, image)
        for tensor, image in zip(model.inputs, inputs_in_order(model, images), strict=True)
    ]
    if isinstance(augment, keras.Layer):
        drawn = keras.tree.flatten(_call(augment, inputs))
        drawn = [tf.cast(new, old.dtype) for new, old in zip(drawn, inputs, strict=True)]
    else:
        # Any Python at all: NumPy code could not be traced.
        apply = on_arrays(augment)
        drawn = tf.numpy_function(
            lambda *arrays: apply(list(arrays)), inputs, [old.dtype for old in inputs]
        )
    drawn = [tf.ensure_shape(new, old.shape) for new, old in zip(drawn, inputs, strict=True)]
    return _packed(model, drawn)


def _as_received(tensor: Any, image: Any) -> Any:
    without_channels = len(image.shape) == len(tensor.shape) - 1
    return tf.cast(image[..., tf.newaxis] if without_channels else image, tensor.dtype)


def _packed(model: keras.Model, inputs: list[Any]) -> Any:
    """Arrays in the order of `model.inputs` as the model takes them."""
    if len(inputs) == 1:
        return inputs[0]
    by_name = isinstance(model.input, dict)
    return keras.tree.pack_sequence_as(model.input, inputs) if by_name else tuple(inputs)
