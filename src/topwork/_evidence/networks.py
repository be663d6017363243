"""The networks that are named to be compared: by names, or models of the user's own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from topwork._errors import InputError, closest, plain
from topwork._networks.backbones import cut_points, load_backbone
from topwork._networks.graph import layer_outputs, require_functional
from topwork._networks.hub import opened
from topwork._networks.hub_sources import find_source

Weights = str | os.PathLike[str] | None


def check_names(names: list[Any], weights: Any, cut_layers: Any) -> None:
    for each in names:
        if isinstance(each, keras.Model):
            require_functional(each)
    if not names:
        raise InputError(
            "name is a backbone's name, a keras.Model, or a list of them. Received: an "
            "empty list. list_backbones() lists the names."
        )
    if isinstance(cut_layers, str) or (cut_layers is not None and not cut_layers):
        raise InputError(
            f"cut_layers must be a list of layer names. Received: {cut_layers!r}. Leave it "
            "out to compare the ends of blocks."
        )
    if isinstance(weights, Mapping):
        _check_weights_names(weights, [each for each in names if isinstance(each, str)])


def _check_weights_names(weights: Mapping[str, Weights], names: list[str]) -> None:
    unused = [key for key in weights if plain(key) not in map(plain, names)]
    if unused:
        raise InputError(
            f"weights are given for {unused[0]!r}, which is not compared. Closest: "
            f"{closest(unused[0], names) or 'none, as no network is given by its name'}."
        )


def weights_of(name: str | keras.Model, weights: Weights | Mapping[str, Weights]) -> Weights:
    if not isinstance(weights, Mapping):
        return weights
    by_spelling = {plain(key): value for key, value in weights.items()}
    return by_spelling.get(plain(name), "imagenet") if isinstance(name, str) else None


def load_network(
    name: str | keras.Model, cut_layers: Sequence[str], weights: Weights, shape: Any
) -> keras.Model:
    """The network without its classifier top, or up to that layer of the top that is to be compared."""
    if isinstance(name, keras.Model):
        return opened(name, shape)
    network = load_backbone(name, weights=weights, input_shape=shape)
    beyond = set(cut_layers) - layer_outputs(network).keys()
    of_top = [layer for layer in cut_points(name) if layer in beyond] if beyond else []
    return load_backbone(name, of_top[-1], weights=weights, input_shape=shape) if of_top else network


def by_hand(given: str | keras.Model, cut: str, weights: Weights, shape: Any) -> str:
    """Python that makes the network up to a cut, as `load_network` made the whole of it.

    A model of the user's own is called `network`.
    """
    is_own = isinstance(given, keras.Model)
    if is_own and find_source(given, None) is None:
        return f'keras.Model(network.inputs, network.get_layer("{cut}").output)'
    name = _quoted(given) if isinstance(given, (str, os.PathLike)) else "network"
    of_file = "" if is_own or weights == "imagenet" else f", weights={weights and _quoted(weights)}"
    return f'tw.load_backbone({name}, "{cut}", input_shape={tuple(shape)}{of_file})'


def _quoted(text: str | os.PathLike[str]) -> str:
    return json.dumps(os.fspath(text), ensure_ascii=False)


def check_network(network: keras.Model, others: Sequence[str]) -> None:
    """Raise for a network that cannot be told apart from others, or whose cost is not known."""
    if network.name in others:
        raise InputError(
            f"two of the networks are named {network.name!r}, and could not be told "
            "apart in the table. Name one anew: keras.Model(model.inputs, model.outputs, name=...)."
        )
    if None in network.inputs[0].shape[1:]:
        raise InputError(
            f"{network.name!r} takes images of any size, {network.inputs[0].shape}, so "
            "that its cost is not known. Build it for one: load_backbone(..., input_shape=...)."
        )
