"""The feature maps of a model, those of a transformer's tokens and of models inside of it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._errors import InputError, closest
from topwork._networks.graph import Step, bottlenecks, has_graph, steps
from topwork._networks.tokens import tokens_of
from topwork._networks.unnesting import unnested

# How many blocks of a transformer are looked at from its end; the last but one is nearly always the one.
_MOST_BLOCKS = 4


@dataclass(frozen=True)
class FeatureMaps:
    """A model's calls, those inside of models in it too."""

    model: Any
    outer: list[Step]
    calls: list[Step]

    def last(self) -> list[Step]:
        """The last feature map; of a transformer, the ends of its blocks.

        Raises:
            ValueError: There is none.
        """
        found = [step for step in self.calls if self.is_feature_map(step)]
        if not found:
            raise InputError(
                "the model must have a layer whose output is a feature map, (batch, height, width, "
                f"channels), or the tokens of patches. Received: {self.model!r}, of the layers "
                f"{', '.join(repr(each.name) for each in self.model.layers[:8])}. "
                "Only convolutional networks and vision transformers have such layers."
            )
        if len(found[-1].outputs[0].shape) == 4:
            return found[-1:]
        ends = [step for step in bottlenecks(self.calls) if step in found]
        return ends[-_MOST_BLOCKS:] or found[-1:]

    def named(self, name: str) -> list[Step]:
        """The layer of a name.

        Raises:
            ValueError: There is none, or it has no feature map.
        """
        given = [step.outputs[0] for step in self.outer if step.operation.name == name]
        inside = _inside(self.model, name)
        named = [
            step
            for step in self.calls
            if step.operation is inside
            or (inside is None and step.operation.name == name)
            or any(t is given[-1] for t in step.outputs if given)
        ]
        maps = [step.operation.name for step in self.calls if self.is_feature_map(step)]
        if not named and inside is None and name not in [layer.name for layer in self.model.layers]:
            raise InputError(
                f"layer is the name of a layer of the model. Received: {name!r}. Closest: "
                f"{closest(name, maps) or 'none'}. topwork.describe(model) lists all."
            )
        if not named or not self.is_feature_map(named[-1]):
            shape = tuple(named[-1].outputs[0].shape) if named else None
            raise InputError(
                "layer is one whose output is a feature map, (batch, height, width, channels), or the "
                f"tokens of patches. Received: {name!r} with output {shape}. The last one is "
                f"{self.last()[-1].operation.name!r}."
            )
        return named[-1:]

    def is_feature_map(self, step: Step) -> bool:
        """Whether a step is a layer that gives a vector for each of several places of the image."""
        kinds = (keras.Model, keras.layers.InputLayer, keras.layers.Cropping1D)
        if not isinstance(step.operation, keras.Layer) or isinstance(step.operation, kinds):
            return False
        shape = step.outputs[0].shape
        if len(shape) == 4:  # of four axes too is an attention's (batch, tokens, heads, width)
            is_places = shape[1] != 1 and shape[2] != 1
            return is_places and not isinstance(step.operation, keras.layers.EinsumDense)
        tokens = tokens_of(self.model, step.outputs[0])
        return tokens is not None and tokens.rows * tokens.columns > 1

    def places(self, step: Step, values: Any) -> Any:
        """(rows, columns, channels) of one image; of tokens, those of its patches; None of None."""
        if values is None:
            return None
        values = np.asarray(tf.cast(values[0], "float32"))
        tokens = tokens_of(self.model, step.outputs[0])
        if tokens is not None:
            values = values[tokens.n_prefix :].reshape(tokens.rows, tokens.columns, -1)
        return values


def _inside(model: Any, name: str) -> Any:
    """The layer that `"base/layer"` means; None if there is none."""
    first, _, rest = name.partition("/")
    layer = next((each for each in model.layers if each.name == first), None)
    if not rest:
        return layer
    return _inside(layer, rest) if isinstance(layer, keras.Model) else None


def feature_maps(model: Any) -> FeatureMaps:
    outer = steps(model) if has_graph(model) else []
    return FeatureMaps(model, outer, unnested(outer))
