"""How many images fit the device at once: chosen by memory on a graphics processor."""

from __future__ import annotations

import math

import keras

from topwork._features.engine import Engine, has_gpu
from topwork._networks.graph import steps
from topwork._private_keras import gpu_memory

# A batch may use this part of the memory that TensorFlow may take. Weights and kernels need the rest.
_SHARE = 0.25
# The outputs that are alive at once, in units of the largest: branches lie beside each other.
_ALIVE = 4
_MOST_STEPS = 10


def images_at_once(prefix: keras.Model, engine: Engine, step: int) -> int:
    """A multiple of `step`: as it is on a processor; on a graphics processor up to ten times that."""
    if engine.name == "openvino" or not has_gpu():
        return step
    fitting = _SHARE * gpu_memory() / (_ALIVE * _largest_output(prefix))
    return step * min(_MOST_STEPS, max(1, int(fitting // step)))


def _largest_output(prefix: keras.Model) -> int:
    """In bytes of float32, of one image; sizes that are not known are taken for 1,024 pixels."""
    return max(
        4 * math.prod(size or 1024 for size in tensor.shape[1:])
        for each in steps(prefix)
        for tensor in each.outputs
    )
