"""Random variations of the images: what `fit` does with its `augment` argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._errors import warn
from topwork._features._reading import DEFAULT_BATCH_SIZE

Augment = Callable[[Any], Any]


def check_augment(augment: Any, views: Any, caller: str = "fit") -> None:
    """Raise for arguments that cannot be right; warn of one view, which is a data set, not a draw."""
    if augment is not None and not callable(augment):
        raise ValueError(
            f"{caller}: augment must be a Keras model or layer, or a function from a batch of images to "
            f"a batch of the same shape. Received: {augment!r}."
        )
    if isinstance(views, bool) or not isinstance(views, int) or views < 1:
        raise ValueError(f"{caller}: views must be a whole number of at least 1. Received: {views!r}.")
    if augment is None and views > 1:
        raise ValueError(
            f"{caller}: views={views} copies of each image would be the same without augment. Pass "
            "augment=topwork.data.augmentation(), or leave views at 1."
        )


def warn_of_one_view(augment: Any, views: int) -> None:
    """Warn that one augmented copy stands for each image in all epochs."""
    if augment is not None and views == 1:
        warn(
            "fit: with views=1 each image is augmented once, and every epoch gets that one copy. Pass "
            "views=10, say, for ten copies of which each epoch draws one, or cache=False to augment "
            "anew in every epoch.",
        )


def on_arrays(augment: Augment) -> Callable[[list[Any]], list[Any]]:
    """`augment` as a function from the input arrays of a batch to augmented ones."""

    def apply(inputs: list[Any]) -> list[Any]:
        drawn = _call(augment, inputs[0] if len(inputs) == 1 else inputs)
        arrays = [np.asarray(array) for array in keras.tree.flatten(drawn)]
        shapes, expected = [array.shape for array in arrays], [array.shape for array in inputs]
        if shapes != expected:
            raise ValueError(
                f"fit: augment must keep the shape of the images. It made {shapes} of {expected}."
            )
        return [new.astype(old.dtype, copy=False) for new, old in zip(arrays, inputs, strict=True)]

    return apply


def augmented_anew(
    augment: Augment, x: Any, y: Any, sample_weight: Any, batch_size: int | None, shuffle: bool
) -> Any:
    """The data as something that Keras' `fit` takes, augmented anew whenever it is read."""
    if isinstance(x, keras.utils.PyDataset):
        return _AugmentedPyDataset(x, augment)
    if not isinstance(x, tf.data.Dataset):
        parts = tuple(part for part in (x, y, sample_weight) if part is not None)
        x = tf.data.Dataset.from_tensor_slices(parts)
        x = x.shuffle(int(x.cardinality())) if shuffle else x
        x = x.batch(batch_size or DEFAULT_BATCH_SIZE)
    return x.map(lambda images, *rest: (_in_graph(augment, images), *rest)).prefetch(tf.data.AUTOTUNE)


def _call(augment: Augment, images: Any) -> Any:
    return augment(images, training=True) if isinstance(augment, keras.Layer) else augment(images)


def _in_graph(augment: Augment, images: Any) -> Any:
    if isinstance(augment, keras.Layer):
        return augment(images, training=True)
    # Any Python at all: NumPy code could not be traced.
    drawn = tf.numpy_function(
        lambda batch: np.asarray(augment(batch), batch.dtype), [images], images.dtype
    )
    return tf.ensure_shape(drawn, images.shape)


class _AugmentedPyDataset(keras.utils.PyDataset):
    """Another PyDataset, each batch augmented when it is asked for."""

    def __init__(self, dataset: keras.utils.PyDataset, augment: Augment) -> None:
        super().__init__(workers=dataset.workers, max_queue_size=dataset.max_queue_size)
        self._dataset, self._augment = dataset, augment

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        images, *rest = self._dataset[index]
        return (np.asarray(_call(self._augment, images)), *rest)

    def on_epoch_end(self) -> None:
        self._dataset.on_epoch_end()
