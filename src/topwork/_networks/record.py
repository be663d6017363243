"""What a model's file knows beside its weights: the names of its classes, and how photographs are read.

Keras saves no field of the user's own. What it does save of every layer, and hands back when the file is
loaded, with topwork or without, is its dtype policy; and a `keras.dtype_policies.DTypePolicyMap` is a
policy with a dictionary, of which only the keys that are a layer's path have an effect. The record is one
more key, which no path is equal to. It goes along with `model.save`, `keras.saving.load_model`,
`keras.models.clone_model` and pickle, and changes no number.
"""

from __future__ import annotations

import dataclasses
import json
import urllib.parse
from typing import Any

import keras

from topwork._networks.graph import sublayers

_KEY = "topwork:"


@dataclasses.dataclass(frozen=True)
class Record:
    """What a model was trained on.

    Attributes:
        class_names: In the order of the outputs; None if they are not known.
        reader: How photographs were read: `{"crop": True, "part": 1.0}`; `"other"`: not by topwork; None:
            not known.
        version: Of topwork, when it was written.
    """

    class_names: tuple[str, ...] | None = None
    reader: dict[str, Any] | str | None = None
    version: str = ""


def read_record(model: Any) -> Record:
    """The record in a model; an empty one if there is none."""
    policy = getattr(_carrier(model), "dtype_policy", None)
    keys = _keys(policy) if _is_map(policy) else []
    if not keys:
        return Record()
    try:
        fields = json.loads(urllib.parse.unquote(keys[0].removeprefix(_KEY)))
        names = fields.get("class_names")
        return Record(names and tuple(map(str, names)), fields.get("reader"), fields.get("version", ""))
    except (ValueError, AttributeError, TypeError):  # written by somebody else
        return Record()


def write_record(model: Any, record: Record) -> None:
    """Keep a record in a model, in place of the one that it has."""
    layer = _carrier(model)
    if layer is None:
        return
    if not _is_map(layer.dtype_policy):
        layer.dtype_policy = keras.dtype_policies.DTypePolicyMap(layer.dtype_policy.name)
    policy = layer.dtype_policy
    for key in _keys(policy):
        del policy[key]
    # Quoted: the keys of a map are read as regular expressions.
    policy[_KEY + urllib.parse.quote(json.dumps(dataclasses.asdict(record)))] = policy.default_policy


def _carrier(model: Any) -> Any:
    """The layer whose policy has the record, or is to have it.

    Any layer would do, but a Dense layer that has it cannot be quantized: `quantize` takes the name of a
    layer's policy, and that of a map is none. So the last Dropout is preferred, which the
    head made by `add_head` has; and one that is active is in no frozen part, whose fingerprint it would
    change.
    """
    layers = [layer for layer in sublayers(getattr(model, "layers", None) or []) if _has_policy(layer)]
    known = [layer for layer in layers if _is_map(layer.dtype_policy) and _keys(layer.dtype_policy)]
    active = [layer for layer in layers if isinstance(layer, keras.layers.Dropout) and layer.rate > 0]
    return next(reversed([*layers[-1:], *active[-1:], *known[-1:]]), None)


def _has_policy(layer: Any) -> bool:
    return not isinstance(layer, (keras.Model, keras.layers.InputLayer))


def _keys(policy: Any) -> list[str]:
    return [key for key in policy if key.startswith(_KEY)]


def _is_map(policy: Any) -> bool:
    return isinstance(policy, keras.dtype_policies.DTypePolicyMap)
