"""Features of several layers beside each other, for one head.

What the last layers of a network have forgotten, earlier ones still know. Each layer is averaged over the
image and brought to unit length, so that none is louder than the others (Evci, Dumoulin, Larochelle and
Mozer, 2022, https://arxiv.org/abs/2201.03529). Quarters of the image tell where something is (Lazebnik,
Schmid and Ponce, 2006, https://doi.org/10.1109/CVPR.2006.68).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from topwork._errors import InputError, closest
from topwork._networks.graph import layer_outputs
from topwork._networks.tokens import patch_tokens

_AVERAGES = {3: keras.layers.GlobalAveragePooling1D, 4: keras.layers.GlobalAveragePooling2D}


def side_by_side(backbone: keras.Model, layers: Sequence[str], *, pyramid: bool) -> Any:
    """The features of some layers of a backbone and of its last one, as one vector an image.

    Args:
        backbone: With one output.
        layers: Names of layers before its last one.
        pyramid: Whether the last one has the averages of the four quarters too.
    """
    outputs = layer_outputs(backbone)
    last = backbone.outputs[0]
    known = [_known(layer, outputs, backbone) for layer in layers]
    parts = [unit_average(outputs[layer], layer, backbone) for layer in known]
    parts.append(unit_average(last, "last", backbone))
    if pyramid:
        parts.append(unit(quarters(last, "last"), "quarters"))
    return keras.layers.Concatenate(name="head_features")(parts) if len(parts) > 1 else parts[0]


def unit_average(tensor: Any, name: str, model: keras.Model) -> Any:
    return unit(average(tensor, name, model), name)


def average(tensor: Any, name: str, model: keras.Model) -> Any:
    """A vector for each image: the average over height and width, or over the tokens of patches."""
    rank = len(tensor.shape)
    if rank == 2:
        return tensor
    if rank not in _AVERAGES:
        raise InputError(
            "what is averaged is a feature map (batch, height, width, channels), tokens (batch, tokens, "
            f"width) or a vector. {name!r} of {model.name!r} gives {tuple(tensor.shape)}. Leave it out."
        )
    # float32 whatever the network's own precision: a mean of thousands of float16 numbers is not one.
    places = patch_tokens(model, tensor, f"head_average_{name}") if rank == 3 else tensor
    return _AVERAGES[rank](dtype="float32", name=f"head_average_{name}")(places)


def has_quarters(tensor: Any) -> bool:
    """Whether it is a feature map that can be divided into four parts."""
    return len(tensor.shape) == 4 and min(side or 0 for side in tensor.shape[1:3]) >= 2


def quarters(tensor: Any, name: str) -> Any:
    """The averages over the four quarters of a feature map, one after the other."""
    if not has_quarters(tensor):
        raise InputError(
            "pooling='pyramid' takes the four quarters of a feature map (batch, height, width, "
            f"channels) of a known size of at least 2 x 2. Received: {tuple(tensor.shape)}. Take "
            "pooling='avg'."
        )
    height, width = tensor.shape[1:3]
    # If the number of rows is odd, both halves have the middle one.
    pool = keras.layers.AveragePooling2D(
        ((height + 1) // 2, (width + 1) // 2),
        strides=(height // 2, width // 2),
        dtype="float32",
        name=f"head_quarters_{name}",
    )
    return keras.layers.Flatten(dtype="float32", name=f"head_flat_{name}")(pool(tensor))


def unit(vector: Any, name: str) -> Any:
    return keras.layers.UnitNormalization(dtype="float32", name=f"head_unit_{name}")(vector)


def _known(layer: str, outputs: dict[str, Any], backbone: keras.Model) -> str:
    if layer in outputs:
        return layer
    raise InputError(
        f"with_layers names {layer!r}, and {backbone.name!r} has no such layer. Closest: "
        f"{closest(layer, outputs)}. cut_points(model) lists those that everything flows through."
    )
