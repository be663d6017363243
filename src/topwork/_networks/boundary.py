"""What a boundary is: a layer by its index or its name, also one inside of a model used as a layer.

It is resolved to a path: the index in `model.layers`; for a layer inside of that one, `"base/layer"`, its
index there too, and so on.
"""

from __future__ import annotations

import operator
from typing import Any

import keras

from topwork._errors import InputError, closest
from topwork._networks.applications import APPLICATIONS
from topwork._networks.blocks import last_stage
from topwork._networks.graph import clean_cuts, head_start, sublayers
from topwork._networks.unnesting import has_own_graph
from topwork._private_keras import inner_layers

Path = tuple[int, ...]


def freeze_boundary(model: keras.Model, until: int | str) -> Path:
    """The path of the layer before which all is frozen; one that ends the trunk, or all layers, too."""
    head = head_start(model)
    path = _resolve(model, until, "until", last=len(model.layers))
    if head < path[0] < len(model.layers):
        raise InputError(
            f"until={until!r} lies in the head, which starts at index {head} "
            f"({model.layers[head].name!r}). {_valid(model, 1, head, until)} until=None freezes all."
        )
    if not any(layer.weights for layer in layers_before(model, path)):
        raise InputError(
            f"until={until!r} selects nothing: no layer before index {path[-1]} has weights. "
            f"{_valid(model, 1, head, until)}"
        )
    return path


def fine_tune_boundary(model: keras.Model, unfreeze_from: int | str | None) -> Path:
    """The path of the first layer that is trained; None: the recommended one."""
    if unfreeze_from is None:
        return _recommended(model)
    head = head_start(model)
    path = _resolve(model, unfreeze_from, "unfreeze_from", last=len(model.layers) - 1)
    if path[0] >= head:
        raise InputError(
            f"unfreeze_from={unfreeze_from!r} lies in the head, which starts at index "
            f"{head} ({model.layers[head].name!r}): nothing of the trunk would be trained. "
            f"{_valid(model, 0, head - 1, unfreeze_from)}"
        )
    within = layers_from(model, path)[: head - len(model.layers) or None]
    if not any(map(can_learn, within)):
        raise InputError(
            f"unfreeze_from={unfreeze_from!r} selects nothing: no layer from index {path[-1]} "
            f"to the end of the trunk ({head - 1}) has weights to train (BatchNormalization stays "
            f"frozen). {_valid(model, 0, head - 1, unfreeze_from)}"
        )
    return path


def layers_before(model: keras.Model, path: Path) -> list[keras.Layer]:
    """All that lies before a boundary; of models in which it lies, the layers inside."""
    before = list(model.layers[: path[0]])
    return before + layers_before(model.layers[path[0]], path[1:]) if len(path) > 1 else before


def layers_from(model: keras.Model, path: Path) -> list[keras.Layer]:
    """All that lies from a boundary on, likewise."""
    if len(path) == 1:
        return list(model.layers[path[0] :])
    return layers_from(model.layers[path[0]], path[1:]) + list(model.layers[path[0] + 1 :])


def address(model: keras.Model, path: Path) -> str:
    """A path as the name that it is given by, `"layer"` or `"base/layer"`."""
    layer = model.layers[path[0]]
    return layer.name if len(path) == 1 else f"{layer.name}/{address(layer, path[1:])}"


def can_learn(layer: keras.Layer) -> bool:
    """Whether fine-tuning trains something in it."""
    inner = layer.layers if isinstance(layer, keras.Model) else [layer]
    return any(
        part.weights and not isinstance(part, keras.layers.BatchNormalization)
        for part in sublayers(inner)
    )


