"""Layers that were frozen when a model was saved, and are not when the file is loaded."""

from __future__ import annotations

import keras

from topwork._errors import warn
from topwork._networks.compilation import fresh_optimizer, recompile
from topwork._networks.graph import sublayers
from topwork._networks.variables import set_trainable
from topwork._private_keras import inner_layers


def freeze_again(model: keras.Model) -> None:
    """Freeze what a file of the model had as frozen and Keras thawed, in place, and say so.

    A layer's own variables come back frozen; those of layers that it makes itself, an attention or the
    encoders of KerasHub, do not (Keras 3.10 to 3.15), while the layer says that it is.
    """
    thawed = [layer for layer in sublayers(model.layers) if _is_thawed(layer)]
    if not thawed:
        return
    for layer in thawed:
        set_trainable(layer, False)
    if model.compiled:
        recompile(model, fresh_optimizer(model.optimizer))
    warn(
        f"the layer {thawed[0].name!r} ({type(thawed[0]).__name__}) of {model.name!r} is marked as "
        f"frozen, and the layers inside of it are not ({len(thawed)} such layers): so Keras loads a "
        "file. They are frozen again, and the model has a fresh optimizer. After load_model, "
        "topwork.freeze and topwork.fine_tune do so without this warning."
    )


def _is_thawed(layer: keras.Layer) -> bool:
    """Whether a layer is frozen by its mark and nothing inside of it is, as nobody would do by hand."""
    if layer.trainable or isinstance(layer, keras.Model):
        return False
    inside = [each for each in inner_layers(layer, recursive=True) if each.weights]
    return bool(inside) and all(each.trainable and each.trainable_weights for each in inside)
