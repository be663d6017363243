"""`report`: what a model gets right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from topwork._data.origin import class_names_of
from topwork._errors import InputError, listed, public
from topwork._interpret.answers import answers_to
from topwork._interpret.class_report import Report, class_report
from topwork._interpret.label_report import LabelsReport, labels_report
from topwork._interpret.number_report import NumbersReport, numbers_report
from topwork._networks.arguments import required_whole
from topwork._networks.classifier import Task, Threshold, names_of_classes, task_of, thresholds
from topwork._networks.record import read_record

_REPORTS: dict[str, Callable[..., Report | LabelsReport | NumbersReport]] = {
    "classes": class_report,
    "labels": labels_report,
    "numbers": numbers_report,
}


@public
def report(
    model: Any,
    data: Any,
    class_names: Sequence[str] | None = None,
    *,
    threshold: Threshold = None,
    n_mistakes: int = 16,
) -> Report | Any:
    """Find out what a model gets right and wrong.

    It takes one pass over the data. Look at the most confident mistakes: some are wrong labels, some are
    images of two classes, and some show what the model looks at instead of the object. The mistakes have
    the paths of their files if the data is of `topwork.data.read_folder`, or of Keras'
    `image_dataset_from_directory(shuffle=False)`.

    Args:
        model: A model that ends in softmax or in sigmoid units; or in numbers or logits, if it is
            compiled with a loss for them.
        data: (images, labels) as arrays, a `tf.data.Dataset` of such batches, or a
            `keras.utils.PyDataset`. Labels are class numbers or one-hot; rows of 0 and 1 for several
            labels an image; numbers for a model of numbers.
        class_names: The names, in the order of the labels; None: those of the data, or that the model
            knows from its training; else ImageNet's for 1000 classes, else numbers.
        threshold: For several labels an image: a label holds if its probability is at least this. One
            number for all, a list with one for each, or a dict by name; None: 0.5. For one sigmoid unit:
            the probability from which on the answer is class 1.
        n_mistakes: How many mistakes to keep, with their images.

    Returns:
        A `Report` for classes: ``.accuracy``, ``.rows`` and ``.confusion`` are the numbers; ``.plot()``
        draws the confusion matrix. A `LabelsReport` for several labels an image: precision, recall and
        average precision of each. A `NumbersReport` for numbers: errors, and a scatter plot. Each prints
        as text and has ``.plot()``, ``.mistakes`` and ``.plot_mistakes()``; those of probabilities
        have ``.calibration_error`` and ``.plot_calibration()``.

    Raises:
        ValueError: The model has no one vector of outputs for an image, the names are not as many as the
            outputs, the data has no images or no labels, or labels are not what the model is for, or
            stand for other classes than those it was trained on; `threshold` has no meaning for it.

    Example:
        >>> import keras, numpy as np, topwork as tw
        >>> ones = keras.layers.Dense(1, "sigmoid", kernel_initializer="ones")
        >>> model = keras.Sequential([keras.Input((1,)), ones])
        >>> x, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 1, 1, 1])
        >>> found = tw.interpret.report(model, (x, y), ["no", "yes"])
        >>> found.accuracy, found.confusion.tolist()
        (0.75, [[1, 0], [1, 2]])
    """
    task = task_of(model)
    names = _names(class_names, model, data, task)
    limits = thresholds(threshold, task, names)
    most = required_whole("n_mistakes", n_mistakes, 0)
    return _REPORTS[task.kind](names, answers_to(model, data, task), limits, most)


def _names(given: Sequence[str] | None, model: Any, data: Any, task: Task) -> tuple[str, ...]:
    """The names given, else those of the data, which must be those that the model knows."""
    of_data, known = class_names_of(data), read_record(model).class_names
    if given is not None or of_data is None:
        return names_of_classes(given, model, task)
    if known is not None and known != of_data:
        raise InputError(
            f"the classes of the data are {listed(of_data)}, and the model was trained on "
            f"{listed(known)}: the same number would stand for two classes. Read the data with "
            f"class_names={list(known)[:10]}; or name them all yourself, class_names=[...]."
        )
    return of_data if len(of_data) == task.n else names_of_classes(None, model, task)
