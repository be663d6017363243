"""The first layer of KerasHub's transformers, made of layers that can be saved and frozen by themselves.

KerasHub's own are layers with variables of their own and a convolution inside, and ViT's and DeiT's
cannot be made again from what they say of themselves (0.32).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

_CLASS = ("class_token", "cls_token", "distillation_token")


def is_embedding(layer: Any) -> bool:
    """Whether it makes tokens of an image: patches, tokens in front of them, positions."""
    has_vectors = bool(_tokens(layer, _CLASS)) or _positions(layer) is not None
    return type(layer).__module__.startswith("keras_hub.") and has_vectors and bool(_convolution(layer))


def embedded(layer: Any, image: Any) -> Any:
    """What the layer gives, its variables in other layers; a mask token, which is for training, aside."""
    name, convolution = layer.name, _convolution(layer)
    convolution.name = f"{name}_patches"
    x = convolution(image)
    x = keras.layers.Reshape((-1, x.shape[-1]), name=f"{name}_tokens")(x)
    learns = any(weight.trainable for weight in layer.weights)
    tokens, registers = _tokens(layer, _CLASS), _tokens(layer, ("register_tokens",))
    if tokens:
        x = _in_front(x, np.concatenate(tokens), f"{name}_class_token", learns)
    positions = _positions(layer)
    if positions is not None:
        added = _vectors(x, positions, f"{name}_positions", learns)
        x = keras.layers.Add(name=f"{name}_add")([x, added])
    if registers:
        n_class, n = sum(map(len, tokens)), x.shape[1]
        first = keras.layers.Cropping1D((0, n - n_class), name=f"{name}_first")(x)
        rest = keras.layers.Cropping1D((n_class, 0), name=f"{name}_rest")(x)
        rest = _in_front(rest, np.concatenate(registers), f"{name}_register_tokens", learns)
        x = keras.layers.Concatenate(axis=1, name=f"{name}_all")([first, rest])
    return x


def _convolution(layer: Any) -> Any:
    """The one that makes a vector of each patch."""
    held = getattr(layer, "patch_embedding", None) or getattr(layer, "patch_embeddings", None)
    held = getattr(held, "projection", held)
    return held if isinstance(held, keras.layers.Conv2D) else None


def _tokens(layer: Any, names: tuple[str, ...]) -> list[Any]:
    found = [getattr(layer, name, None) for name in names]
    return [np.asarray(token.numpy())[0] for token in found if token is not None]


def _positions(layer: Any) -> Any:
    """(tokens, width), those for this size of images; None if a network has them elsewhere."""
    names = ("interpolated_position_embeddings", "position_embedding")
    held = next((found for name in names if (found := getattr(layer, name, None)) is not None), None)
    held = getattr(held, "embeddings", held)
    return None if held is None else np.asarray(held.numpy()).reshape(-1, held.shape[-1])


def _in_front(x: Any, vectors: Any, name: str, learns: bool) -> Any:
    some = keras.layers.Cropping1D((0, x.shape[1] - len(vectors)), name=f"{name}_room")(x)
    tokens = _vectors(some, vectors, name, learns)
    return keras.layers.Concatenate(axis=1, name=f"{name}_first")([tokens, x])


def _vectors(x: Any, vectors: Any, name: str, learns: bool) -> Any:
    """Vectors of the model's own for each image, in the shape of `x`, whose values do not matter."""
    import keras_hub

    layer = keras_hub.layers.PositionEmbedding(len(vectors), name=name, trainable=learns)
    outputs = layer(x)
    layer.set_weights([vectors])
    return outputs
