"""`grad_cam`: where in a photograph a classifier looks."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from topwork._data.images import ImageReader
from topwork._errors import InputError, public, whole_number
from topwork._features.replay import replay
from topwork._figures import displayable, new_figure, png_of
from topwork._interpret.feature_maps import FeatureMaps, feature_maps
from topwork._names import published
from topwork._networks.classifier import Task, names_of_classes, probabilities, task_of
from topwork._networks.graph import Step
from topwork._private_keras import predict_on_batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@published
@dataclass(frozen=True, eq=False)
class HeatMap:
    """Where a classifier looks in an image.

    Attributes:
        heatmap: (height, width) of the image, from 0 to 1: how much each place speaks for the class.
            All 0 where nothing does.
        image: (height, width, channels), as the model received it.
        class_index: The class in question.
        probability: What the model gives it; of a model for numbers, the number.
        layer: The layer whose feature map was looked at.
        class_name: The name of the class; its number where names are not known.
    """

    heatmap: npt.NDArray[np.float32]
    image: npt.NDArray[np.float32]
    class_index: int
    probability: float
    layer: str
    class_name: str = ""

    def __repr__(self) -> str:
        height, width = self.heatmap.shape
        return f"HeatMap({self._title()}, layer {self.layer!r}, {height} x {width} pixels)"

    def _repr_png_(self) -> bytes | None:
        """The picture, for a notebook; None without matplotlib."""
        with contextlib.suppress(ImportError):
            return png_of(self.plot())
        return None

    def plot(self, title: str | None = None) -> Figure:
        """Draw the image, and the heat map over it.

        Args:
            title: Above the heat map; None: the class and its probability.

        Raises:
            ImportError: matplotlib is not installed.
        """
        figure = new_figure(figsize=(6.4, 3.2))
        left, right = figure.subplots(1, 2)
        for axes in (left, right):
            axes.imshow(displayable(self.image), cmap="gray", vmin=0, vmax=255)
            axes.axis("off")
        drawn = right.imshow(self.heatmap, cmap="inferno", vmin=0, vmax=1, alpha=0.5)
        drawn.set_interpolation("bilinear")
        right.set_title(self._title() if title is None else title, fontsize="medium")
        return figure

    def _title(self) -> str:
        is_known = self.class_name not in ("", str(self.class_index))
        share = f"{self.probability:.1%}" if 0 <= self.probability <= 1 else f"{self.probability:.4g}"
        return f"{self.class_name if is_known else f'class {self.class_index}'}: {share}"


@public
def grad_cam(
    model: Any,
    image: Any,
    layer: str | None = None,
    *,
    class_index: int | None = None,
    class_names: Sequence[str] | None = None,
) -> HeatMap:
    """Show which places in a photograph are evidence for the answer of a classifier.

    The channels of a feature map are added up. The weight of a channel is how much the score of the class
    grows with it. Negative sums, evidence against the class, are left out. The score is taken before
    softmax or sigmoid, where it does not saturate.

    The map is as coarse as the feature map, in most networks 7 by 7 places for an image of 224 pixels. It
    is drawn smoothly over the image.

    Args:
        model: A functional classifier of one image that ends in softmax, in sigmoid units or in
            numbers: a convolutional network or a vision transformer, also as a model inside of it.
        image: The path of a file, or an array (height, width, channels), raw RGB 0-255; read as
            `topwork.predict` does it.
        layer: The name of a layer whose output is a feature map, (batch, height, width, channels), or
            the tokens of a transformer; `"base/layer"` of a model `base` inside. None: the last feature
            map of more than one place; of a transformer, the end of the last block whose patches count.
        class_index: The class to explain, for one sigmoid unit 0 or 1; None: the likeliest.
        class_names: As in `topwork.predict`.

    Returns:
        A `HeatMap`; ``.plot()`` draws it over the photograph.

    Raises:
        ValueError: The model is not such a classifier, or has no such layer or class; the layer's
            output is no feature map, or does not lead to the output; the image cannot be read.

    Example:
        >>> import keras, numpy as np, topwork as tw
        >>> photograph = keras.Input((16, 16, 3))
        >>> features = keras.layers.Conv2D(4, 3, name="features")(photograph)
        >>> pooled = keras.layers.GlobalAveragePooling2D()(features)
        >>> model = keras.Model(photograph, keras.layers.Dense(2, "softmax")(pooled))
        >>> found = tw.interpret.grad_cam(model, np.full((16, 16, 3), 128, "uint8"))
        >>> found.heatmap.shape, found.layer
        ((16, 16), 'features')

    Source:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
        Localization, ICCV 2017, https://arxiv.org/abs/1610.02391.
    """
    task = task_of(model)
    names = names_of_classes(class_names, model, task)
    pixels = ImageReader(model, task.n).read(image)
    graph = feature_maps(model)
    candidates = graph.last() if layer is None else graph.named(layer)
    values = _answers(predict_on_batch(model, pixels[None]), task)
    index = _checked_index(class_index, values, task)
    coarse, chosen = _class_activation_map(graph, candidates, pixels[None], index, task)
    fine = tf.image.resize(coarse[..., None], pixels.shape[:2], "bilinear").numpy()[..., 0]
    return HeatMap(
        _to_unit(fine), pixels, index, float(values[index]), chosen.operation.name, names[index]
    )


def _answers(outputs: Any, task: Task) -> Any:
    """Probabilities, or the numbers of a model for numbers."""
    if task.kind == "numbers":
        return np.asarray(outputs, "float64")[0]
    return probabilities(outputs, task)[0]


def _checked_index(class_index: int | None, values: Any, task: Task) -> int:
    if class_index is None:
        return 0 if task.kind == "numbers" else int(values.argmax())
    index = whole_number(class_index)
    if index is None or not 0 <= index < task.n:
        raise InputError(
            f"class_index is one of the model's {task.n} {task.kind}, 0 to {task.n - 1}. Received: "
            f"{class_index!r}. Leave it out for the likeliest."
        )
    return index


def _class_activation_map(
    graph: FeatureMaps, candidates: list[Step], images: Any, index: int, task: Task
) -> Any:
    """Equations 1 and 2 of the paper: (rows, columns), and the step whose feature map it is of.

    Of several steps it is the last one on whose places the score depends. Behind the attention of its
    last block a transformer may go on with the class token alone, and patches count no more.
    """
    last, before_activation = _scoring(graph)
    wanted = [*(step.outputs[0] for step in candidates), before_activation]
    calls = [step for step in graph.calls if not step.is_input]
    inner = replay(calls, list(graph.model.inputs), wanted)
    with tf.GradientTape() as tape:
        *features, scores = inner([images], training=False)
        score = _class_score(last, scores, index, task)
    # The frozen layers below the feature map are outside of this: the gradient ends at its tensor.
    gradients = tape.gradient(score, features)
    found = list(zip(candidates, features, gradients, strict=True))
    found = [each for each in found if each[2] is not None] or found
    maps = [(step, graph.places(step, f), graph.places(step, g)) for step, f, g in found]
    moved = [each for each in maps if each[2] is not None and np.any(each[2])]
    step, feature, gradient = (moved or maps)[-1]
    if gradient is None:
        raise InputError(
            f"there is no way from layer {step.operation.name!r} to the model's output. Give a "
            f"layer that the output depends on; the last one is {graph.last()[-1].operation.name!r}."
        )
    weights = gradient.mean(axis=(0, 1))
    return np.maximum((weights * feature).sum(axis=-1), 0), step


def _scoring(graph: FeatureMaps) -> tuple[Any, Any]:
    """The last layer, and the tensor from which `_class_score` makes the scores."""
    output = graph.model.outputs[0]
    last = next((step for step in graph.calls if any(t is output for t in step.outputs)), None)
    kinds = (keras.layers.Dense, keras.layers.Activation, keras.layers.Softmax)
    if last is not None and isinstance(last.operation, kinds):
        return last.operation, last.inputs[0]
    return None, output


def _class_score(last: Any, values: Any, index: int, task: Task) -> Any:
    if isinstance(last, keras.layers.Dense):
        values = keras.ops.matmul(values, keras.ops.cast(last.kernel, values.dtype))
        values = values if last.bias is None else values + keras.ops.cast(last.bias, values.dtype)
    elif last is None and task.kind != "numbers":
        # How the probability is made is not known. Its logarithm saturates least.
        values = keras.ops.log(values + keras.config.epsilon())
    if values.shape[-1] < task.n:  # one sigmoid unit tells two classes
        return values[0, 0] if index == 1 else -values[0, 0]
    return values[0, index]


def _to_unit(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    highest = values.max()
    return np.asarray(values / highest if highest > 0 else values, "float32")
