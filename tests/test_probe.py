"""The linear probe, against scikit-learn where that is installed, and on its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from topwork._evidence.probe import fit_probe
from topwork._training.linear import STRENGTHS, fold_of
from topwork._training.minimise import minimise


def task(n_images: int, n_features: int, n_classes: int, noise: float = 0.5) -> tuple[Any, Any]:
    """Correlated features of very different scales, and classes that depend on them linearly."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n_images, n_features)) * (1 + np.arange(n_features)) ** -0.5
    features = hidden @ rng.normal(size=(n_features, n_features)) * rng.uniform(0.01, 100, n_features) + 5
    directions = rng.normal(size=(n_features, n_classes)) * (1 + np.arange(n_features))[:, None] ** -0.5
    scores = hidden @ directions + noise * rng.gumbel(size=(n_images, n_classes))
    return features.astype(np.float32), scores.argmax(axis=1)


def probabilities(scores: Any) -> Any:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def pareto_scaled(features: Any) -> Any:
    """Divided by the roots of the deviations, and to a mean square length of 1."""
    scaled = (features - features.mean(axis=0)) / np.sqrt(features.std(axis=0))
    return scaled / np.sqrt((scaled**2).sum(axis=1).mean())


@pytest.mark.thorough
@pytest.mark.parametrize(("n_images", "n_features"), [(120, 300), (300, 40)])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("strength", [1.0, 0.03])
def test_it_is_the_logistic_regression_of_scikit_learn(
    n_images: int, n_features: int, n_classes: int, strength: float
) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, labels = task(n_images, n_features, n_classes)
    probe = fit_probe(features, labels, strengths=[strength], tolerance=1e-6)
    scaled = pareto_scaled(features)
    # scikit-learn has one vector for two classes, the difference of the two here.
    c = (2 if n_classes == 2 else 1) / strength
    peer = linear_model.LogisticRegression(C=c, max_iter=5000, tol=1e-6).fit(scaled, labels)
    expected = peer.predict_proba(scaled)
    np.testing.assert_allclose(probabilities(probe.scores(features)), expected, atol=2e-3)


@pytest.mark.thorough
@pytest.mark.parametrize(("n_images", "n_features", "n_classes"), [(300, 500, 2), (600, 60, 5)])
def test_its_strength_is_as_good_as_that_of_scikit_learn(
    n_images: int, n_features: int, n_classes: int
) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, labels = task(2 * n_images, n_features, n_classes)
    train, other = features[:n_images], features[n_images:]
    probe = fit_probe(train, labels[:n_images])
    accuracy = (probe.predict(other) == labels[n_images:]).mean()
    scale = train.std(axis=0)
    peers = [
        linear_model.LogisticRegression(C=c, max_iter=2000).fit(train / scale, labels[:n_images])
        for c in (1e-4, 1e-3, 1e-2, 1e-1, 1)
    ]
    assert accuracy > max(peer.score(other / scale, labels[n_images:]) for peer in peers) - 0.02


def test_more_noise_asks_for_a_stronger_penalty() -> None:
    chosen = [fit_probe(*task(200, 50, 2, noise)).strengths[0] for noise in (0.01, 5.0)]
    assert chosen[0] < chosen[1]


def test_of_features_without_information_nothing_is_learned() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 50)).astype(np.float32)
    probe = fit_probe(features, rng.integers(0, 2, 200))
    assert probe.strengths == (STRENGTHS[0],)
    assert np.abs(probabilities(probe.scores(features)) - 0.5).max() < 0.25


def test_a_constant_feature_has_no_say_in_other_images() -> None:
    features, labels = task(60, 5, 2)
    features[:, 3] = 0.1  # not exact in float32, so that its standard deviation is not exactly 0
    probe = fit_probe(features, labels)
    changed = features.copy()
    changed[:, 3] = 1e6
    np.testing.assert_array_equal(probe.scores(changed), probe.scores(features))


def test_all_features_constant() -> None:
    labels = np.array([0, 0, 1, 0, 1, 0])
    probe = fit_probe(np.zeros((6, 4), np.float32), labels)
    np.testing.assert_array_equal(probe.predict(np.ones((3, 4), np.float32)), [0, 0, 0])


def test_separable_classes_and_very_few_images() -> None:
    features = np.array([[0, 1], [1, 0], [10, 1], [11, 0]], np.float32)
    probe = fit_probe(features, np.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(probe.predict(features), [0, 0, 1, 1])


def test_it_is_the_same_every_time() -> None:
    features, labels = task(100, 30, 3)
    first, second = fit_probe(features, labels), fit_probe(features, labels)
    np.testing.assert_array_equal(first.kernel, second.kernel)


def test_the_folds_are_equally_large_and_have_all_classes() -> None:
    labels = np.repeat([0, 1, 2], [10, 25, 65])
    folds = fold_of(labels, 5)
    assert np.bincount(folds).tolist() == [20] * 5
    for fold in range(5):
        assert np.bincount(labels[folds == fold]).tolist() == [2, 5, 13]


def test_the_minimum_of_a_quadratic_function() -> None:
    curvatures, centre = np.array([1.0, 30.0, 1000.0]), np.array([1.0, -2.0, 3.0])

    def function(point: Any) -> tuple[float, Any]:
        offset = point - centre
        return float((curvatures * offset**2).sum() / 2), curvatures * offset

    np.testing.assert_allclose(minimise(function, np.zeros(3), 1e-8), centre, atol=1e-8)
