import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustprune.comparison.verdict import TOLERANCES, WINNING, judge, read_tolerance, write_tolerances
from robustprune.errors import ComparisonError


@pytest.mark.parametrize(
    ("interval", "bounds", "expected"),
    [
        ((0.1, 5.0), (0.3, 4.0), "better"),
        ((0.1, 0.5), (0.2, 0.4), "better"),  # by less than ξ, and better all the same
        ((0.0, 0.5), (0.1, 0.4), "equivalent"),
        ((-1.1, 1.2), (-0.9, 0.9), "equivalent"),
        ((-0.9, -0.1), (-0.8, -0.2), "equivalent"),
        ((-1.1, 3.0), (-0.9, 1.0), "no worse"),
        ((-1.5, 3.0), (-1.0, 2.0), "undecided"),
        ((-3.0, -0.9), (-2.9, -1.0), "undecided"),
        ((-3.0, -0.9), (-2.9, -1.1), "worse"),
    ],
)
def test_by_hand(interval, bounds, expected):
    assert judge(interval, bounds, 1.0) == expected
    turned = [(-high, -low) for low, high in (interval, bounds)]
    assert judge(*turned, 1.0, higher_is_better=False) == expected


@given(st.floats(-5, 5), st.floats(0, 5), st.floats(0, 5), st.floats(0, 3))
def test_one_network_cannot_lose_both_ways(low, width, tolerance, more):
    # More tolerance never turns a win into a loss, and narrower bounds never take a decision back.
    ends, middle = (low, low + width), (low + width / 4, low + width / 2)
    first, inner = judge(ends, ends, tolerance), judge(middle, middle, tolerance)
    if first in WINNING:
        assert inner in WINNING
        assert judge(ends, ends, tolerance + more) in WINNING
    if first in ("worse", "better"):
        assert inner == first


@given(st.floats(-5, 5), st.floats(0, 5), st.floats(0, 5))
def test_equivalence_has_no_direction(low, width, tolerance):
    ends = (low, low + width)
    there, back = (judge((-9.0, 9.0), each, tolerance) for each in (ends, (-ends[1], -ends[0])))
    assert (there == "equivalent") == (back == "equivalent")


def test_tolerances_by_kind():
    assert read_tolerance(TOLERANCES) == TOLERANCES
    assert read_tolerance({}) == TOLERANCES
    assert read_tolerance({"auroc": "std", "nll": 0.1}) == {**TOLERANCES, "auroc": "std", "nll": 0.1}
    of_shares = {"accuracy", "robust_accuracy", "corruption_accuracy", "shift_accuracy", "certified_accuracy"}
    of_shares |= {"auroc", "ece"}
    assert {kind for kind, value in read_tolerance(3).items() if value == 3} == of_shares
    assert set(read_tolerance("std").values()) == {"std"}
    assert write_tolerances(TOLERANCES, ["accuracy", "auroc[msp svhn]", "auroc[knn svhn]", "ece", "nll", "macs"]) == (
        "1 pp (accuracy, ECE); 2 pp (AUROC); none (NLL)"
    )


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"aurok": 1}, "Did you mean 'auroc'"),
        ({"ece": -1}, "ECE must be 'std' or percentage"),
        ({"nll": "one"}, "a number"),
    ],
)
def test_tolerances_that_mean_nothing(given, match):
    with pytest.raises(ComparisonError, match=match):
        read_tolerance(given)
