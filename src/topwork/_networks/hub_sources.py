"""Where a network of KerasHub comes from: a preset, a folder with one, a class, an object, a classifier.

KerasHub is imported where one of its networks is asked for, and nowhere else.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import keras

from topwork._errors import InputError, closest, plain
from topwork._networks.variables import give_weights

_PREFIX = "hub:"


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a network comes from.

    Attributes:
        name: What the model is called.
        kind: The class of the network.
        preset: The name or the folder of a preset; None if it comes from none.
        network: A network that is there; None if it has to be made.
        converter: What goes with that one, if it is known.
    """

    name: str
    kind: Any
    preset: str | None = None
    network: Any = None
    converter: Any = None

    def settings(self, options: dict[str, Any]) -> dict[str, Any]:
        """What the network is made with: the names of its arguments, and their values."""
        if self.network is not None:
            # KerasHub (0.32) leaves it out of what a network says of itself.
            is_first = getattr(self.network, "data_format", None) == "channels_first"
            order = {"data_format": "channels_first"} if is_first else {}
            return {**self.network.get_config(), **order, **options}
        if self.preset is not None:
            return {**_from_preset(self.kind, self.preset, load_weights=False).get_config(), **options}
        parameters = inspect.signature(self.kind).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD} | options

    def build(self, settings: dict[str, Any], changed: dict[str, Any], *, weights: bool) -> keras.Model:
        """The network, some of its settings changed; with its own weights, or random ones."""
        if self.network is not None:
            made = self.kind.from_config({**settings, **changed})
            if weights:
                _copy(self.network, made)
            return made
        if self.preset is not None:
            return _from_preset(self.kind, self.preset, load_weights=weights, **changed)
        given = {k: v for k, v in {**settings, **changed}.items() if v is not inspect.Parameter.empty}
        try:
            return self.kind(**given)
        except TypeError as error:  # an argument that is missing
            raise InputError(f"{self.kind.__name__} cannot be made: {error}.") from error


def find_source(name: Any, weights: Any) -> Source | None:
    """The source that `name` stands for; None if it has nothing to do with KerasHub."""
    if isinstance(name, str) and name.lower().startswith(_PREFIX):
        return _preset_source(name[len(_PREFIX) :])
    is_path = isinstance(name, str) and (os.sep in name or Path(name).is_dir())
    if is_path or isinstance(name, os.PathLike):
        return _preset_source(os.fspath(name))
    if isinstance(name, type) and _is_of_hub(name, "Backbone"):
        preset = str(weights) if isinstance(weights, (str, os.PathLike)) else None
        if preset in (None, "imagenet") or Path(str(preset)).is_file():
            return Source(name.__name__.lower(), name)
        return Source(_last_part(str(preset)), name, str(preset))
    if _is_of_hub(type(name), "Task"):
        converter = getattr(name.preprocessor, "image_converter", None)
        return _network_source(name.backbone, converter)
    if _is_of_hub(type(name), "Backbone"):
        return _network_source(name)
    return None


def converter_of(source: Source, preprocess: Any) -> Any:
    """The layer that makes of raw pixels what the network takes; None if that is done outside.

    Raises:
        ValueError: Nothing says how it is done.
    """
    if preprocess is False:
        return None
    if isinstance(preprocess, keras.Layer):
        return preprocess
    found = source.converter
    if source.preset is not None:
        found = _converter_of_preset(source.preset)
    if found is None:
        raise InputError(
            f"nothing says how {source.name!r} wants its pixels. Pass preprocess= the "
            "keras_hub.layers.ImageConverter, or the keras.layers.Rescaling, that makes of 0 to 255 what "
            "it was trained on; or preprocess=False for images that are prepared outside."
        )
    return found


def _preset_source(preset: str) -> Source:
    is_path = os.sep in preset and ":" not in preset  # "kaggle://...", "hf://..." are addresses
    if is_path and not Path(preset).is_dir():
        raise InputError(
            f"there is no folder {preset!r}. A preset is a name, such as 'hub:dinov2_small', or the path "
            "of a folder that keras_hub's save_to_preset wrote, or downloaded."
        )
    hub = _keras_hub(preset)
    return Source(_last_part(preset), hub.models.Backbone, preset)


def _keras_hub(preset: str) -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError(
            f"load_backbone: {preset!r} is a network of KerasHub, which cannot be imported ({error}). "
            'Install it: pip install "topwork[hub]".'
        ) from error
    return keras_hub


def _from_preset(kind: Any, preset: str, **options: Any) -> keras.Model:
    try:
        return kind.from_preset(preset, **options)
    except OSError as error:
        if Path(preset).is_dir():
            raise InputError(
                f"the preset {preset!r} is not whole ({error}). A folder that save_to_preset wrote has "
                "config.json and model.weights.h5; weights=None needs the former alone."
            ) from error
        raise ConnectionError(
            f"load_backbone: the preset {preset!r} could not be downloaded ({error}). Where there is no "
            "network, download its folder elsewhere and pass the path: "
            "load_backbone('path/to/folder', ...)."
        ) from error
    except (ValueError, TypeError) as error:
        if "Unknown preset" in str(error):
            raise InputError(
                f"KerasHub has no preset {preset!r}. Closest: "
                f"{closest(preset, kind.presets)}. keras_hub.models.Backbone.presets lists all."
            ) from error
        raise InputError(f"the preset {preset!r} cannot be loaded: {error}") from error


def _converter_of_preset(preset: str) -> Any:
    import keras_hub

    try:
        return keras_hub.layers.ImageConverter.from_preset(preset)
    except (FileNotFoundError, ValueError):  # there is none in it, or none for this class
        return None


def _copy(network: keras.Model, made: keras.Model) -> None:
    try:
        if any("interpolated" in weight.path for weight in made.weights):
            _copy_by_file(network, made)
        else:
            give_weights(made, network.get_weights())
        for old, new in zip(network.weights, made.weights, strict=True):
            new.trainable = old.trainable
    except ValueError as error:
        raise InputError(
            f"the weights of {network.name!r} do not fit the network as it was asked for: "
            f"{error} A transformer with position embeddings takes images of its own size only."
        ) from error


def _copy_by_file(network: keras.Model, made: keras.Model) -> None:
    """As a file gives weights: DINOv2 makes positions for images of another size of those that it has."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.weights.h5"
        network.save_weights(path)
        made.load_weights(path)


def _is_of_hub(kind: type, name: str) -> bool:
    return any(
        each.__name__ == name and each.__module__.startswith("keras_hub.") for each in kind.__mro__
    )


def _last_part(preset: str) -> str:
    return Path(preset).name


def _network_source(network: keras.Model, converter: Any = None) -> Source:
    kind = type(network)
    # A name that Keras counted up is another one in the next process.
    is_counted = plain(re.sub(r"_\d+$", "", network.name)) == plain(kind.__name__)
    name = kind.__name__.lower() if is_counted else network.name
    return Source(name, kind, network=network, converter=converter)
