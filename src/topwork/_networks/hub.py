"""Networks of KerasHub as flat models, with their preprocessing, that can be cut and frozen anywhere."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from topwork._errors import InputError, warn, whole_number
from topwork._networks.graph import steps
from topwork._networks.hub_embeddings import embedded, is_embedding
from topwork._networks.hub_sources import Source, converter_of, find_source
from topwork._networks.opening import open_graph
from topwork._networks.variables import give_weights
from topwork._networks.weight_files import check_is_file
from topwork._networks.weights import load_weights
from topwork._private_keras import inner_layers, names_from_zero

# What KerasHub calls the rates of dropout among the settings of its networks.
_DROPOUT = (
    *("attention_dropout", "drop_path", "drop_path_rate", "dropout", "dropout_rate"),
    "max_drop_path_rate",
)
_SHAPES = ("image_shape", "input_shape")


def load_hub_network(
    source: Source, *, weights: Any, input_shape: Any, preprocess: Any, options: dict[str, Any]
) -> keras.Model:
    """The whole network as a flat model, with nothing random in it.

    Its layers are made anew from what they say of themselves: so a file of the model can be loaded, and
    the network that was passed stays as it is.
    """
    with warnings.catch_warnings(), names_from_zero():
        warnings.simplefilter("ignore")  # what Keras says of KerasHub's layers helps nobody
        if source.network is not None:
            _check_takes_images(source, source.network)
        settings = source.settings(options)  # first: it tells whether there is such a preset
        converter = converter_of(source, preprocess)
        shape = _image_shape(source, settings, converter, input_shape)
        own = weights is not None and not _is_file(weights)
        network = source.build(settings, _changed(settings, shape, options), weights=own)
        _check_takes_images(source, network)
        flat = _flat(source, network, shape, converter)
    if _is_file(weights):
        load_weights(flat, weights, flat, lambda: flat)
    return flat


def opened(model: Any, input_shape: Any = None) -> Any:
    """A network of KerasHub as `load_backbone` makes a backbone of it; anything else as it is.

    What is frozen in it stays so. Its pixels are prepared by what it has for that, if it has something.
    """
    source = find_source(model, None) if isinstance(model, keras.Model) else None
    if source is None:
        return model
    flat = load_hub_network(
        source,
        weights="imagenet",
        input_shape=input_shape,
        preprocess=source.converter is not None,
        options={},
    )
    if source.converter is None:
        warn(
            f"nothing says how {source.name!r} wants its pixels, and no network of KerasHub takes 0 to "
            "255. Make the backbone by load_backbone(network, preprocess=...), with the ImageConverter "
            "of keras_hub.layers that belongs to it, or False if the images are prepared outside."
        )
    return flat


def _is_file(weights: Any) -> bool:
    """Whether weights are those of a file, and not those that come with the network."""
    if weights is None or weights == "imagenet" or Path(weights).is_dir():
        return False
    return str(weights).endswith((".h5", ".keras")) and bool(check_is_file(weights))


def _changed(settings: dict[str, Any], shape: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The settings in which the network differs from what it comes as."""
    changed: dict[str, Any] = {name: 0.0 for name in _DROPOUT if name in settings}
    n_channels = _known_shape(settings)[-1]
    changed |= {name: (*shape[:2], n_channels) for name in _SHAPES if name in settings}
    if settings.get("data_format") == "channels_first":
        changed["data_format"] = "channels_last"  # of the same weights
    # Some name their layers after themselves.
    return {**options, **changed, "name": None}


def _known_shape(settings: dict[str, Any]) -> tuple[Any, ...]:
    """Of the images that a network was made for: (height, width, channels), the first two maybe None."""
    given = (settings.get(name) for name in _SHAPES)
    known = next((shape for shape in given if isinstance(shape, (tuple, list))), (None, None, 3))
    is_first = settings.get("data_format") == "channels_first"
    return (*known[1:], known[0]) if is_first else tuple(known)


def _image_shape(source: Source, settings: Any, converter: Any, shape: Any) -> tuple[int, int, int]:
    known = _known_shape(settings)
    if shape is None:
        size = getattr(converter, "image_size", None) or known[:2]
        if None in size:
            raise InputError(
                f"{source.name!r} takes images of any size. Say which: load_backbone(..., "
                "input_shape=(height, width, 3))."
            )
        return size[0], size[1], known[-1]
    sizes = tuple(whole_number(n) or 0 for n in shape) if hasattr(shape, "__len__") else ()
    if len(sizes) != 3 or sizes[2] not in (1, known[-1]) or min(sizes) < 1:
        raise InputError(
            f"input_shape of {source.name!r} is (height, width, {known[-1]}), or 1 for "
            f"grey, whole pixels. Received: {shape!r}."
        )
    return sizes[0], sizes[1], sizes[2]


