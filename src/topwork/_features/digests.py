"""What images are known by: a digest of their pixels."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from topwork._store.shards import KEY_BYTES, Bytes


def digests(inputs: list[Any]) -> Bytes:
    """A key for each image, (n, 16), from the bytes of all inputs.

    SHA-256 runs at twice the speed of the alternatives on processors with instructions for it.
    """
    n_images = len(inputs[0])
    keys = np.empty((n_images, KEY_BYTES), np.uint8)
    for i in range(n_images):
        digest = hashlib.sha256()
        for array in inputs:
            digest.update(repr(array.shape[1:]).encode())  # a bar lying is not a bar standing
            digest.update(np.ascontiguousarray(array[i]).data)
        keys[i] = np.frombuffer(digest.digest()[:KEY_BYTES], np.uint8)
    return keys
