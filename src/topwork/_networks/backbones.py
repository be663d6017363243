"""Loading a pretrained network, up to the layer where it is cut."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import keras

from topwork._errors import InputError, closest, plain, public
from topwork._networks.applications import APPLICATIONS, Application
from topwork._networks.channels import colour_scaling, take_weights
from topwork._networks.construction import build_application, check_options, checked_shape, preprocessing
from topwork._networks.graph import clean_cuts, require_functional
from topwork._networks.hub import load_hub_network
from topwork._networks.hub_sources import find_source
from topwork._networks.rescaled import has_imagenet_statistics, rescaled
from topwork._networks.weights import load_weights


@public
def load_backbone(
    name: str | os.PathLike[str] | keras.Model | type,
    cut_layer: str | None = None,
    *,
    weights: str | os.PathLike[str] | None = "imagenet",
    input_shape: tuple[int, int, int] | None = None,
    preprocess: bool | keras.Layer = True,
    **options: Any,
) -> keras.Model:
    """A network of `keras.applications` or of KerasHub, up to and including `cut_layer`.

    The model is flat: its layers have the indices that they have in `keras.applications`, and the same
    names on every build. The encoder of a transformer is opened: its blocks are layers of the model, at
    which it can be cut and frozen.

    Dropout inside the network is set to a rate of 0. (EfficientNet drops whole blocks, and some
    classifiers have dropout.) Keras would apply dropout in training even if all layers are frozen, and
    the same image would have other features each time. Keras' own recipe, `network(x,
    training=False)`, switches it off in the same way (https://keras.io/guides/transfer_learning/).

    Args:
        name: The application, in any spelling that differs only in case, `_` and `-`:
            `"inception_v3"`, `"InceptionV3"`. `list_backbones()` lists them. Of KerasHub: a preset,
            `"hub:vit_base_patch16_224_imagenet"`; the folder of one, where there is no network; a
            backbone or an image classifier that was made already; or a class of backbones, with its
            arguments as options and a preset as `weights`.
        cut_layer: The last layer, one of the classifier top (`"fc2"`, `"predictions"`) included.
            None: the last feature map. `cut_points(name)` lists the layers that everything flows
            through; a cut elsewhere leaves out the branches beside it.
        weights: `"imagenet"` (downloaded by Keras; of KerasHub the weights that the network comes
            with), the path to a local `.h5`, `.weights.h5` or `.keras` file, or None for random weights.
        input_shape: (height, width, 3), in pixels; (height, width, 1) for grey images, which are
            repeated three times in the graph, so that all weights are used as they are; (height, width,
            channels) for satellite images and others: channel i is scaled as colour i modulo 3 is, and
            has that colour's part of the first kernel, times 3 / channels, as timm does it
            (`adapt_input_conv`, https://github.com/huggingface/pytorch-image-models). None: the
            size that it was trained at.
        preprocess: True: the model takes raw RGB images, 0 to 255, and does the network's own
            preprocessing itself. False: it takes what the network's `preprocess_input` gives. A
            network of KerasHub that comes without its own takes a `keras_hub.layers.ImageConverter`
            or a `keras.layers.Rescaling` here.
        **options: For the constructor, such as `alpha=0.25` for MobileNet.

    Returns:
        A functional model, images (batch, height, width, channels) in, the cut layer's output out.

    Raises:
        ValueError: An unknown name, layer or option; a shape that the network does not take; or a
            weights file that does not fit it.
        ConnectionError: The weights could not be downloaded.
        ImportError: KerasHub is asked for and not installed.

    Example:
        >>> import topwork as tw
        >>> backbone = tw.load_backbone(
        ...     "InceptionV3", "mixed7", weights=None, input_shape=(150, 150, 3)
        ... )
        >>> len(backbone.layers), backbone.output_shape
        (229, (None, 7, 7, 768))
    """
    source = find_source(name, weights)
    key = _find(name) if source is None else source.name
    if cut_layer is not None and not isinstance(cut_layer, str):
        raise InputError(
            f"cut_layer is a layer name. Received: {cut_layer!r}. cut_points({key!r}) "
            "lists those at which the network can be cut cleanly."
        )
    if source is not None:
        flat = load_hub_network(
            source, weights=weights, input_shape=input_shape, preprocess=preprocess, options=options
        )
        return flat if cut_layer is None else _cut(flat, cut_layer)
    application = APPLICATIONS[key]
    check_options(application, options)
    shape = checked_shape(input_shape, application)
    wanted = _Wanted(key, application, cut_layer, preprocess, options)
    backbone = _loaded(wanted, weights, shape) if shape[2] in (1, 3) else _wide(wanted, weights, shape)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return backbone


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What `load_backbone` was asked for, but for the weights and the shape of the images."""

    key: str
    application: Application
    cut_layer: str | None
    preprocess: bool
    options: dict[str, Any]

    def build(self, shape: tuple[int, int, int], **arguments: Any) -> keras.Model:
        return build_application(self.application, shape, self.preprocess, {**arguments, **self.options})


def _loaded(
    wanted: _Wanted, weights: str | os.PathLike[str] | None, shape: tuple[int, int, int]
) -> keras.Model:
    """The network up to the cut, with its weights."""
    key, cut_layer = wanted.key, wanted.cut_layer

    def build(*, include_top: bool, weights: str | None = None) -> keras.Model:
        return wanted.build(shape, include_top=include_top, weights=weights)

    network, has_top = _with_layer(cut_layer, build, key)
    if weights == "imagenet":
        network = _download(key, lambda: build(include_top=has_top, weights="imagenet"))
    last = network.output if cut_layer is None else network.get_layer(cut_layer).output
    backbone = keras.Model(network.inputs[0], last, name=key)
    if weights is not None and weights != "imagenet":
        load_weights(backbone, weights, network, lambda: build(include_top=True))
        if wanted.application.rescales_imagenet and has_imagenet_statistics(backbone):
            backbone = rescaled(backbone)
    return backbone


def _wide(
    wanted: _Wanted, weights: str | os.PathLike[str] | None, shape: tuple[int, int, int]
) -> keras.Model:
    """The network for images of other channels, with weights for three, or with its own from a file."""
    wide = _loaded(wanted, None, shape)
    if weights is None:
        return wide
    try:
        colours = _loaded(wanted, weights, (shape[0], shape[1], 3))
    except InputError as error:
        try:
            return _loaded(wanted, weights, shape)
        except InputError:
            raise error from None
    places = list(range(3))
    if wanted.preprocess:
        places, _, _ = colour_scaling(preprocessing(wanted.application))
    take_weights(wide, colours, places)
    is_rescaled = wanted.application.rescales_imagenet and has_imagenet_statistics(wide)
    return rescaled(wide) if is_rescaled else wide


@public
def cut_points(name_or_model: str | keras.Model) -> list[str]:
    """The layers at which a network can be cut cleanly: everything flows through each of them.

    Args:
        name_or_model: The name of an application, whose classifier top is included, a network of
            KerasHub as `load_backbone` takes it, or any functional model.

    Returns:
        Layer names, from the input to the output.

    Raises:
        ValueError: An unknown name, or a model whose graph cannot be read.

    Example:
        >>> import topwork as tw
        >>> tw.cut_points("vgg16")[-4:]
        ['flatten', 'fc1', 'fc2', 'predictions']
    """
    source = find_source(name_or_model, "imagenet")
    if source is not None:
        return clean_cuts(
            load_hub_network(source, weights=None, input_shape=None, preprocess=False, options={})
        )
    if not isinstance(name_or_model, str):
        require_functional(name_or_model)
        return clean_cuts(name_or_model)
    application = APPLICATIONS[_find(name_or_model)]
    shape = checked_shape(None, application)
    arguments = {"include_top": True, "weights": None}
    return clean_cuts(build_application(application, shape, True, arguments))


def _cut(network: keras.Model, cut_layer: str) -> keras.Model:
    names = [layer.name for layer in network.layers[1:]]
    if cut_layer not in names:
        raise _unknown_cut_error(network.name, cut_layer, names)
    return keras.Model(network.inputs[0], network.get_layer(cut_layer).output, name=network.name)


def _unknown_cut_error(key: str, cut_layer: str | None, names: list[str]) -> InputError:
    return InputError(
        f"{key!r} has no layer {cut_layer!r} to cut at. Closest: "
        f"{closest(cut_layer, names)}. cut_points({key!r}) lists those that everything flows through."
    )


def _find(name: Any) -> str:
    spellings = {plain(key): key for key in APPLICATIONS}
    if not isinstance(name, str) or plain(name) not in spellings:
        raise InputError(
            f"there is no backbone {name!r}. Closest: {closest(name, APPLICATIONS)}. "
            "list_backbones() lists all."
        )
    return spellings[plain(name)]


def _with_layer(
    cut_layer: str | None, build: Callable[..., keras.Model], key: str
) -> tuple[keras.Model, bool]:
    """The network without its top, or with it if only then it has `cut_layer`; and which it is."""
    names: list[str] = []
    for has_top in (False, True):
        network = build(include_top=has_top)
        names = [layer.name for layer in network.layers]
        if cut_layer is None or cut_layer in names[1:]:
            return network, has_top
    raise _unknown_cut_error(key, cut_layer, names[1:])


def _download(key: str, build: Callable[[], keras.Model]) -> keras.Model:
    try:
        return build()
    except Exception as error:
        if "URL fetch failure" not in str(error):
            raise
        raise ConnectionError(
            f"load_backbone: the ImageNet weights of {key!r} could not be downloaded ({error}). "
            "Where there is no network, download the file elsewhere and pass its path: "
            f"load_backbone({key!r}, ..., weights='path/to/file.h5')."
        ) from error
