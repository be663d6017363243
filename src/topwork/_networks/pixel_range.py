"""The range of pixels that a model was made for, read off its graph."""

from __future__ import annotations

from typing import Any

import keras

from topwork._networks.graph import bottlenecks, steps


def expected_range(model: keras.Model) -> tuple[float, float] | None:
    """The pixel range (0, 255) if the model's first operations scale such pixels; else None.

    Read off the graph, so that it holds for a model that was saved and loaded: what comes before the
    first layer with weights is run on a black and on a white image. If it maps them to either side of
    zero, or to 0 and 1, it was made for 0 to 255.
    """
    image = model.inputs[0]
    if len(model.inputs) != 1 or len(image.shape) != 4:
        return None
    scaled = _scaled_image(model)
    if scaled is image:
        return None
    stage = keras.Function(image, scaled)
    shape = [1 if size is None else size for size in image.shape]
    black = float(keras.ops.mean(stage(keras.ops.zeros(shape, image.dtype))))
    white = float(keras.ops.mean(stage(keras.ops.full(shape, 255.0, image.dtype))))
    is_unit = abs(black) < 0.01 and abs(white - 1) < 0.01
    is_centred = white > black and abs(white + black) < 0.5 * (white - black)
    return (0.0, 255.0) if is_unit or is_centred else None


def _scaled_image(model: keras.Model) -> Any:
    """The image as the first layer that is more than arithmetic on pixels receives it."""
    ordered = steps(model)
    arithmetic = (
        keras.layers.CenterCrop,
        keras.layers.InputLayer,
        keras.layers.Normalization,
        keras.layers.Rescaling,
        keras.layers.Resizing,
    )
    n_first = next(
        (
            i
            for i, step in enumerate(ordered)
            if isinstance(step.operation, keras.Layer) and not isinstance(step.operation, arithmetic)
        ),
        len(ordered),
    )
    image = model.inputs[0]
    scaled = [
        step.outputs[0]
        for step in bottlenecks(ordered)
        if step in ordered[:n_first] and len(step.outputs[0].shape) == len(image.shape)
    ]
    return scaled[-1] if scaled else image
