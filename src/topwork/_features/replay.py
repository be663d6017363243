"""Making calls of a graph once more, on new inputs."""

from __future__ import annotations

from typing import Any

import keras

from topwork._networks.graph import Step
from topwork._private_keras import forgotten_calls


def replay(
    calls: list[Step],
    given: list[Any],
    wanted: Any,
    name: str | None = None,
    constants: dict[int, Any] | None = None,
) -> keras.Model:
    """A model that makes `calls` again, from new inputs that stand for the tensors `given`.

    `keras.Model(given, wanted)` would do the same by cloning graph nodes, but replaces every call of a
    layer that made a given tensor, also those that lie behind it (Keras 3.15). The layers are shared,
    and do not remember that they were called again.

    Args:
        calls: In an order in which they can be made.
        given: Symbolic tensors.
        wanted: The structure of tensors that the model gives.
        name: Of the model.
        constants: Values that take the place of symbolic tensors, by their ids.
    """
    inputs = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=f"frontier_{i}")
        for i, tensor in enumerate(given)
    ]
    replayed = {**(constants or {}), **{id(old): new for old, new in zip(given, inputs, strict=True)}}

    def swap(value: Any) -> Any:
        return replayed.get(id(value), value)

    with forgotten_calls([step.operation for step in calls]):
        for step in calls:
            args = keras.tree.map_structure(swap, step.args)
            kwargs = keras.tree.map_structure(swap, step.kwargs)
            outputs = keras.tree.flatten(step.operation(*args, **kwargs))
            replayed.update({id(old): new for old, new in zip(step.outputs, outputs, strict=True)})
        return keras.Model(inputs, keras.tree.map_structure(swap, wanted), name=name)
