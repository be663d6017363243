"""The linear probe: how well a linear model does on given features."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from topwork._training.linear import STRENGTHS, TOLERANCE, fit_linear
from topwork._training.linear_fits import LOSS_OF, Array, Examples


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted linear model.

    Attributes:
        kernel: (features, classes), or as many columns as there are labels or numbers.
        bias: (classes,).
        strengths: Of the penalties that cross-validation chose, as `LinearModel` has them.
    """

    kernel: Array
    bias: Array
    strengths: tuple[float, ...]

    def scores(self, features: Array) -> Array:
        """Logits, (images, classes or labels), or numbers."""
        return features @ self.kernel + self.bias

    def predict(self, features: Array) -> Array:
        """The number of the class with the highest score, for each image."""
        return self.scores(features).argmax(axis=1)


def fit_probe(
    features: Array,
    targets: Array,
    task: str = "classes",
    *,
    strengths: Sequence[float] = STRENGTHS,
    tolerance: float = TOLERANCE,
) -> Probe:
    """Fit a linear probe: what `fit_head` would solve for these features.

    Args:
        features: (images, features), finite.
        targets: (images,), from 0 to the number of classes - 1; (images, labels) of 0 and 1; or
            (images, numbers).
        task: Which of these they are, `"classes"`, `"labels"` or `"numbers"`.
        strengths: Penalties to choose from, in falling order.
        tolerance: How exactly the last fit, on all images, is solved.

    Returns:
        The probe.
    """
    examples = Examples(
        read=features.__getitem__,
        rows=np.arange(len(features)),
        targets=targets,
        weights=np.ones(len(features)),
        n_features=features.shape[1],
        n_outputs=int(targets.max()) + 1 if targets.ndim == 1 else targets.shape[1],
    )
    model = fit_linear(examples, LOSS_OF[task], strengths=strengths, tolerance=tolerance)
    return Probe(model.kernel, model.bias, model.strengths)
