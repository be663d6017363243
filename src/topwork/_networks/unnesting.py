"""Models inside of models: what they call, as if the model itself called it.

`base(inputs, training=False)` inside a new model is the pattern of Keras' own guide
(https://keras.io/guides/transfer_learning/). To Keras, `base` is one layer of the model: by itself it is
looked into nowhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras

from topwork._errors import InputError, public
from topwork._networks.compilation import compile_arguments, fresh_optimizer
from topwork._networks.graph import Step, has_graph, require_functional, steps
from topwork._private_keras import has_mask


@public
def flatten(model: keras.Model) -> keras.Model:
    """Replace the models inside a model by their layers.

    Keras' own guide calls a pretrained network as one layer of a new model, `base(inputs)`. The layers
    inside `base` then have no index in the new model, and `freeze`, `fine_tune` and `grad_cam` know
    them as `"base/layer"`. In the flat model they are layers like all others, also for `cut_points` and
    `describe`.

    Args:
        model: A functional or Sequential model. A model inside it that passes a mask along, or that is
            no functional or Sequential model, stays one layer.

    Returns:
        A flat model of the same layers and variables. Training one model trains the other. If two
        layers have the same name, the name of the inner model is put in front of that of its layer. If
        the model is compiled, the flat one is compiled too, with a new optimizer. A model that has no
        models inside is returned as it is.

    Raises:
        ValueError: The model has no graph, such as a subclassed one.

    Example:
        >>> import keras, topwork as tw
        >>> base = tw.load_backbone("mobilenet", weights=None, input_shape=(64, 64, 3))
        >>> image = keras.Input((64, 64, 3))
        >>> pooled = keras.layers.GlobalAveragePooling2D()(base(image, training=False))
        >>> model = keras.Model(image, keras.layers.Dense(2)(pooled))
        >>> model.layers[1].name, tw.flatten(model).layers[-3].name
        ('mobilenet', 'conv_pw_13_relu')
    """
    require_functional(model)
    calls = steps(model)
    flat = unnested(calls)
    if len(flat) == len(calls):
        return model
    _give_names(calls)
    made = {id(tensor): tensor for tensor in model.inputs}
    for step in flat:
        if not step.is_input:
            args, kwargs = keras.tree.map_structure(
                lambda value: made.get(id(value), value), (step.args, step.kwargs)
            )
            outputs = keras.tree.flatten(step.operation(*args, **kwargs))
            made.update({id(old): new for old, new in zip(step.outputs, outputs, strict=True)})
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.input
    outputs = [made[id(tensor)] for tensor in model.outputs]
    structure = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    result = keras.Model(inputs, keras.tree.pack_sequence_as(structure, outputs), name=model.name)
    if model.compiled:
        result.compile(optimizer=fresh_optimizer(model.optimizer), **compile_arguments(model))
    return result


def _give_names(calls: list[Step], owner: str = "", taken: set[str] | None = None) -> None:
    """Put the name of an inner model in front of those of its layers that others have too."""
    taken = set() if taken is None else taken
    own = [step.operation for step in calls if not is_opened(step) and not (owner and step.is_input)]
    for operation in dict.fromkeys(own):
        if operation.name in taken and owner:
            operation.name = f"{owner}_{operation.name}"
        if operation.name in taken:
            raise InputError(
                f"two layers are named {operation.name!r}, and in a flat model each layer needs a "
                "name of its own. Name one of them anew: layer.name = ..."
            )
        taken.add(operation.name)
    for inner in dict.fromkeys(step.operation for step in calls if is_opened(step)):
        _give_names(steps(inner), inner.name, taken)


def has_own_graph(operation: Any) -> bool:
    """Whether an operation is a model that does what its graph says, and nothing else."""
    if not isinstance(operation, keras.Model) or not has_graph(operation):
        return False
    definers = (next(c for c in type(operation).__mro__ if n in vars(c)) for n in ("call", "__call__"))
    return all(definer.__module__.startswith("keras.") for definer in definers)


def is_opened(step: Step) -> bool:
    """Whether a step is the call of a model that can be replaced by the calls inside it."""
    inner = step.operation
    if not has_own_graph(inner) or len(step.inputs) != len(inner.inputs):
        return False
    fits = all(map(_fits, step.inputs, inner.inputs))
    outputs = {id(tensor) for tensor in inner.outputs}
    is_plain = len(outputs) == len(inner.outputs) and not outputs & {id(t) for t in inner.inputs}
    tensors = (*step.inputs, *(t for each in steps(inner) for t in each.outputs))
    return fits and is_plain and not any(map(has_mask, tensors))


def _fits(given: Any, wanted: Any) -> bool:
    """Whether a model takes a tensor as it is; it would cast or reshape another."""
    is_shape = len(given.shape) == len(wanted.shape)
    return is_shape and given.dtype == wanted.dtype and None not in wanted.shape[1:]


def unnested(calls: Iterable[Step]) -> list[Step]:
    """The calls with those inside of models in place of the calls of the models."""
    found: list[Step] = []
    for step in calls:
        found.extend(unnested(_inside(step)) if is_opened(step) else [step])
    return found


def _inside(step: Step) -> list[Step]:
    """The calls inside of a model, between the tensors that it was given and those that it gave."""
    inner = step.operation
    names = {id(old): new for old, new in zip(inner.inputs, step.inputs, strict=True)}
    given = {id(old): new for old, new in zip(inner.outputs, step.outputs, strict=True)}
    is_off = step.for_inference or step.kwargs.get("training") is False
    found = []
    for each in steps(inner):
        if each.is_input:
            continue
        for tensor in each.outputs:
            other = keras.KerasTensor(tensor.shape, tensor.dtype, name=tensor.name)
            names[id(tensor)] = given.get(id(tensor), other)
        args, kwargs, inputs, outputs = keras.tree.map_structure(
            lambda value: names.get(id(value), value),
            (each.args, each.kwargs, each.inputs, each.outputs),
        )
        found.append(
            dataclasses.replace(
                each, args=args, kwargs=kwargs, inputs=inputs, outputs=outputs, for_inference=is_off
            )
        )
    return found
