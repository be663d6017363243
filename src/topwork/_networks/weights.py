"""Reading pretrained weights from a local file."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from topwork._errors import InputError
from topwork._networks.graph import sublayers
from topwork._networks.variables import give_weights
from topwork._networks.weight_files import check_is_file, check_sizes, check_total, warn_if_altered

_Stored = list[tuple[str, list[Any]]]


def load_weights(
    backbone: keras.Model,
    path: str | os.PathLike[str],
    network: keras.Model,
    build_whole: Callable[[], keras.Model],
) -> None:
    """Load `backbone` from a file that was written for it, for a larger model, or for the network.

    Args:
        backbone: The network up to the cut; it shares its layers with `network`.
        path: A `.h5` file (the layout of the official files, or a whole model), `.weights.h5` or
            `.keras`.
        network: The network that `backbone` was cut from.
        build_whole: Makes the network with its classifier top.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a file, cannot be read, or does not fit the network.
    """
    file = check_is_file(path)
    try:
        check_sizes(file)
        stored = _read(file)
    except Exception as error:
        raise InputError(
            f"the weights file {str(file)!r} cannot be read as .h5, .weights.h5 or .keras ({error})."
        ) from error
    if stored is None:
        _load_container(backbone, file, network, build_whole)
    else:
        if file.suffix == ".h5":
            warn_if_altered(file)
        _assign(backbone, file, network, stored)
    _check_finite(backbone, file)


def _check_finite(backbone: keras.Model, file: Path) -> None:
    """Of flipped bits those in exponents; all of them only a checksum would find."""
    for layer in _weighted(backbone, inside=True):
        if not all(np.isfinite(array).all() for array in layer.get_weights() if array.dtype.kind == "f"):
            raise InputError(
                f"the weights file {str(file)!r} has weights that are NaN or infinite, first in layer "
                f"{layer.name!r}. It is damaged, or was saved by a training that diverged: load another."
            )


def _read(file: Path) -> _Stored | None:
    """Layer names and arrays in the order of the file; None for Keras 3's own weights layout."""
    if file.suffix == ".keras":
        model = keras.saving.load_model(file, compile=False)
        return [(layer.name, layer.get_weights()) for layer in _weighted(model, inside=True)]
    with h5py.File(file) as archive:
        group = archive.get("model_weights", archive)
        layers = [(name, group[name]) for name in _names(group, "layer_names")]
        found = [
            (name, [layer[each] for each in _names(layer, "weight_names")]) for name, layer in layers
        ]
        # Of what is read: one array may be listed under many names.
        check_total(sum(each.nbytes for _, arrays in found for each in arrays), file.stat().st_size)
        stored = [(name, list(map(np.asarray, arrays))) for name, arrays in found if arrays]
    return stored if layers else None


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """The strings of an attribute; Keras writes a long one in pieces, `layer_names0` and so on."""
    pieces = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(pieces)}" in group.attrs:
        pieces.append(f"{attribute}{len(pieces)}")
    values = [value for piece in pieces for value in group.attrs[piece]]
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def _weighted(model: keras.Model, *, inside: bool) -> list[keras.Layer]:
    """The layers with weights; a model used as a layer is one of them, or those inside it are."""
    if not inside:
        return [layer for layer in model.layers if layer.weights]
    layers = (layer for layer in sublayers(model.layers) if not isinstance(layer, keras.Model))
    return [layer for layer in layers if layer.weights]


