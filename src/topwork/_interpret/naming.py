"""`name_classes`: names of classes for a model that did not learn them in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from topwork._data.origin import class_names_of, learn_names
from topwork._errors import InputError, described, public
from topwork._networks.classifier import names_of_classes, task_of
from topwork._networks.record import read_record, write_record


@public
def name_classes(model: keras.Model, names: Sequence[str] | Any) -> keras.Model:
    """Write the names of the classes into a model, for `predict` and for the saved file. Works in place.

    `fit` and `fit_head` do this themselves when they train on data that knows the names. Keras' own
    `model.fit` does not: call this before `model.save`. The file stays a plain Keras file.

    Args:
        model: A model for classes, for several labels an image, or for numbers.
        names: One for each, in the order of the labels, or a dict by number; or the data set that it was
            trained on, of `topwork.data.read_folder` or Keras' `image_dataset_from_directory`. From a
            data set, the way that photographs are read is taken too.

    Returns:
        The model.

    Raises:
        ValueError: There is not one name for each class, or the data set has none.

    Example:
        >>> import keras, numpy as np, topwork as tw
        >>> zeros = keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros")
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), zeros])
        >>> model = tw.interpret.name_classes(model, ["cat", "dog"])
        >>> print(tw.predict(model, np.full((20, 30, 3), 128, "uint8"))[0])
        image 0
           50.0%  cat
           50.0%  dog
    """
    task = task_of(model)
    is_list = isinstance(names, (list, tuple, dict)) or hasattr(names, "tolist")
    of_data = None if is_list else class_names_of(names)
    if not is_list and of_data is None:
        raise InputError(
            "names is a list with a name for each class, or a data set that knows them, of "
            f"topwork.data.read_folder for example. Received: {described(names)}."
        )
    given = names if is_list else of_data
    checked = names_of_classes(given, model, task)
    learn_names(model, names)
    write_record(model, dataclasses.replace(read_record(model), class_names=checked))
    return model
