"""Certified radii: against SciPy's exact intervals and tests, by simulated coverage, and worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from robustprune.errors import EvaluationError
from robustprune.metrics import (
    average_certified_radius,
    certified_accuracy,
    certified_radius,
    is_majority,
    probability_low,
)


@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_bounds_are_the_exact_ones_of_scipy(alpha: float) -> None:
    counts = np.array([0, 1, 37, 50, 99, 100])
    wanted = [
        binomtest(int(k), 100, alternative="greater").proportion_ci(1 - alpha, method="exact").low for k in counts
    ]
    np.testing.assert_allclose(probability_low(counts, 100, alpha), wanted, rtol=1e-9)
    # Of all votes alike the bound is the α under which that happens.
    assert probability_low([100], 100, alpha)[0] ** 100 == pytest.approx(alpha)


@pytest.mark.parametrize("probability", [0.5, 0.8, 0.97, 0.999])
def test_bounds_lie_above_the_probability_as_rarely_as_promised(probability: float) -> None:
    alpha, n, samples = 0.05, 200, 20_000
    counts = np.random.default_rng(0).binomial(n, probability, samples)
    missed = int((probability_low(counts, n, alpha) > probability).sum())
    # Beyond four standard deviations above α: the bound is conservative, never the other way.
    assert missed / samples <= alpha + 4 * np.sqrt(alpha * (1 - alpha) / samples)
    if probability < 0.99:
        assert missed > 0


def test_a_radius_is_the_quantile_of_the_bound_or_nothing() -> None:
    counts = np.arange(1001)
    radii = certified_radius(counts, 1000, sigma=0.25, alpha=0.001)
    low = probability_low(counts, 1000, 0.001)
    assert (radii[low <= 0.5] == 0).all()
    np.testing.assert_allclose(radii[low > 0.5], 0.25 * norm.ppf(low[low > 0.5]))
    assert (np.diff(radii) >= 0).all()
    # The largest one that so many votes can show: σ Φ⁻¹(α^(1/n)).
    assert radii[-1] == pytest.approx(0.25 * norm.ppf(0.001**0.001))


def test_a_majority_is_what_a_binomial_test_says() -> None:
    first, second = (each.ravel() for each in np.meshgrid(np.arange(30), np.arange(30)))
    fits = first >= second
    first, second = first[fits], second[fits]
    wanted = [a + b > 0 and binomtest(int(a), int(a + b)).pvalue <= 0.05 for a, b in zip(first, second, strict=True)]
    np.testing.assert_array_equal(is_majority(first, second, 0.05), wanted)


def test_the_average_radius_is_the_area_under_the_certified_accuracy() -> None:
    generator = np.random.default_rng(1)
    radii, right = generator.uniform(0, 1, 50).round(2), generator.random(50) < 0.7
    steps = np.arange(0.005, 1.2, 0.01)  # radii are multiples of a step, and these lie between
    area = 0.01 * sum(certified_accuracy(radii, right, step) for step in steps)
    assert average_certified_radius(radii, right) == pytest.approx(area)
    assert certified_accuracy([0.0, 0.3, 0.3], [True, True, False]) == pytest.approx(1 / 3)
    assert certified_accuracy([0.0, 0.3, 0.3], [True, True, False], 0.3) == pytest.approx(1 / 3)


def test_what_makes_no_sense_is_refused() -> None:
    for counts, n in (([11], 10), ([-1], 10), ([0.5], 10), ([0], -1)):
        with pytest.raises(EvaluationError, match="votes are whole numbers"):
            probability_low(counts, n)
    for alpha in (0, 1, float("nan")):
        with pytest.raises(EvaluationError, match="alpha must lie between 0 and 1"):
            probability_low([1], 2, alpha)
    for sigma in (0, -1, float("inf"), float("nan")):
        with pytest.raises(EvaluationError, match="sigma must be a finite number above 0"):
            certified_radius([1], 2, sigma=sigma)
    with pytest.raises(EvaluationError, match="exchange them"):
        is_majority([1], [2])
    with pytest.raises(EvaluationError, match="at least 0"):
        certified_accuracy([1.0], [True], -0.1)
    with pytest.raises(EvaluationError, match="N ≥ 1"):
        certified_accuracy([], [])
