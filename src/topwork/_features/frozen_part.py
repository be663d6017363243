"""Running the frozen part of a model, so that an image's features depend on that image alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._errors import InputError, warn
from topwork._features.device import images_at_once
from topwork._features.engine import PLAIN, Engine, EngineError, explained_difference
from topwork._features.functions import make_function
from topwork._features.rows import layout_of
from topwork._store.shards import Bytes

# Always the same, the last batch padded: a row then does not depend on how the data is batched. And a
# multiple of 48: matrix kernels take 12, 24 or 48 rows at a time (three vectors of SSE or NEON, AVX2,
# AVX-512) and round differently in what is left over, so that with 32 the last image of a batch gets
# other bits than it gets in any other place (measured on 11 networks, 1 to 8 threads). Larger batches
# are no faster on a processor; part of what a store's fingerprint stands for. On a graphics processor a
# multiple of it, and rows are equal within the precision only, whatever the batch.
BATCH_SIZE = 48
_N_COMPARED = 4


class FrozenPart:
    """A prefix as a function from arrays to rows of features."""

    def __init__(self, prefix: keras.Model, engine: Engine = PLAIN) -> None:
        self.prefix, self.engine = prefix, engine
        self.difference: float | None = None
        self.layout = layout_of(prefix.outputs)
        _check_known_shapes(prefix)

    @functools.cached_property
    def batch_size(self) -> int:
        """How many images to give it at once."""
        return images_at_once(self.prefix, self.engine, BATCH_SIZE)

    def rows(self, inputs: list[Any]) -> Bytes:
        """Features, one row for each image; of at most `batch_size` as it was at the beginning."""
        n_images, n = len(inputs[0]), self.batch_size
        try:
            return np.concatenate(
                [self._rows([a[start : start + n] for a in inputs]) for start in range(0, n_images, n)]
            )
        except tf.errors.ResourceExhaustedError:
            if n <= BATCH_SIZE:
                raise
            self.batch_size = max(BATCH_SIZE, n // 2 // BATCH_SIZE * BATCH_SIZE)
            return self.rows(inputs)

    def _rows(self, inputs: list[Any]) -> Bytes:
        n_images = len(inputs[0])
        if n_images == 1 and self._takes_any_size:
            outputs = self._of_one(inputs)
        else:
            outputs = self._function([_padded(array) for array in inputs])
        return self.layout.pack([output[:n_images] for output in outputs])

    def prepare(self) -> None:
        """Make what runs it: seconds, which are not to be spent where all features are found.

        Raises:
            InputError: The engine that was asked for cannot run it. One that was chosen gives way to
                TensorFlow in float32, with a warning.
        """
        _ = self._function

    @functools.cached_property
    def _function(self) -> Callable[[list[Any]], list[Any]]:
        try:
            # Of one length only where that is what makes rows equal to the last bit.
            length = None if self.batch_size > BATCH_SIZE else BATCH_SIZE
            return make_function(self.prefix, self.engine, length)
        except EngineError as reason:
            told = f"{self.engine} cannot run the frozen part of this model: {reason}."
            if self.engine.is_required:
                raise InputError(f"{told} Leave out engine and precision.") from reason
            warn(f"{told} It runs in TensorFlow in float32.")
            self.engine, self.batch_size = PLAIN, BATCH_SIZE
            return self._function

    @functools.cached_property
    def _takes_any_size(self) -> bool:
        return any(None in tensor.shape[1:] for tensor in self.prefix.inputs)

    @functools.cached_property
    def _of_one(self) -> Callable[[list[Any]], list[Any]]:
        """For images that each have a size of their own: a full batch would be one of them and zeros."""
        return make_function(self.prefix, self.engine, None)

    def compare(self, inputs: list[Any], rows: Bytes) -> None:
        """Measure once how far features are from the model's own; warn where it is more than rounding."""
        if self.engine.is_plain or self.difference is not None:
            return
        own = self.prefix([tf.constant(array[:_N_COMPARED]) for array in inputs], training=False)
        pairs = zip(keras.tree.flatten(own), self.layout.unpack(tf.constant(rows)), strict=True)
        self.difference = max(_distance(np.asarray(a), np.asarray(b)) for a, b in pairs)
        explained = explained_difference(self.engine, self.prefix.layers)
        if not self.difference <= explained:
            warn(
                f"the features that {self.engine} gives differ from the model's own by "
                f"{self.difference:.2g} of their size, in the median of the first images, and rounding "
                f"explains {explained:.2g}. The head is trained and validated on the former, and the "
                "model computes the latter wherever it is used. Leave out engine and precision."
            )


def _distance(own: Any, other: Any) -> float:
    """Of two arrays of features, as a part of the size of the first: the median of the images."""
    own = own.reshape(len(own), -1).astype(np.float64)
    other = other[: len(own)].reshape(len(own), -1).astype(np.float64)
    size = np.maximum(np.linalg.norm(own, axis=1), np.finfo(np.float32).tiny)
    return float(np.median(np.linalg.norm(other - own, axis=1) / size))


def _check_known_shapes(prefix: keras.Model) -> None:
    for tensor in prefix.outputs:
        if None in tensor.shape[1:]:
            raise InputError(
                f"the frozen features have shape {tuple(tensor.shape)}, and only the batch may be "
                "unknown. Build the model for one image size: load_backbone(..., input_shape=...)."
            )


def _padded(array: Any) -> Any:
    missing = -len(array) % BATCH_SIZE
    if missing == 0:
        return array
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])


def in_full_batches(
    stream: Iterable[tuple[list[Any], Any]], length: int
) -> Iterator[tuple[list[Any], Any]]:
    """Batch a stream of (inputs, tags) anew: `length` images at a time, the last time fewer.

    `tags` has one entry for each image and stays beside it. Images of another size than those before
    begin another batch.
    """
    waiting: list[tuple[list[Any], Any]] = []
    n_waiting = 0
    for inputs, tags in stream:
        if waiting and _sizes(inputs) != _sizes(waiting[0][0]):
            yield _joined(waiting)
            waiting, n_waiting = [], 0
        waiting.append((inputs, tags))
        n_waiting += len(tags)
        while n_waiting >= length:
            joined, joined_tags = _joined(waiting)
            yield [array[:length] for array in joined], joined_tags[:length]
            n_waiting -= length
            rest = [array[length:] for array in joined], joined_tags[length:]
            waiting = [rest] if n_waiting else []  # of none, another copy would be made
    if waiting:
        yield _joined(waiting)


def _sizes(inputs: list[Any]) -> list[Any]:
    return [array.shape[1:] for array in inputs]


def _joined(parts: list[tuple[list[Any], Any]]) -> tuple[list[Any], Any]:
    if len(parts) == 1:
        return parts[0]
    arrays = zip(*(inputs for inputs, _ in parts), strict=True)
    return [np.concatenate(each) for each in arrays], np.concatenate([tags for _, tags in parts])
