"""Who computes the frozen features, and in which precision: the `engine` and `precision` arguments."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from topwork._errors import InputError, warn

ENGINES = ("auto", "tensorflow", "openvino")
# The distance from 1 to the next number; rounding errs by half of it.
PRECISIONS = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}
# The error of float32 when sums are taken in another order, as Winograd's convolutions do.
_ANOTHER_ORDER = 1e-3


class EngineError(Exception):
    """Why an engine cannot run a model; the message is shown to the user."""


@dataclasses.dataclass(frozen=True)
class Engine:
    """Who runs the frozen part.

    Attributes:
        name: `"tensorflow"` or `"openvino"`.
        precision: Of the numbers inside: a key of `PRECISIONS`. Features have the type that the model
            gives them.
        is_required: Whether the user named it, so that no other one may stand in.
    """

    name: str = "tensorflow"
    precision: str = "float32"
    is_required: bool = dataclasses.field(default=False, compare=False)

    @property
    def is_plain(self) -> bool:
        """Whether it is Keras' own call of the model."""
        return self.name == "tensorflow" and self.precision == "float32"

    def __str__(self) -> str:
        name = {"tensorflow": "TensorFlow", "openvino": "OpenVINO"}[self.name]
        return f"{name} in {self.precision}"


PLAIN = Engine()


def open_engine(engine: Any, precision: Any) -> Engine:
    """Check the arguments, and choose what this machine can do of them.

    Raises:
        InputError: One of them is unknown.
        ImportError: OpenVINO is asked for by its name, and is not installed or cannot be imported.
    """
    if engine not in ENGINES:
        raise InputError(f"engine must be one of {_quoted(ENGINES)}. Received: {engine!r}.")
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {_quoted(PRECISIONS)}. Received: {precision!r}.")
    if engine == "tensorflow":
        return Engine("tensorflow", precision, is_required=True)
    if engine == "auto":
        return _chosen(precision)
    if missing := _missing_openvino():
        raise ImportError(f"engine='openvino' is another package, which {missing}")
    return Engine("openvino", _possible(precision), is_required=True)


def _quoted(names: Any) -> str:
    return ", ".join(map(repr, names))


def _chosen(precision: str) -> Engine:
    """The fastest engine for a precision. In float32 it is TensorFlow, whose numbers are the model's."""
    if precision == "float32" or has_gpu():
        return Engine("tensorflow", precision)
    if missing := _missing_openvino():
        warn(
            f"the frozen part runs in float32: on a processor precision={precision!r} runs in OpenVINO, "
            f"which {missing}"
        )
        return PLAIN
    possible = _possible(precision)
    return PLAIN if possible == "float32" else Engine("openvino", possible)


def _possible(precision: str) -> str:
    """The precision, or float32 where the processor would only imitate it."""
    if precision in _native_precisions():
        return precision
    warn(
        f"this processor has no instructions for {precision}, and would be slower with it: the frozen "
        "part runs in float32."
    )
    return "float32"


def _native_precisions() -> set[str]:
    """The precisions that this processor has instructions for."""
    import openvino

    names = {"FP32": "float32", "BF16": "bfloat16", "FP16": "float16"}
    found = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {names[name] for name in found if name in names}


def has_gpu() -> bool:
    """Whether TensorFlow computes on a graphics processor."""
    return bool(tf.config.list_physical_devices("GPU"))


def _missing_openvino() -> str | None:
    """Why OpenVINO cannot be used, and what to do; None if it can."""
    if importlib.util.find_spec("openvino") is None:
        return 'is not installed. Install it: pip install "topwork[openvino]"'
    try:
        importlib.import_module("openvino")
    except Exception as error:  # of a broken installation, whatever its shared libraries raise
        return (
            f"cannot be imported ({type(error).__name__}: {error}). Install it anew: "
            "pip install --force-reinstall openvino"
        )
    return None


def version_of(engine: Engine) -> str:
    """The version of what computes, as a part of a store's address."""
    if engine.name == "tensorflow":
        return tf.__version__
    import openvino

    return str(openvino.__version__)


def explained_difference(engine: Engine, layers: Sequence[keras.Layer]) -> float:
    """How far rounding alone may bring features from the model's own, as a part of their size.

    The model itself rounds too, where its layers are of a shorter precision than the engine. Errors of
    layers that follow each other add up like steps of a random walk. Measured on MobileNet, InceptionV3
    and VGG16 with their ImageNet weights in bfloat16: 0.2 to 0.7 times that, in the median of
    photographs; up to 1.5 times in a single one.
    """
    n_layers = sum(bool(layer.weights) for layer in layers)
    own = max((PRECISIONS.get(layer.compute_dtype, 0.0) for layer in layers), default=0.0)
    rounding = max(PRECISIONS[engine.precision], own) / 2 * max(1, n_layers) ** 0.5
    return max(4 * rounding, _ANOTHER_ORDER)
