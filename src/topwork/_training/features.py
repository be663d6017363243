"""`features`: what a network makes of images, as an array."""

from __future__ import annotations

import os
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from topwork._data.order import warn_of_order
from topwork._data.origin import in_order
from topwork._data.reading import open_source
from topwork._errors import InputError, closest, public
from topwork._features.cache import open_cache
from topwork._features.computation import Computation, Run
from topwork._networks.graph import head_start, require_functional
from topwork._networks.tokens import patch_tokens, tokens_of


@public
def features(
    model: keras.Model,
    x: Any,
    *,
    layer: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    precision: str = "float32",
    verbose: str | int = "auto",
) -> npt.NDArray[Any]:
    """The features that a network computes of images, for scikit-learn, nearest neighbours or a plot.

    For a data set of `topwork.data.read_folder`, the rows are in the order of its ``file_paths``, also
    if it is shuffled.

    Args:
        model: Any functional or Sequential model, a backbone or one with a head.
        x: Images, as `topwork.fit` takes them; labels beside them are not used.
        layer: The name of a layer, whose output is returned as it is. None: the input of the head. Of a
            model without a head: its output, averaged over height and width. Of a transformer: what the
            head makes of the tokens, or without a head the average of the patches.
        cache_dir: A folder to keep the features in. Features that are in it are not computed again.
        engine: As in `fit`.
        precision: As in `fit`.
        verbose: 0 is silent.

    Returns:
        One row an image, in order, of shape (images, features), or (images, ...) for a `layer` of another
        shape.

    Raises:
        ValueError: There is no such layer, or the images do not fit the model.

    Example:
        >>> import numpy as np
        >>> import topwork as tw
        >>> backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(32, 32, 3))
        >>> tw.features(backbone, np.zeros((5, 32, 32, 3)), verbose=0).shape
        (5, 1024)
    """
    require_functional(model)
    part = keras.Model(model.inputs, feature_tensor(model, layer))
    ordered, paths = in_order(x)
    source = open_source(part, ordered)
    cache = open_cache("auto", cache_dir, engine, precision)
    computation = Computation(part, part, cache, verbose)
    (table,) = computation.tables(Run(source, "data", labelled=False, may_be_empty=True))
    computation.say([table])
    if paths is None:
        warn_of_order(x, source)
    rows = table.read(np.arange(len(table)))
    return table.layout.unpack(tf.constant(rows))[0].numpy()


def feature_tensor(model: keras.Model, layer: str | None = None) -> Any:
    """The output of a layer; without one what the head receives, one vector an image."""
    if layer is not None:
        names = [each.name for each in model.layers]
        if layer not in names:
            raise InputError(
                f"{model.name!r} has no layer {layer!r}. Closest: {closest(layer, names)}. "
                "describe(model) lists all."
            )
        return model.get_layer(layer).output
    start = head_start(model)
    has_head = 0 < start < len(model.layers)
    tensor = model.layers[start].input if has_head else model.outputs[0]
    if isinstance(tensor, (list, tuple)):
        tensor = tensor[0]
    if tokens_of(model, tensor) is not None:
        return _pooled_tokens(model, tensor)
    return keras.layers.GlobalAveragePooling2D()(tensor) if len(tensor.shape) == 4 else tensor


def _pooled_tokens(model: keras.Model, tokens: Any) -> Any:
    """As the head that `add_head` makes takes them; without one the average of the patches."""
    pooling = next((layer.output for layer in model.layers if layer.name == "head_pooling"), None)
    if pooling is not None and len(pooling.shape) == 2:
        return pooling
    return keras.layers.GlobalAveragePooling1D()(patch_tokens(model, tokens, "patches"))
