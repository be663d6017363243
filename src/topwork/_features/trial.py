"""Trying calls on a few images, where reading them does not tell whether they can be computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._features.constancy import is_switched_off
from topwork._features.replay import replay
from topwork._features.traced import traced_fault
from topwork._features.unknown_code import named
from topwork._networks.graph import Step, is_of_images
from topwork._networks.variables import restored

_N_IMAGES = 4
# A single image is computed by other kernels than a batch, and they round differently.
_TOLERANCE = {2: 3e-2, 4: 2e-3, 8: 1e-6}


class Trial:
    """A few images, carried through the calls of a model as far as they are asked for."""

    def __init__(self, model: keras.Model, images: list[Any]) -> None:
        """`images` are the inputs of a batch, at least one image."""
        self._inputs = list(zip(model.inputs, images, strict=True))
        self._values: dict[int, Any] = {}
        self._waiting: list[Step] = []

    def go_on(self, step: Step) -> None:
        """Take note of a call that can be computed once; later ones build on what it gives."""
        self._waiting.append(step)

    def fault(self, step: Step) -> str | None:
        """Why what a call gives cannot be computed once, image by image; None if it can."""
        self._catch_up()
        found = _tried(step, [self._values[id(tensor)] for tensor in step.inputs])
        return None if found is None else f"{named(step.operation)} {found}"

    def values(self, step: Step) -> dict[int, Any]:
        """What a call that was taken note of gives, by the ids of its tensors."""
        self._catch_up()
        return {id(tensor): self._values[id(tensor)] for tensor in step.outputs}

    def _catch_up(self) -> None:
        for earlier in self._waiting:
            self._run(earlier)
        self._waiting.clear()

    def _run(self, step: Step) -> None:
        if step.is_input:
            tensor, array = next(pair for pair in self._inputs if pair[0] is step.outputs[0])
            self._values[id(tensor)] = tf.convert_to_tensor(_a_few(array, tensor.dtype))
            return
        args, kwargs = keras.tree.map_structure(
            lambda value: self._values.get(id(value), value), (step.args, step.kwargs)
        )
        if "training" in kwargs:
            kwargs["training"] = False
        outputs = keras.tree.flatten(step.operation(*args, **kwargs))
        self._values.update({id(t): out for t, out in zip(step.outputs, outputs, strict=True)})


def _a_few(array: Any, dtype: str) -> Any:
    """Some images, and others drawn from the same range: a batch of equal ones would show nothing."""
    real = np.asarray(array[: _N_IMAGES - 2])
    low, high = float(real.min(initial=0)), float(real.max(initial=1))
    drawn = np.random.default_rng(0).uniform(low, high, (_N_IMAGES - len(real), *real.shape[1:]))
    return np.concatenate([real, drawn.astype(real.dtype)]).astype(dtype)


def _tried(step: Step, values: list[Any]) -> str | None:
    try:
        return _fault(step, values)
    except Exception as error:  # it is the user's code, and may do anything
        return f"cannot be tried on a few images ({type(error).__name__}: {error})"


def _fault(step: Step, values: list[Any]) -> str | None:
    call = replay([step], list(step.inputs), list(step.outputs))
    n_images = next((len(v) for v, t in zip(values, step.inputs, strict=True) if is_of_images(t)), 0)
    variables = getattr(step.operation, "variables", [])
    with restored(variables) as before:
        outputs = _outputs(call, values)
        is_constant = not any(map(is_of_images, step.outputs))
        if not is_constant and any(len(np.shape(o)) == 0 or len(o) != n_images for o in outputs):
            return "does not give one row for each image"
        if not _same(outputs, _outputs(call, values)):
            return "gives other features for the same images when it is run again"
        singles = [_outputs(call, _only(i, values, step.inputs)) for i in range(n_images)]
        if is_constant and not all(_same(outputs, each) for each in singles):
            return "does not give one row for each image"
        if not is_constant and not _same(
            outputs, [np.concatenate(x) for x in zip(*singles, strict=True)]
        ):
            return "mixes the images of a batch"
        if is_switched_off(step):
            return None
        if not _same(outputs, _outputs(call, values, training=True)):
            return "gives other features for the same images when it is run as in training"
        if call.losses:
            return "adds to the loss"
        if not all(map(np.array_equal, before, variables)):
            return "changes its own state whenever it is run"
        return traced_fault(call, values)


def _only(i: int, values: list[Any], tensors: Sequence[Any]) -> list[Any]:
    """One of several images; what is not of images stays."""
    pairs = zip(values, tensors, strict=True)
    return [value[i : i + 1] if is_of_images(tensor) else value for value, tensor in pairs]


def _outputs(call: keras.Model, values: list[Any], *, training: bool = False) -> list[Any]:
    return [np.asarray(out) for out in keras.tree.flatten(call(values, training=training))]


def _same(ones: list[Any], others: list[Any]) -> bool:
    return all(map(_close, ones, others))


def _close(a: Any, b: Any) -> bool:
    if a.shape != b.shape or a.dtype.kind in "biuOSU":
        return np.array_equal(a, b)
    tolerance = _TOLERANCE.get(a.dtype.itemsize, 3e-2)
    a, b = a.astype("float64"), b.astype("float64")
    size = np.abs(a[np.isfinite(a)]).max(initial=0)
    return np.allclose(a, b, rtol=tolerance, atol=tolerance * 1e-2 * size, equal_nan=True)