def _assign(backbone: keras.Model, file: Path, network: keras.Model, stored: _Stored) -> None:
    """By name where the file has every layer of the backbone, else in order, as Keras does.

    A .h5 file lists the weights of an inner model as one layer's; if they do not fit, the backbone may be
    that inner model.
    """
    is_keras = file.suffix == ".keras"
    layers, matched = _matched(backbone, network, stored, inside=is_keras)
    mismatch = _first_mismatch(layers, matched)
    if mismatch and not is_keras:
        inner, given = _matched(backbone, network, _by_inner_layer(file), inside=True)
        if not _first_mismatch(inner, given):
            layers, matched, mismatch = inner, given, None
    if mismatch:
        raise InputError(
            f"the weights file {str(file)!r} does not fit {backbone.name!r}: {mismatch}. "
            "The name, the options (such as alpha) and, for a layer of the classifier top, the "
            "input_shape must be those that the file was made with."
        )
    for layer, (_, weights) in zip(layers, matched, strict=False):
        give_weights(layer, weights)


def _matched(
    backbone: keras.Model, network: keras.Model, stored: _Stored, *, inside: bool
) -> tuple[list[keras.Layer], _Stored]:
    """Layers, and what is stored of each, in the same order."""
    layers = _weighted(backbone, inside=inside)
    by_name = dict(stored)
    if all(layer.name in by_name for layer in layers):
        return layers, [(layer.name, by_name[layer.name]) for layer in layers]
    return _weighted(network, inside=inside), stored


def _by_inner_layer(file: Path) -> _Stored:
    """As `_read`, with the layers inside of models: the name of a weight ends in its layer's and its own.

    The weights of an inner model lie in the order of what can be trained and what cannot; each layer's
    own are in order.
    """
    found: dict[str, list[Any]] = {}
    with h5py.File(file) as archive:
        group = archive.get("model_weights", archive)
        for name in _names(group, "layer_names"):
            for weight in _names(group[name], "weight_names"):
                owner = weight.split("/")[-2] if "/" in weight else name
                found.setdefault(owner, []).append(np.asarray(group[name][weight]))
    return list(found.items())


def _first_mismatch(layers: Sequence[keras.Layer], stored: _Stored) -> str | None:
    for layer, (name, weights) in zip(layers, stored, strict=False):
        expected = [tuple(weight.shape) for weight in layer.weights]
        received = [tuple(weight.shape) for weight in weights]
        if expected != received:
            return (
                f"layer {layer.name!r} expects weights of shapes {expected}, and the file's "
                f"{name!r} has {received}"
            )
    if len(stored) < len(layers):
        return (
            f"the network has {len(layers)} layers with weights and the file {len(stored)}; the first "
            f"that it lacks is {layers[len(stored)].name!r}"
        )
    return None


def _inner_models(file: Path, folder: Path) -> Iterator[Path]:
    """Files of the models inside of a model, each as Keras would have written that model alone."""
    with h5py.File(file) as archive:
        found: list[str] = []
        archive.visititems(
            lambda name, each: found.append(name) if name.endswith("/layers") and len(each) else None
        )
        for i, name in enumerate(found):
            path = folder / f"{i}.weights.h5"
            with h5py.File(path, "w") as inner:
                for key, each in archive[name].parent.items():
                    archive.copy(each, inner, key)
            yield path


def _load_container(
    backbone: keras.Model, file: Path, network: keras.Model, build_whole: Callable[[], keras.Model]
) -> None:
    """Keras 3's layout tells layers by their class and order: try what it may be of, in turn.

    The uncut network comes before the cut one: it does not load from the file of the cut one, which
    could load from its file by mistake, layers of the same class in another order.
    """
    problem = None
    candidates: list[Callable[[], Any]] = [lambda: network, lambda: backbone, build_whole]
    with tempfile.TemporaryDirectory() as folder:
        for path in (file, *_inner_models(file, Path(folder))):
            for candidate in candidates:
                model = candidate()
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # about what else is in the file, such as a head
                        model.load_weights(path)
                except (ValueError, KeyError) as error:
                    problem = problem or error
                    continue
                for layer in _weighted(backbone, inside=False):
                    give_weights(layer, model.get_layer(layer.name).get_weights())
                return
    raise InputError(f"the weights file {str(file)!r} does not fit {backbone.name!r}: {problem}")
