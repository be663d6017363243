"""Grafting a new head on a backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras

from topwork._errors import InputError, public, public_as
from topwork._names import published
from topwork._networks.arguments import check_task, optional_whole, required_whole
from topwork._networks.compilation import build_optimizer
from topwork._networks.graph import require_functional
from topwork._networks.hub import opened
from topwork._networks.side_by_side import side_by_side
from topwork._networks.tokens import class_token, has_class_token, patch_tokens
from topwork._networks.units import UNITS

_POOLINGS = ("avg", "max", "cls", "flatten")
_LAYERS = {
    ("avg", 3): keras.layers.GlobalAveragePooling1D,
    ("max", 3): keras.layers.GlobalMaxPooling1D,
    ("avg", 4): keras.layers.GlobalAveragePooling2D,
    ("max", 4): keras.layers.GlobalMaxPooling2D,
}
_PYRAMID = "pyramid"


@published
@dataclasses.dataclass(frozen=True)
class Head:
    """A head that is made and not applied yet; called with a backbone, it gives the compiled model.

    Attributes:
        n_classes: As in `topwork.add_head`, like all others.
        dropout: Likewise.
        pooling: Likewise.
        hidden_units: Likewise.
        learning_rate: Likewise.
        task: Likewise.
        with_layers: Likewise.
    """

    n_classes: int
    dropout: float
    pooling: str
    hidden_units: int | None
    learning_rate: float
    task: str
    with_layers: tuple[str, ...] = ()

    @public_as("add_head")
    def __call__(self, backbone: keras.Model) -> keras.Model:
        """Put the head on a backbone, whose layers the model shares."""
        backbone = opened(backbone)
        x = _pool(backbone, self.pooling, self.with_layers)
        if self.hidden_units is not None:
            x = keras.layers.Dense(self.hidden_units, activation="relu", name="head_hidden")(x)
        if self.dropout > 0:
            x = keras.layers.Dropout(self.dropout, name="head_dropout")(x)
        outputs = _outputs(x, self.n_classes, self.task)
        model = keras.Model(_input_of(backbone), outputs, name=backbone.name)
        _compile(model, self.n_classes, self.learning_rate, self.task)
        return model


@public
def add_head(
    n_classes: int,
    dropout: float = 0.2,
    *,
    pooling: str = "avg",
    hidden_units: int | None = 1024,
    learning_rate: float = 1e-4,
    task: str = "classes",
    with_layers: Sequence[str] = (),
) -> Callable[[keras.Model], keras.Model]:
    """Make a head. As with a Keras layer, you make it first, and then call it on a backbone.

    The head is pooling, Dense(`hidden_units`, relu), Dropout, Dense. Calling it returns a model, which
    shares the layers of the backbone. The model is compiled with RMSprop, and with the loss and the
    metrics of the task.

    Args:
        n_classes: 1 for one sigmoid unit (labels 0 and 1, binary cross-entropy); 2 or more for
            softmax (labels 0 to `n_classes - 1`, sparse categorical cross-entropy). With another
            `task`, the number of labels or of numbers.
        dropout: Fraction of the hidden units dropped in training, 0 up to, not including, 1.
        pooling: How a feature map (height, width, channels) becomes a vector: `"avg"` and `"max"`
            over height and width; `"flatten"` keeps all of it; `"pyramid"` is the average, and the
            averages of the four quarters of the image, for tasks in which the place of something
            matters. If the backbone is cut at a vector, such as VGG16's `"fc2"`, nothing is pooled. Of
            a transformer's tokens, (tokens, width), `"avg"` and `"max"` take those of the patches,
            without class, distillation and register tokens; `"cls"` takes the class token.
        hidden_units: Width of the hidden layer; None for no hidden layer.
        learning_rate: Of RMSprop.
        task: `"classes"`: each image has one class. `"labels"`: each image has several labels, or
            none. The head has a sigmoid for each; the loss is binary cross-entropy on rows of 0 and 1,
            (images, labels); the metrics are `accuracy`, the fraction of right decisions, and
            `average_precision`, the mean over the labels of the area under precision and recall.
            `"numbers"`: regression, with mean squared error and the metric `mae`. `fit` writes the mean
            and the deviation of the training targets into the model's last layer, and divides the loss
            by their variance. So the unit of the targets does not matter.
        with_layers: More layers of the backbone. Their averages are put beside those of the last
            layer, each scaled to unit length. On small sets of photographs, a head on the ends of
            several blocks was often the best; `transfer` finds it.

    A backbone or an image classifier of KerasHub is opened as `load_backbone` opens it, frozen where it
    is frozen: the model has layers and weights of its own then.

    Returns:
        A `Head`: called with a backbone it returns a compiled model, images in, probabilities or
        numbers (batch, `n_classes`) out.

    Raises:
        ValueError: An argument is out of its range, or the model has no feature map or vector to
            put a head on.

    Example:
        >>> import topwork as tw
        >>> backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(64, 64, 3))
        >>> model = tw.add_head(n_classes=5)(backbone)
        >>> model.output_shape
        (None, 5)
    """
    if isinstance(n_classes, keras.Model):
        raise InputError(
            "the head is made first and applied to the backbone then: add_head(n_classes=2)(backbone). "
            f"Received: the model {n_classes.name!r} as n_classes."
        )
    n_classes = required_whole("n_classes", n_classes, 1)
    hidden_units = optional_whole("hidden_units", hidden_units, 1)
    if not 0 <= dropout < 1:
        raise InputError(f"dropout is a fraction, 0 <= dropout < 1. Received: {dropout!r}.")
    _check_pooling(pooling, with_layers)
    check_task(task)
    if not learning_rate > 0:
        raise InputError(f"learning_rate must be greater than 0. Received: {learning_rate!r}.")

    layers = tuple(with_layers)
    return Head(n_classes, dropout, pooling, hidden_units, learning_rate, task, layers)


def _check_pooling(pooling: str, with_layers: Sequence[str]) -> None:
    known = (*_POOLINGS, _PYRAMID)
    if pooling not in known:
        raise InputError(f"pooling must be one of {', '.join(map(repr, known))}. Received: {pooling!r}.")
    if isinstance(with_layers, str) or not all(isinstance(each, str) for each in with_layers):
        raise InputError(f"with_layers must be a list of layer names. Received: {with_layers!r}.")
    if with_layers and pooling not in ("avg", _PYRAMID):
        raise InputError(
            "the features of several layers are averages, so that with_layers takes pooling "
            f"'avg' or 'pyramid'. Received: {pooling!r}."
        )


def _input_of(backbone: keras.Model) -> Any:
    """The one image, also where a backbone wants it by name; of others, what they take."""
    return backbone.inputs[0] if len(backbone.inputs) == 1 else backbone.input


def _pool(backbone: keras.Model, pooling: str, with_layers: Sequence[str]) -> Any:
    require_functional(backbone)
    taken = [layer.name for layer in backbone.layers if layer.name.startswith("head_")]
    if taken:
        raise InputError(
            f"the model {backbone.name!r} has a head already ({', '.join(taken)}). Apply "
            "add_head to the backbone, as load_backbone returned it."
        )
    if with_layers or pooling == _PYRAMID:
        return side_by_side(backbone, with_layers, pyramid=pooling == _PYRAMID)
    rank = len(backbone.outputs[0].shape) if len(backbone.outputs) == 1 else None
    if rank == 2:
        return backbone.outputs[0]
    if rank in (3, 4):
        return _vector(backbone, pooling, rank)
    raise InputError(
        "a head is put on one feature map (batch, height, width, channels), the tokens of a "
        "transformer (batch, tokens, width) or one vector (batch, features). The model "
        f"{backbone.name!r} gives {backbone.output_shape}."
    )


def _vector(backbone: keras.Model, pooling: str, rank: int) -> Any:
    output = backbone.outputs[0]
    if pooling == "flatten":
        return keras.layers.Flatten(name="head_pooling")(output)
    if pooling != "cls":
        places = patch_tokens(backbone, output, "head_pooling") if rank == 3 else output
        return _LAYERS[pooling, rank](name="head_pooling")(places)
    if rank == 4 or not has_class_token(backbone, output):
        raise InputError(
            "pooling='cls' takes the class token of a transformer, and "
            f"{backbone.name!r} gives {backbone.output_shape}, which has none. Take 'avg'."
        )
    return class_token(output, "head_pooling")


def _outputs(x: Any, n: int, task: str) -> Any:
    classes = "sigmoid" if n == 1 else "softmax"
    activation = {"classes": classes, "labels": "sigmoid", "numbers": "linear"}[task]
    # float32 also under mixed precision: a softmax in float16 loses small probabilities.
    x = keras.layers.Dense(n, activation=activation, dtype="float32", name="head_output")(x)
    if task == "numbers":
        x = keras.layers.Rescaling(1.0, 0.0, dtype="float32", name=UNITS)(x)
    return x


def _compile(model: keras.Model, n: int, learning_rate: float, task: str) -> None:
    losses = {"classes": "sparse_categorical_crossentropy", "numbers": "mean_squared_error"}
    metrics: list[Any] = ["accuracy"]
    if task == "labels":
        metrics = [
            keras.metrics.BinaryAccuracy(name="accuracy"),
            keras.metrics.AUC(
                curve="PR", multi_label=n > 1, num_labels=n if n > 1 else None, name="average_precision"
            ),
        ]
    if task == "numbers":
        metrics = ["mae"]
    model.compile(
        optimizer=keras.optimizers.RMSprop(learning_rate=learning_rate),
        loss="binary_crossentropy" if task == "labels" or (task, n) == ("classes", 1) else losses[task],
        metrics=metrics,
    )
    build_optimizer(model)
