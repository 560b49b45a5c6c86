from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustprune.errors import EvaluationError
from robustprune.metrics import area_under_risk_coverage, risk_coverage


def test_counted_by_hand():
    coverage, risk = risk_coverage(np.array([0.3, 0.1, 0.2, 0.4]), np.array([False, True, True, True]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 4])
    assert area_under_risk_coverage(np.array([0.3, 0.1, 0.2, 0.4]), np.array([False, True, True, True])) == (
        pytest.approx((1 / 3 + 1 / 4) / 4)
    )


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_score_that_tells_nothing_has_the_error_rate_everywhere(is_correct):
    _, risk = risk_coverage(np.zeros(len(is_correct)), np.array(is_correct))
    assert risk == pytest.approx(np.full(len(is_correct), 1 - np.mean(is_correct)))


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6))
def test_ties_count_as_the_mean_over_all_orders(pairs):
    scores, is_correct = (np.array(column) for column in zip(*pairs, strict=True))
    orders = np.array(list(permutations(range(len(pairs)))))
    orders = np.take_along_axis(orders, np.argsort(scores[orders], axis=1, kind="stable"), axis=1)
    errors = np.cumsum(~is_correct[orders], axis=1).mean(axis=0) / np.arange(1, len(pairs) + 1)
    _, risk = risk_coverage(scores.astype(float), is_correct)
    assert risk == pytest.approx(errors, abs=1e-12)


def test_what_has_no_order_is_a_clean_error():
    with pytest.raises(EvaluationError, match="NaN"):
        risk_coverage(np.array([0, np.nan]), np.array([True, False]))
    with pytest.raises(EvaluationError, match=r"\(N,\) each"):
        risk_coverage(np.zeros(3), np.ones(2, bool))


def test_what_is_neither_right_nor_wrong():
    for odd in (np.array([np.nan, 0]), np.array([0.5, 1]), np.array([2, 0])):
        with pytest.raises(EvaluationError, match="true or false"):
            risk_coverage(np.arange(2.0), odd)
    assert risk_coverage(np.arange(2.0), np.array([1, 0]))[1].tolist() == [0, 0.5]
