"""Loading a pretrained network, up to the layer where it is cut."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from topwork._errors import InputError, closest, plain, public, whole_number
from topwork._networks.applications import APPLICATIONS, Application
from topwork._networks.graph import clean_cuts, require_functional
from topwork._networks.weights import load_weights
from topwork._private_keras import names_from_zero

_CHOSEN_BY_TOPWORK = {
    "dropout": "a backbone has none that is active, and the head has its own: add_head(dropout=...)",
    "dropout_rate": "a backbone has none that is active, and the head has its own: add_head(dropout=...)",
    "include_preprocessing": "the network does its own scaling, and takes images of 0 to 255",
    "include_top": "cut_layer decides it: name a layer of the top to have the top",
    "input_tensor": "topwork makes the input; use input_shape and preprocess",
    "pooling": "it belongs to the head: add_head(pooling=...)",
}


@public
def load_backbone(
    name: str,
    cut_layer: str | None = None,
    *,
    weights: str | os.PathLike[str] | None = "imagenet",
    input_shape: tuple[int, int, int] | None = None,
    preprocess: bool = True,
    **options: Any,
) -> keras.Model:
    """A network of `keras.applications`, up to and including `cut_layer`.

    The model is flat: its layers have the indices that they have in `keras.applications`, and the same
    names on every build.

    Dropout inside the network (EfficientNet drops whole blocks, and so do some classifier tops) is
    set to a rate of 0. Keras would apply it in training even where all is frozen; the same image
    would have other features every time. Keras' own recipe, `network(x, training=False)`, switches it
    off in the same way (https://keras.io/guides/transfer_learning/).

    Args:
        name: The application, in any spelling that differs only in case, `_` and `-`:
            `"inception_v3"`, `"InceptionV3"`. `list_backbones()` lists them.
        cut_layer: The last layer, one of the classifier top (`"fc2"`, `"predictions"`) included.
            None: the last feature map. `cut_points(name)` lists the layers that everything flows
            through; a cut elsewhere leaves out the branches beside it.
        weights: `"imagenet"` (downloaded by Keras), the path to a local `.h5`, `.weights.h5` or
            `.keras` file, or None for random weights.
        input_shape: (height, width, 3), in pixels; (height, width, 1) for grey images, which are
            repeated three times in the graph, so that all weights are used as they are. None: the
            size that it was trained at.
        preprocess: True: the model takes raw RGB images, 0 to 255, and does the network's own
            preprocessing itself. False: it takes what the network's `preprocess_input` gives.
        **options: For the `keras.applications` constructor, such as `alpha=0.25` for MobileNet.

    Returns:
        A functional model, images (batch, height, width, 3 or 1) in, the cut layer's output out.

    Raises:
        ValueError: An unknown name, layer or option; a shape that the network does not take; or a
            weights file that does not fit it.
        ConnectionError: The ImageNet weights could not be downloaded.

    Example:
        >>> import topwork as tw
        >>> backbone = tw.load_backbone(
        ...     "InceptionV3", "mixed7", weights=None, input_shape=(150, 150, 3)
        ... )
        >>> len(backbone.layers), backbone.output_shape
        (229, (None, 7, 7, 768))
    """
    key = _find(name)
    application = APPLICATIONS[key]
    if cut_layer is not None and not isinstance(cut_layer, str):
        raise InputError(
            f"cut_layer is a layer name. Received: {cut_layer!r}. cut_points({key!r}) "
            "lists those at which the network can be cut cleanly."
        )
    _check_options(application, options)
    shape = _checked_shape(input_shape, application)

    def build(*, include_top: bool, weights: str | None = None) -> keras.Model:
        arguments = {"include_top": include_top, "weights": weights, **options}
        return _build(application, shape, preprocess, arguments)

    network, has_top = _with_layer(cut_layer, build, key)
    if weights == "imagenet":
        network = _download(key, lambda: build(include_top=has_top, weights="imagenet"))
    last = network.output if cut_layer is None else network.get_layer(cut_layer).output
    backbone = keras.Model(network.inputs[0], last, name=key)
    if weights is not None and weights != "imagenet":
        load_weights(backbone, weights, network, lambda: build(include_top=True))
        if application.rescales_imagenet and _has_imagenet_statistics(backbone):
            backbone = _rescaled(backbone)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return backbone


@public
def cut_points(name_or_model: str | keras.Model) -> list[str]:
    """The layers at which a network can be cut cleanly: everything flows through each of them.

    Args:
        name_or_model: The name of an application, whose classifier top is included, or any
            functional model.

    Returns:
        Layer names, from the input to the output.

    Raises:
        ValueError: An unknown name, or a model whose graph cannot be read.

    Example:
        >>> import topwork as tw
        >>> tw.cut_points("vgg16")[-4:]
        ['flatten', 'fc1', 'fc2', 'predictions']
    """
    if not isinstance(name_or_model, str):
        require_functional(name_or_model)
        return clean_cuts(name_or_model)
    application = APPLICATIONS[_find(name_or_model)]
    shape = _checked_shape(None, application)
    arguments = {"include_top": True, "weights": None}
    return clean_cuts(_build(application, shape, True, arguments))


def _find(name: str) -> str:
    spellings = {plain(key): key for key in APPLICATIONS}
    if not isinstance(name, str) or plain(name) not in spellings:
        raise InputError(
            f"there is no backbone {name!r}. Closest: {closest(name, APPLICATIONS)}. "
            "list_backbones() lists all."
        )
    return spellings[plain(name)]


def _checked_shape(shape: Any, application: Application) -> tuple[int, int, int]:
    if shape is None:
        return (application.size, application.size, 3)
    sizes = tuple(whole_number(n) or 0 for n in shape) if hasattr(shape, "__len__") else ()
    if len(sizes) != 3 or sizes[2] not in (1, 3) or min(sizes) < 1:
        raise InputError(
            "input_shape is (height, width, 3), or 1 for grey, whole pixels, such as "
            f"({application.size}, {application.size}, 3). Received: {shape!r}."
        )
    return sizes[0], sizes[1], sizes[2]


def _check_options(application: Application, options: dict[str, Any]) -> None:
    constructor = _constructor(application)
    valid = set(inspect.signature(constructor).parameters) - {"weights", "input_shape", "name", "kwargs"}
    for option in options:
        if option in _CHOSEN_BY_TOPWORK:
            raise InputError(f"the option {option!r} is not passed on; {_CHOSEN_BY_TOPWORK[option]}.")
        if option not in valid:
            raise InputError(
                f"keras.applications.{application.constructor} has no option "
                f"{option!r}. Closest: {closest(option, valid - set(_CHOSEN_BY_TOPWORK))}."
            )


def _constructor(application: Application) -> Callable[..., keras.Model]:
    return getattr(keras.applications, application.constructor)


def _build(
    application: Application,
    shape: tuple[int, int, int],
    preprocess: bool,
    arguments: dict[str, Any],
) -> keras.Model:
    with names_from_zero():
        image = keras.Input(shape, name="input_layer")  # the name that it gets by itself, fixed
        # On a symbolic tensor, preprocess_input becomes operations of the graph; they are not among
        # `model.layers`, so that the layers keep their indices.
        module = getattr(keras.applications, application.module)
        colors = keras.ops.repeat(image, 3, axis=-1) if shape[2] == 1 else image
        pixels = module.preprocess_input(colors) if preprocess else colors
        shape = (*shape[:2], 3)
        return _constructor(application)(input_tensor=pixels, input_shape=shape, **arguments)


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
    raise InputError(
        f"{key!r} has no layer {cut_layer!r} to cut at. Closest: "
        f"{closest(cut_layer, names[1:])}. cut_points({key!r}) lists those that everything flows through."
    )


_IMAGENET_DEVIATIONS = (0.229, 0.224, 0.225)


def _has_imagenet_statistics(backbone: keras.Model) -> bool:
    variance = _normalization(backbone).get_weights()[1]
    return np.allclose(variance, _IMAGENET_DEVIATIONS, atol=1e-3)


def _normalization(model: keras.Model) -> keras.layers.Normalization:
    return next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))


def _rescaled(backbone: keras.Model) -> keras.Model:
    """`backbone` with the layer that Keras adds after the normalization for `weights="imagenet"`."""
    normalization = _normalization(backbone)
    scale = [1 / math.sqrt(deviation) for deviation in _IMAGENET_DEVIATIONS]

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if layer.name == normalization.name:
            outputs = keras.layers.Rescaling(scale, name="rescaling_1")(outputs)
        return outputs

    rescaled = keras.models.clone_model(backbone, call_function=call)
    rescaled.set_weights(backbone.get_weights())
    return rescaled


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
