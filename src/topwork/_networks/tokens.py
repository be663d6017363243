"""The tokens of a transformer: which of them are places of the image, and which are none.

Read off the shapes, so that it holds for any network, and for a model that was saved and loaded.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

# Class, distillation and register tokens; the published networks have at most 5.
_MOST_PREFIX_TOKENS = 16


@dataclasses.dataclass(frozen=True)
class Tokens:
    """What the tokens of a layer are.

    Attributes:
        n_prefix: How many come before those of the patches; the first one is the class token.
        rows: Of the grid of patches.
        columns: Of the grid of patches.
    """

    n_prefix: int
    rows: int
    columns: int


def tokens_of(model: keras.Model, output: Any) -> Tokens | None:
    """What the tokens of an output (batch, tokens, width) are; None if they are no grid over the image.

    Patches cut an image into equal parts, so that there is one grid of them that fits: the largest with
    at most as many places as there are tokens.
    """
    image = tuple(model.inputs[0].shape)
    if len(output.shape) != 3 or len(image) != 4 or None in (*image[1:3], output.shape[1]):
        return None
    n, (height, width) = output.shape[1], image[1:3]
    sizes = [s for s in range(1, min(height, width) + 1) if height % s == 0 and width % s == 0]
    grids = [(height // s, width // s) for s in sizes if (height // s) * (width // s) <= n]
    if not grids or n - grids[0][0] * grids[0][1] > _MOST_PREFIX_TOKENS:
        return None
    rows, columns = grids[0]
    return Tokens(n - rows * columns, rows, columns)


def class_token(output: Any, name: str, dtype: str | None = None) -> Any:
    """The first token, (batch, width)."""
    n_tokens, width = output.shape[1:]
    first = keras.layers.Cropping1D((0, n_tokens - 1), name=f"{name}_tokens")(output)
    return keras.layers.Reshape((width,), dtype=dtype, name=name)(first)


def patch_tokens(model: keras.Model, output: Any, name: str) -> Any:
    """The tokens without those that stand for no place of the image, (batch, patches, width)."""
    tokens = tokens_of(model, output)
    if tokens is None or tokens.n_prefix == 0:
        return output
    return keras.layers.Cropping1D((tokens.n_prefix, 0), name=f"{name}_tokens")(output)


def has_class_token(model: keras.Model, output: Any) -> bool:
    """Whether the first token stands for no place of the image."""
    tokens = tokens_of(model, output)
    return tokens is not None and tokens.n_prefix > 0
