from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robustprune.metrics import mean_interval


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=12), st.floats(0.5, 0.99))
def test_interval_is_that_of_the_t_test(values: list[float], confidence: float) -> None:
    found = mean_interval(values, confidence)
    assert found is not None
    if np.ptp(values) < 1e-6:  # the test divides by the deviation
        assert found == pytest.approx((values[0], values[0]), abs=1e-5)
        return
    expected = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_three_seeds_reach_two_and_a_half_deviations() -> None:
    low, high = mean_interval([1.0, 2.0, 3.0]) or (math.nan, math.nan)
    assert (low + high) / 2 == 2
    assert (high - low) / 2 == pytest.approx(2.484, abs=1e-3)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_fewer_than_two_values_have_no_interval(values: list[float]) -> None:
    assert mean_interval(values) is None
