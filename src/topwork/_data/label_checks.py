"""The labels of each batch against the losses that a model was compiled with."""

from __future__ import annotations

from typing import Any

import keras

from topwork._data.labels import (
    ignored_class,
    label_kinds,
    label_problem,
    losses_of,
    output_names,
    rows_without_class,
    type_problem,
)
from topwork._data.loss_trial import compilation_problem
from topwork._data.origin import origin_of
from topwork._data.source import Source
from topwork._errors import InputError, warn
from topwork._networks.classifier import n_softmax_units


class LabelCheck:
    """The labels of each output against what its loss takes."""

    def __init__(self, model: keras.Model) -> None:
        names = output_names(model)
        self._model = model
        self._kinds = dict(zip(names, label_kinds(model), strict=True))
        self._losses = dict(zip(names, losses_of(model), strict=True))
        self._ignored = ignored_class(model)

    def check(self, y: Any, sample_weight: Any, subject: str, n_before: int, n_images: int) -> None:
        """Raise unless the labels of a batch are what the losses take."""
        if y is None and any(self._kinds.values()):
            raise InputError(
                f"{subject} has no labels. Pass them as y, or as (images, labels) in a dataset."
            )
        problem, output = None, ""
        for name, labels in [] if y is None else self._by_output(y, subject):
            problem = self._problem(name, labels) or self._empty_rows(
                name, labels, sample_weight, n_before
            )
            if problem:
                output = f", for the output {name!r}," if len(self._kinds) > 1 else ""
                break
        if n_before == 0 and not problem:
            problem = compilation_problem(self._model, y, sample_weight, n_images)
        if problem:
            raise InputError(
                f"{subject} has{output} {problem}. First seen in images {n_before} to "
                f"{n_before + n_images - 1}."
            )

    def _problem(self, name: str, labels: Any) -> str | None:
        kind, loss = self._kinds[name], self._losses[name]
        if kind is not None:
            return label_problem(labels, kind, self._ignored)
        return None if loss is None else type_problem(labels)

    def _empty_rows(self, name: str, labels: Any, sample_weight: Any, n_before: int) -> str | None:
        empty = rows_without_class(labels, self._kinds[name], sample_weight)
        if not empty.any():
            return None
        return (
            f"one-hot labels with {empty.sum()} rows of zeros only, images without a class, first of "
            f"image {n_before + empty.argmax()} (counted from 0): their loss is 0 whatever the model "
            "says. Leave such images out, give them a class of their own, or the sample weight 0"
        )

    def warn_of_others(self, y: Any, subject: str) -> None:
        """Say which labels are no class of the softmax, where the loss behind it is not known."""
        is_own = [
            name for name, loss in self._losses.items() if loss is not None and not self._kinds[name]
        ]
        n_classes = n_softmax_units(self._model) if is_own and y is not None else 0
        if not n_classes:
            return
        labels = keras.tree.flatten(y)[0]
        is_column = labels.ndim == 1 or labels.shape[1:] == (1,)
        outside = labels[(labels < 0) | (labels >= n_classes)]
        if is_column and labels.dtype.kind in "iu" and outside.size:
            warn(
                f"{subject} has the label {outside.flat[0]}, and the model has {n_classes} classes, "
                f"numbered 0 to {n_classes - 1}. If the loss that it was compiled with does not pass "
                "over it, number the labels from 0, or make the head with more classes."
            )

    def check_known(self, source: Source, subject: str) -> None:
        """Raise for labels that are known before an image is read: those of `read_folder`."""
        origin, (name, *others) = origin_of(source.given[0]), self._kinds
        if origin is None or origin.labels is None or others:
            return
        labels, paths = origin.labels, origin.paths
        if self._problem(name, labels) is None:
            return
        rows = (labels[i : i + 1] for i in range(len(labels)))
        first, problem = next(
            (i, told) for i, row in enumerate(rows) if (told := self._problem(name, row))
        )
        where = f"image {first}" if paths is None else paths[first]
        raise InputError(f"{subject} has {problem}. First seen in the file {where}.")

    def _by_output(self, y: Any, subject: str) -> list[tuple[str, Any]]:
        names = list(self._kinds)
        if isinstance(y, dict):
            unknown = [key for key in y if key not in names]
            if unknown:
                raise InputError(
                    f"{subject} has labels for {unknown[0]!r}, and the outputs are named "
                    f"{', '.join(names)}. Rename them."
                )
            return [(name, y[name]) for name in y if y[name] is not None]
        flat = keras.tree.flatten(y)
        if len(flat) != len(names):
            raise InputError(
                f"{subject} has {len(flat)} arrays of labels, and the model {len(names)} outputs: "
                f"{', '.join(names)}. Each output needs labels of its own."
            )
        return [pair for pair in zip(names, flat, strict=True) if pair[1] is not None]
