"""`describe`: what a model is made of, and which part of it training can change."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from topwork._names import published
from topwork._tables import Columns, Rows, html_lines, html_table

State = Literal["frozen", "trainable", "partial", "no weights"]
_COLUMNS = ("index", "name", "type", "output shape", "parameters", "state")
_TINTS = {
    "frozen": "rgba(70, 130, 200, 0.16)",
    "trainable": "rgba(240, 140, 30, 0.20)",
    "partial": "rgba(150, 110, 190, 0.20)",
    "no weights": "transparent",
}


@published
@dataclass(frozen=True)
class LayerRow:
    """One layer, as `describe` found it.

    Attributes:
        index: Its place in ``model.layers``, what `freeze` and `fine_tune` count in.
        name: Its name.
        type: The name of its class.
        output_shape: Shape of its output, the batch first; ``None`` where Keras does not know it.
        parameters: How many numbers its weights hold.
        state: ``"frozen"``, ``"trainable"``, ``"partial"`` (a model or another layer with
            layers of both kinds inside) or ``"no weights"``.
        zone: The state of the stretch of layers it stands in: layers without weights and frozen
            BatchNormalization layers belong to what surrounds them.
    """

    index: int
    name: str
    type: str
    output_shape: Any
    parameters: int
    state: State
    zone: State

    def cells(self) -> tuple[str, ...]:
        """The row as the texts of a table."""
        shape = "?" if self.output_shape is None else str(self.output_shape)
        state = "-" if self.state == "no weights" else self.state
        return (str(self.index), self.name, self.type, shape, f"{self.parameters:,}", state)


@published
@dataclass(frozen=True)
class LayerTable(Rows[LayerRow]):
    """The layers of a model; prints as text, renders in a notebook, iterates over its rows.

    Attributes:
        model_name: The model's name.
        rows: One `LayerRow` for each layer of ``model.layers``.
        parameters: Parameters of the whole model, shared ones counted once.
        trainable_parameters: Those of them that training changes.
    """

    model_name: str
    rows: tuple[LayerRow, ...]
    parameters: int
    trainable_parameters: int

    def __str__(self) -> str:
        columns = Columns.of(_COLUMNS, [row.cells() for row in self.rows])
        header = columns.text(_COLUMNS)
        lines = [f"{self.model_name}: {len(self)} layers", "", header]
        for run in _runs(self.rows):
            lines.append(f"── {_run_title(run)} ".ljust(len(header), "─"))
            lines += [columns.text(row.cells()) for row in run]
        return "\n".join([*lines, "─" * len(header), self._totals()])

    def _totals(self) -> str:
        frozen = self.parameters - self.trainable_parameters
        return (
            f"parameters: {self.parameters:,} in all, {self.trainable_parameters:,} trainable, "
            f"{frozen:,} not trainable"
        )

    def _repr_html_(self) -> str:
        runs = _runs(self.rows)
        summary = html_lines(f"{self.model_name}: {len(self)} layers", self._totals(), bold=1)
        return (
            summary
            + html_lines(*map(_run_title, runs))
            + html_table(
                _COLUMNS,
                [row.cells() for row in self.rows],
                styles={row.index: f"background: {_TINTS[row.state]}" for row in self.rows},
                titles={run[0].index: _run_title(run) for run in runs},
                height="32em",
            )
        )


def describe(model: Any) -> LayerTable:
    """List the layers of a model and show where frozen ends and trainable begins.

    The indices are those of ``model.layers``, so a number read here can be given to
    `topwork.freeze` and `topwork.fine_tune` as it stands.

    Args:
        model: Any built `keras.Model`.

    Returns:
        A table that prints as text and renders in a notebook, and whose rows are records,
        ``[row.name for row in describe(model) if row.state == "trainable"]``.

    Raises:
        ValueError: `model` is not a Keras model, or it was not built yet.

    Example:
        >>> import keras, topwork as tw
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="scores")])
        >>> print(tw.describe(model)[0])  # doctest: +ELLIPSIS
        LayerRow(index=0, name='scores', type='Dense', output_shape=(None, 3), parameters=15, ...)
    """
    _check_built_model(model)
    states = [_state(layer) for layer in model.layers]
    zones = _zones(model.layers, states)
    rows = tuple(
        _row(index, layer, state, zone)
        for index, (layer, state, zone) in enumerate(zip(model.layers, states, zones, strict=True))
    )
    return LayerTable(
        model_name=model.name,
        rows=rows,
        parameters=_count(model.weights),
        trainable_parameters=_count(model.trainable_weights),
    )


def _check_built_model(model: Any) -> None:
    import keras

    if not isinstance(model, keras.Model):
        hint = " Load the file first, with keras.saving.load_model()." * isinstance(model, str)
        raise ValueError(
            f"describe() takes a keras.Model. Received: {model!r} ({type(model).__name__}).{hint}"
        )
    if not model.built:
        raise ValueError(
            f"describe() needs a model that was built; model {model.name!r} does not know the shape "
            "of its input yet, so its layers have no weights and no output shapes. Begin it with a "
            "keras.Input(shape), or call it once on a batch, then describe it."
        )


def _row(index: int, layer: Any, state: State, zone: State) -> LayerRow:
    parameters = _count(layer.weights)
    shape = _output_shape(layer)
    return LayerRow(index, layer.name, type(layer).__name__, shape, parameters, state, zone)


def _count(weights: Any) -> int:
    return sum(_product(weight.shape) for weight in weights)


def _product(shape: Any) -> int:
    size = 1
    for dimension in shape:
        size *= dimension
    return size


def _output_shape(layer: Any) -> Any:
    import keras

    try:
        output = layer.output
    except (AttributeError, ValueError):
        # A layer of a subclassed model was never part of a graph: Keras keeps no output for it.
        return None
    shapes = [tuple(tensor.shape) for tensor in keras.tree.flatten(output)]
    return shapes[0] if len(shapes) == 1 else shapes


def _state(layer: Any) -> State:
    states = {_weights_state(weights) for weights in _weights_inside(layer) if weights}
    if not states:
        return "no weights"
    return states.pop() if len(states) == 1 else "partial"


def _weights_inside(layer: Any) -> Iterator[list[Any]]:
    """The weights of a layer, and of each layer inside it: a loaded file may have thawed those alone."""
    from topwork._private_keras import inner_layers

    inside = inner_layers(layer)
    of_others = {id(weight) for inner in inside for weight in inner.weights}
    yield [weight for weight in layer.weights if id(weight) not in of_others]
    for inner in inside:
        yield from _weights_inside(inner)


def _weights_state(weights: list[Any]) -> State:
    return "trainable" if any(weight.trainable for weight in weights) else "frozen"


def _zones(layers: list[Any], states: list[State]) -> list[State]:
    """The state of the stretch that each layer stands in, so that the table has few borders.

    fine_tune() keeps every BatchNormalization frozen: drawn as a border, each of InceptionV3's 94
    would hide the one border that matters.
    """
    import keras

    known: list[State | None] = [
        None
        if state == "no weights"
        or (state == "frozen" and isinstance(layer, keras.layers.BatchNormalization))
        else state
        for layer, state in zip(layers, states, strict=True)
    ]
    fallback: State = "frozen" if "frozen" in states else "no weights"
    current = next((state for state in known if state is not None), fallback)
    zones = []
    for state in known:
        current = current if state is None else state
        zones.append(current)
    return _with_leading_activations(layers, states, zones)


def _with_leading_activations(layers: list[Any], states: list[State], zones: list[State]) -> list[State]:
    """Move a border up over layers without weights that are marked trainable.

    It then stands exactly where a boundary was set, an activation before the first kernel included.
    """
    zones = list(zones)
    for index in reversed(range(len(zones) - 1)):
        unlocked = states[index] == "no weights" and layers[index].trainable
        if unlocked and zones[index + 1] == "trainable":
            zones[index] = "trainable"
    return zones


def _runs(rows: tuple[LayerRow, ...]) -> list[list[LayerRow]]:
    return [list(run) for _, run in itertools.groupby(rows, key=lambda row: row.zone)]


def _run_title(run: list[LayerRow]) -> str:
    first, last = run[0], run[-1]
    where = f"layer {first.index}" if len(run) == 1 else f"layers {first.index} to {last.index}"
    locked = sum(row.state == "frozen" for row in run)
    exception = f", except {locked} BatchNormalization"
    return f"{where}: {first.zone}" + exception * bool(locked and first.zone != "frozen")
