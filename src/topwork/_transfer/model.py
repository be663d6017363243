"""The plain Keras model that a candidate and its solution make, and the lines that make it by hand."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from topwork._data.origin import learn_names
from topwork._networks.freezing import freeze
from topwork._networks.graph import layer_outputs
from topwork._networks.heads import add_head
from topwork._networks.units import UNITS, set_units
from topwork._training.linear import LinearModel
from topwork._transfer.pooled import Candidate, Pooled
from topwork._transfer.targets import Targets


def build(pooled: Pooled, candidate: Candidate, data: Any) -> keras.Model:
    """The network cut where the candidate says, frozen, with a head of one Dense layer on it."""
    network, targets, cut = pooled.network, pooled.targets, candidate.cuts[-1]
    backbone = keras.Model(network.inputs, layer_outputs(network)[cut], name=network.name)
    model = add_head(
        targets.n_outputs,
        dropout=0.0,
        pooling="pyramid" if candidate.pyramid else "avg",
        hidden_units=None,
        task=targets.task,
        with_layers=candidate.cuts[:-1],
    )(freeze(backbone))
    if targets.task == "numbers":
        set_units(model, targets.values, by_gradients=False)
    learn_names(model, data)
    return model


def write_solution(model: keras.Model, solved: LinearModel) -> None:
    """Put a solution into the model's Dense layer."""
    kernel, bias = solved.kernel, solved.bias
    units = next((layer for layer in model.layers if layer.name == UNITS), None)
    if units is not None:
        scale = np.asarray(units.scale, np.float64)
        kernel, bias = kernel / scale, (bias - np.asarray(units.offset)) / scale
    model.get_layer("head_output").set_weights([kernel, bias])


def recipe(candidate: Candidate, targets: Targets, backbone: str, is_measured: bool) -> str:
    """The lines of Python that make the same model by hand, on a backbone that a line makes."""
    options = [f"{targets.n_outputs}", "hidden_units=None"]
    if candidate.pyramid:
        options.append('pooling="pyramid"')
    if targets.task != "classes":
        options.append(f'task="{targets.task}"')
    if len(candidate.cuts) > 1:
        names = ", ".join(f'"{cut}"' for cut in candidate.cuts[:-1])
        options.append(f"with_layers=[{names}]")
    return "\n".join(
        [
            f"backbone = {backbone}",
            f"model = tw.add_head({', '.join(options)})(tw.freeze(backbone))",
            f"tw.fit_head(model, train{', validation_data=validation' if is_measured else ''})",
        ]
    )
