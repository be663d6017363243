"""The linear probe: how well a linear classifier does on given features."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from topwork._training.linear import STRENGTHS, TOLERANCE, fit_linear
from topwork._training.linear_fits import Array, Examples


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted linear classifier.

    Attributes:
        kernel: (features, classes).
        bias: (classes,).
        strength: Of the penalty that cross-validation chose.
    """

    kernel: Array
    bias: Array
    strength: float

    def scores(self, features: Array) -> Array:
        """Logits, (images, classes)."""
        return features @ self.kernel + self.bias

    def predict(self, features: Array) -> Array:
        """The number of the class with the highest score, for each image."""
        return self.scores(features).argmax(axis=1)


def fit_probe(
    features: Array,
    labels: Array,
    *,
    strengths: Sequence[float] = STRENGTHS,
    tolerance: float = TOLERANCE,
) -> Probe:
    """Fit a linear probe: what `fit_head` would solve for these features.

    Args:
        features: (images, features), finite.
        labels: (images,), from 0 to the number of classes - 1.
        strengths: Penalties to choose from, in falling order.
        tolerance: How exactly the last fit, on all images, is solved.

    Returns:
        The probe.
    """
    examples = Examples(
        read=features.__getitem__,
        rows=np.arange(len(features)),
        targets=labels,
        weights=np.ones(len(features)),
        n_features=features.shape[1],
        n_outputs=int(labels.max()) + 1,
    )
    model = fit_linear(examples, "softmax", strengths=strengths, tolerance=tolerance)
    return Probe(model.kernel, model.bias, model.strength)
