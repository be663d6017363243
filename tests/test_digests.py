"""What images are known by: every byte and the shape count, and nothing else does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from topwork._data import digests as module
from topwork._data.digests import DIGEST_BYTES, digests
from topwork._store.shards import KEY_BYTES

PIXELS = np.arange(2 * 3 * 5 * 3).reshape(2, 3, 5, 3)


def test_a_digest_is_that_of_all_bytes_and_of_the_shape() -> None:
    images = np.zeros((3, 4, 2), "float32")
    images[1, 3, 1] = 1e-30
    keys = digests([images])
    assert keys.shape == (3, 16)
    assert DIGEST_BYTES == KEY_BYTES
    assert (keys[0] == keys[2]).all()
    assert (keys[0] != keys[1]).any()
    assert (digests([images[:1].reshape(1, 2, 4)]) != keys[:1]).any()
    assert (digests([images, images]) != keys).any()
    np.testing.assert_array_equal(digests([images[::-1]]), keys[::-1])


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (PIXELS.astype("uint8"), "7930a48951159073443944e42f4c53d3"),
        ((PIXELS / 8).astype("float32"), "7d815a989fced310ddf1997ca7a7e480"),
    ],
)
def test_it_is_the_same_on_every_machine(images: Any, expected: str) -> None:
    assert digests([images])[0].tobytes().hex() == expected


@pytest.mark.parametrize("shape", [(13, 3), (8, 8, 3), (37, 29, 1)])
def test_no_bit_is_passed_over(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    images = np.stack([image] * (8 * image.size + 1))
    flat = images.reshape(len(images), -1)
    bits = np.arange(8 * image.size)
    flat[bits, bits // 8] ^= (1 << bits % 8).astype("uint8")
    assert len(np.unique(digests([images]), axis=0)) == len(images)


@pytest.mark.parametrize("swap", [1, 2, 3, 4, 8, 16, 64])
def test_the_same_numbers_at_other_places_are_another_image(swap: int) -> None:
    """Their sum is the same."""
    image = np.random.default_rng(0).uniform(0, 255, 640).astype("float32")
    moved = np.stack([image, image[::-1], np.roll(image, swap), -image])
    assert len(np.unique(digests([moved]), axis=0)) == 4


def test_how_many_there_are_at_once_and_how_they_lie_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (7, 6, 5, 3)).astype("float32")
    keys = digests([images])
    np.testing.assert_array_equal(np.concatenate([digests([images[i : i + 1]]) for i in range(7)]), keys)
    turned = np.ascontiguousarray(images.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(digests([turned]), keys)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 3 * images[0].nbytes)
    np.testing.assert_array_equal(digests([images]), keys)


@pytest.mark.parametrize("images", [np.zeros((0, 4, 4), "f4"), np.zeros((3, 0), "f4"), np.zeros(3, "?")])
def test_images_of_odd_shapes(images: Any) -> None:
    keys = digests([images])
    assert keys.shape == (len(images), 16)
    assert len(np.unique(keys, axis=0)) == min(len(images), 1)