def _recommended(model: keras.Model) -> Path:
    """Of a model used as a layer its own; else the application's, by name, or the last stage."""
    trunk = model.layers[: head_start(model)]
    inner = [i for i, layer in enumerate(trunk) if has_own_graph(layer) and can_learn(layer)]
    application = APPLICATIONS.get(model.name)
    if application is None and len(inner) == 1 and not any(map(can_learn, trunk[: inner[0]])):
        return (inner[0], *_recommended(trunk[inner[0]]))
    names = [layer.name for layer in trunk]
    if application is not None and application.boundary not in names:
        raise InputError(
            f"the boundary recommended for {model.name!r}, {application.boundary!r}, lies "
            f"behind the layer that this model was cut at. Pass unfreeze_from. "
            f"{_valid(model, 0, len(names) - 1)}"
        )
    if application is not None:
        return (names.index(application.boundary),)
    before = last_stage(model)
    starts = range(names.index(before) + 1, len(trunk)) if before in names else range(0)
    start = next((i for i in starts if can_learn(trunk[i])), None)
    if start is None:
        raise InputError(
            f"no boundary is recommended for the model {model.name!r}, in which no blocks are told "
            f"apart. Pass unfreeze_from. {_valid(model, 0, len(names) - 1)}"
        )
    return (start,)


def _resolve(model: keras.Model, boundary: Any, argument: str, *, last: int) -> Path:
    """The path of a boundary given by index, from the end if negative, or by name."""
    if isinstance(boundary, str):
        return _by_name(model, boundary, argument)
    try:
        index = operator.index(boundary)
    except TypeError:
        index = None
    if index is None or isinstance(boundary, bool):
        raise InputError(f"{argument} must be an index, a layer name or None. Received: {boundary!r}.")
    n_layers = len(model.layers)
    if not -n_layers <= index <= last:
        raise InputError(
            f"{argument}={boundary} is out of range: {model.name!r} has {n_layers} layers. "
            f"{_valid(model, 0, min(last, head_start(model) - 1), n_layers)}{_nested_hint(model)}"
        )
    return (index + n_layers if index < 0 else index,)


def _by_name(model: keras.Model, name: str, argument: str) -> Path:
    """`"layer"`, or `"base/layer"` inside of a model used as a layer."""
    names = [layer.name for layer in model.layers]
    first, _, rest = name.partition("/")
    if first in names and not rest:
        return (names.index(first),)
    if first in names and has_own_graph(model.get_layer(first)):
        return (names.index(first), *_by_name(model.get_layer(first), rest, argument))
    for layer in model.layers:
        inside = [each.name for each in inner_layers(layer, recursive=True)]
        if name in inside and isinstance(layer, keras.Model):
            raise InputError(
                f"the layer {name!r} lies inside {layer.name!r}, a model used as a layer. "
                f"Received: {argument}={name!r}. Write {argument}='{layer.name}/{name}'."
                f"{_nested_hint(model)}"
            )
        if name in inside:
            raise InputError(
                f"{name!r} lies inside {layer.name!r} ({type(layer).__name__}), which is one layer: it "
                "is frozen or trained as a whole. load_backbone(network) opens the encoders of KerasHub, "
                "whose blocks are layers of the model then."
            )
    raise InputError(
        f"{model.name!r} has no layer named {name!r}. Closest: {closest(name, names)}. "
        "describe(model) lists all."
    )


def _nested_hint(model: keras.Model) -> str:
    nested = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    if not nested:
        return ""
    return (
        f" {nested[0]!r} is one layer here. topwork.flatten(model) gives a model of the same variables "
        "in which the layers inside are layers of its own."
    )


def _valid(model: keras.Model, first: int, last: int, near: int | str | None = None) -> str:
    """What would be valid, for an error message: the range, and the block boundaries close by."""
    names = [layer.name for layer in model.layers]
    text = f"Valid: an index from {first} to {last}, or the name of such a layer."
    starts = [names.index(cut) + 1 for cut in clean_cuts(model)]
    within = range(first, min(last + 1, len(names)))
    starts = [i for i in starts if i in within and can_learn(model.layers[i])]
    if not starts:
        return text
    target = names.index(near) if near in names else near
    target = last if not isinstance(target, int) else target
    nearest = sorted(sorted(starts, key=lambda i: abs(i - target))[:3])
    listed = ", ".join(f"{i} ({names[i]!r})" for i in nearest)
    return f"{text} Nearest block boundaries: {listed}."
