import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustprune.comparison.difference import judge


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.1, 0.5), "better"),
        ((0.0, 0.5), "winning"),
        ((-0.9, 3.0), "winning"),
        ((-1.0, 3.0), "undecided"),
        ((-1.5, 0.2), "undecided"),
        ((-3.0, -1.0), "undecided"),
        ((-3.0, -1.1), "losing"),
    ],
)
def test_equation_1_by_hand(interval, expected):
    assert judge(interval, 1.0) == expected
    assert judge((-interval[1], -interval[0]), 1.0, higher_is_better=False) == expected


@given(st.floats(-5, 5), st.floats(0, 5), st.floats(0, 5), st.floats(0, 3))
def test_one_network_cannot_lose_both_ways(low, width, tolerance, more):
    # A narrower interval never takes a decision back, and more tolerance never turns a win into a loss.
    first = judge((low, low + width), tolerance)
    inner = judge((low + width / 4, low + width / 2), tolerance)
    if first in ("better", "losing"):
        assert inner == first
    if first in ("better", "winning"):
        assert judge((low, low + width), tolerance + more) == first
