"""The chance that one network is ahead of another, where it is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from robustprune.metrics.superiority import chance_to_be_ahead


@pytest.fixture
def random():
    return np.random.default_rng(8)


@pytest.mark.parametrize(("means", "deviations"), [((0, 0), (1, 1)), ((0, 1), (1, 2)), ((3, 1), (0.5, 1))])
def test_of_normal_values_it_is_known(random, means, deviations):
    first, second = (random.normal(mean, spread, 20_000) for mean, spread in zip(means, deviations, strict=True))
    expected = stats.norm.cdf((means[1] - means[0]) / np.hypot(*deviations))
    for paired in (True, False):
        found = chance_to_be_ahead(first, second, paired=paired)
        assert found is not None
        assert found[0] == pytest.approx(expected, abs=0.01)
        assert found[1][0] <= found[0] <= found[1][1]
    pairs_won = stats.mannwhitneyu(second, first).statistic / 20_000**2
    assert found[0] == pytest.approx(pairs_won, abs=0.005)


def test_the_interval_excludes_one_half_where_a_t_test_finds_a_difference(random):
    for seeds in (3, 5, 10):
        for _ in range(20):
            first, second = random.normal(size=seeds), random.normal(0.8, 1, seeds)
            found = chance_to_be_ahead(first, second, paired=True)
            assert found is not None
            is_found = stats.ttest_rel(second, first).pvalue < 0.05
            assert (found[1][0] > 0.5 or found[1][1] < 0.5) == is_found


@pytest.mark.parametrize(("paired", "counts", "margin"), [(True, (4, 4), 2), (False, (3, 6), 3), (False, (10, 5), 2)])
def test_intervals_hold_the_truth(random, paired, counts, margin):
    covered, truth = 0, stats.norm.cdf(0.7 / np.hypot(1, 2))
    for _ in range(1000):
        first, second = random.normal(0, 1, counts[0]), random.normal(0.7, 2, counts[1])
        _, (low, high) = chance_to_be_ahead(first, second, paired=paired)
        covered += low <= truth <= high
    assert covered / 10 == pytest.approx(95, abs=margin)


def test_changing_sides_gives_the_rest(random):
    first, second = random.normal(size=5), random.normal(1, 1, 7)
    there, back = (chance_to_be_ahead(*sides, paired=False) for sides in ((first, second), (second, first)))
    assert there[0] + back[0] == pytest.approx(1)
    assert there[1][0] + back[1][1] == pytest.approx(1)


def test_too_few_say_nothing():
    assert chance_to_be_ahead(np.zeros(2), np.ones(2), paired=True) is None
    assert chance_to_be_ahead(np.zeros(4), np.ones(4), paired=True) is None
