"""Recognising random augmentation in a data set, which must not be computed once."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Operations that draw random numbers. The shuffling of a dataset is none of them: it changes the
# order of the images and not the images.
_RANDOM_OPERATION = re.compile(
    r"(Stateless)?(Random(Uniform|Normal|StandardNormal|Gamma|Poisson|Shuffle|Binomial|Crop)|"
    r"(Parameterized)?TruncatedNormal|Multinomial|StatefulUniform|StatefulStandardNormal|"
    r"StatefulTruncatedNormal|RngReadAndSkip|SampleDistortedBoundingBox).*"
)


def randomness_in(x: Any) -> str | None:
    """What makes the images of a data set random, for a message; None if nothing is found."""
    if isinstance(x, tf.data.Dataset):
        found = sorted(_operations(x))
        return f"random operations in its map functions ({', '.join(found[:3])})" if found else None
    if isinstance(x, keras.utils.PyDataset) and x.num_batches:
        return None if _same_twice(x) else "images that differ when one batch is read twice"
    return None


def _operations(dataset: tf.data.Dataset) -> set[str]:
    """The random operations inside the functions that a dataset maps, filters or generates with."""
    variant = tf.data.experimental.to_variant(dataset)
    serialized = tf.raw_ops.DatasetToGraphV2(input_dataset=variant, external_state_policy=1)
    graph = tf.compat.v1.GraphDef.FromString(serialized.numpy())
    operations = {node.op for function in graph.library.function for node in function.node_def}
    return {operation for operation in operations if _RANDOM_OPERATION.fullmatch(operation)}


def _same_twice(dataset: keras.utils.PyDataset) -> bool:
    once, again = (
        keras.tree.flatten(keras.utils.unpack_x_y_sample_weight(dataset[0])[0]) for _ in range(2)
    )
    return all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