def _check_takes_images(source: Source, network: keras.Model) -> None:
    shapes = [tuple(tensor.shape) for tensor in network.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise InputError(
            f"{source.name!r} ({type(network).__name__}) is no network for images: it takes {shapes}."
        )


def _flat(source: Source, network: keras.Model, shape: Any, converter: Any) -> keras.Model:
    image = keras.Input(shape, name="input_layer")
    n_channels = network.inputs[0].shape[-1]
    x = image
    if shape[-1] != n_channels:
        x = keras.layers.Concatenate(name="grey_to_colours")([image] * n_channels)
    pixels = _preprocessed(x, converter)
    outputs = open_graph(network, pixels, _is_opened, _replaced)
    deepest = _deepest(network)
    flat = keras.Model(image, outputs[deepest], name=source.name)
    _freeze_as_before(flat)
    images = np.random.default_rng(0).uniform(0, 255, (2, *shape)).astype("float32")
    given = images if pixels is image else keras.Function(image, pixels)(images)
    expected = keras.tree.flatten(keras.Model(network.inputs[0], network.outputs[deepest])(given))[-1]
    return _rebuilt(source, flat, np.asarray(expected, "float32"), images)


def _freeze_as_before(flat: keras.Model) -> None:
    """Let the layers say what their variables say, which a copy has from the network it is of."""
    for layer in flat.layers:
        if layer.weights and not any(weight.trainable for weight in layer.weights):
            layer.trainable = False


def _deepest(network: keras.Model) -> int:
    """Which of several outputs is made last; some networks give that of every stage."""
    made = [tensor for step in steps(network) for tensor in step.outputs]
    places = {id(tensor): place for place, tensor in enumerate(made)}
    return int(np.argmax([places[id(tensor)] for tensor in network.outputs]))


def _preprocessed(pixels: Any, converter: Any) -> Any:
    """As the layer does it, but for resizing: that belongs to reading."""
    if converter is None:
        return pixels
    if not (hasattr(converter, "scale") and hasattr(converter, "offset")):
        return converter(pixels)
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return keras.layers.Rescaling(scale, offset, name="preprocessing")(pixels)


def _is_opened(layer: Any) -> bool:
    """Whether the layers inside one take its place."""
    if type(layer) is keras.layers.MultiHeadAttention:
        return True
    of_hub = type(layer).__module__.startswith("keras_hub.") and not isinstance(layer, keras.Model)
    return of_hub and bool(inner_layers(layer))


def _replaced(layer: Any, args: Any) -> Any:
    """What stands for the call of a layer in the flat model; None for the call itself."""
    # Whole branches left out at random are KerasHub's, and nothing else, under some names.
    is_nothing = isinstance(layer, (keras.layers.Dropout, keras.layers.Identity))
    if is_nothing or type(layer).__name__.endswith("DropPath"):
        return args[0]
    return embedded(layer, args[0]) if is_embedding(layer) else None


def _rebuilt(source: Source, flat: keras.Model, expected: Any, images: Any) -> keras.Model:
    """The flat model as a file gives it back, if that gives what the network gives."""
    try:
        rebuilt = keras.Model.from_config(flat.get_config())
        give_weights(rebuilt, flat.get_weights())
        received = np.asarray(rebuilt(images), "float32")
    except Exception as error:  # it is another package's code
        raise _different_error(source, f"{type(error).__name__}: {error}") from error
    size = float(np.linalg.norm(expected))
    is_half = any("16" in str(layer.compute_dtype) for layer in flat.layers)
    most = 0.2 if is_half else 1e-2  # a number of 8 bits is rounded in each layer
    if received.shape != expected.shape or not np.linalg.norm(received - expected) <= most * size:
        raise _different_error(source, "it gives other features")
    return rebuilt


def _different_error(source: Source, problem: str) -> InputError:
    return InputError(
        f"{source.name!r} cannot be taken apart: made again from what its layers say of "
        f"themselves, it is another network ({problem[:300]}). Take it as one layer: "
        "image = keras.Input(shape); add_head(...)(keras.Model(image, network(image)))."
    )
