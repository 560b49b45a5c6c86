"""Kendall's τ_b against SciPy's, and in strata against its definition, pair by pair."""

from __future__ import annotations

from itertools import combinations
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from robustprune.metrics.concordance import kendall, percentile

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12)


@given(PAIRS)
def test_one_stratum_is_the_tau_b_of_scipy(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    found, expected = kendall([(x, y)]), kendalltau(x, y).statistic
    assert found is None if np.isnan(expected) else found == pytest.approx(expected)


@given(st.lists(PAIRS, min_size=1, max_size=4))
def test_strata_are_not_compared_with_each_other(strata: list[list[tuple[int, int]]]) -> None:
    agree = ordered_x = ordered_y = 0
    for own in strata:
        for (a, b), (c, d) in combinations(own, 2):
            agree += np.sign(a - c) * np.sign(b - d)
            ordered_x += a != c
            ordered_y += b != d
    found = kendall(tuple(np.array(own, dtype=float).T) for own in strata)  # type: ignore[misc]
    if ordered_x and ordered_y:
        assert found == pytest.approx(agree / sqrt(ordered_x * ordered_y))
    else:
        assert found is None


@given(st.lists(st.integers(0, 5), min_size=2, max_size=12))
def test_of_values_drawn_from_equals_the_mean_percentile_is_fifty(values: list[int]) -> None:
    found = [percentile(each, np.array(values[:place] + values[place + 1 :])) for place, each in enumerate(values)]
    assert np.mean(found) == pytest.approx(50)  # type: ignore[arg-type]


def test_of_no_others_nothing_is_said() -> None:
    assert percentile(1.0, np.array([])) is None
    assert kendall([(np.array([1.0]), np.array([2.0]))]) is None
