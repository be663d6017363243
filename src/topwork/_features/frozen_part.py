"""Running the frozen part of a model, so that an image's features depend on that image alone."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._errors import InputError
from topwork._features.rows import layout_of
from topwork._store.shards import Bytes

# Always the same, the last batch padded: a row then does not depend on how the data is batched. And a
# multiple of 48: matrix kernels take 12, 24 or 48 rows at a time (three vectors of SSE or NEON, AVX2,
# AVX-512) and round differently in what is left over, so that with 32 the last image of a batch gets
# other bits than it gets in any other place (measured on 11 networks, 1 to 8 threads). Larger batches
# are no faster on a processor; part of what a store's fingerprint stands for.
BATCH_SIZE = 48


class FrozenPart:
    """A prefix as a function from arrays to rows of features."""

    def __init__(self, prefix: keras.Model) -> None:
        self.prefix = prefix
        self.layout = layout_of(prefix.outputs)
        _check_known_shapes(prefix)

    def rows(self, inputs: list[Any]) -> Bytes:
        """Features, one row for each of at most `BATCH_SIZE` images."""
        n_images = len(inputs[0])
        full = [tf.constant(_padded(array)) for array in inputs]
        outputs = self._function(full)
        return self.layout.pack([output.numpy()[:n_images] for output in outputs])

    @functools.cached_property
    def _function(self) -> Any:
        # Folding the variables into constants was measured at 3 to 10 % more images a second, and
        # makes tracing take 2.5 s longer: it does not pay below some 20,000 images.
        function = tf.function(
            lambda inputs: keras.tree.flatten(self.prefix(inputs, training=False)), autograph=False
        )
        # Traced once, also for images of several sizes, and without TensorFlow's warning of retracing
        # where there are several models.
        return function.get_concrete_function(
            [tf.TensorSpec((BATCH_SIZE, *t.shape[1:]), t.dtype) for t in self.prefix.inputs]
        )

    def is_repeatable(self, inputs: list[Any]) -> bool:
        """Whether two runs, one of them as in training, give the same features for some images."""
        once = keras.tree.flatten(self.prefix(inputs, training=False))
        again = keras.tree.flatten(self.prefix(inputs, training=True))
        return all(
            np.allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=1e-3, atol=1e-5)
            for a, b in zip(once, again, strict=True)
        )


def _check_known_shapes(prefix: keras.Model) -> None:
    for tensor in prefix.outputs:
        if None in tensor.shape[1:]:
            raise InputError(
                f"the frozen features have shape {tuple(tensor.shape)}, and only the batch may be "
                "unknown. Build the model for one image size: load_backbone(..., input_shape=...)."
            )


def _padded(array: Any) -> Any:
    missing = BATCH_SIZE - len(array)
    if missing == 0:
        return array
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])


def in_full_batches(
    stream: Iterable[tuple[list[Any], Any]],
) -> Iterator[tuple[list[Any], Any]]:
    """Batch a stream of (inputs, tags) anew: `BATCH_SIZE` images at a time, the last time fewer.

    `tags` has one entry for each image and stays beside it. Images of another size than those before
    begin another batch.
    """
    waiting: list[tuple[list[Any], Any]] = []
    n_waiting = 0
    for inputs, tags in stream:
        if waiting and _sizes(inputs) != _sizes(waiting[0][0]):
            if n_waiting:
                yield _joined(waiting)
            waiting, n_waiting = [], 0
        waiting.append((inputs, tags))
        n_waiting += len(tags)
        while n_waiting >= BATCH_SIZE:
            joined, joined_tags = _joined(waiting)
            yield [array[:BATCH_SIZE] for array in joined], joined_tags[:BATCH_SIZE]
            waiting = [([array[BATCH_SIZE:] for array in joined], joined_tags[BATCH_SIZE:])]
            n_waiting -= BATCH_SIZE
    if n_waiting:
        yield _joined(waiting)


def _sizes(inputs: list[Any]) -> list[Any]:
    return [array.shape[1:] for array in inputs]


def _joined(parts: list[tuple[list[Any], Any]]) -> tuple[list[Any], Any]:
    if len(parts) == 1:
        return parts[0]
    arrays = zip(*(inputs for inputs, _ in parts), strict=True)
    return [np.concatenate(each) for each in arrays], np.concatenate([tags for _, tags in parts])
