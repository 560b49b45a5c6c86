"""Trainings that fail: by what rule they are found, and what is said of methods that do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from comparison_simulation import failing_shares
from scipy import stats
from synthetic_records import make_record

from robustprune.comparison import Comparison, ComparisonRow, compare
from robustprune.comparison.compared_networks import read_networks
from robustprune.comparison.failures import failed_trainings, find_failures, spare_trainings
from robustprune.metrics.seeds import interquartile_mean, paired_difference, unpaired_difference
from robustprune.records import Record


@pytest.fixture
def random():
    return np.random.default_rng(3)


@pytest.mark.parametrize(
    ("accuracies", "classes", "failed"),
    [
        ([0.95, 0.94, 0.10], 10, {2}),  # chance
        ([0.95, 0.94, 0.80], 10, {2}),
        ([0.95, 0.94, 0.86], 10, set()),  # no tenth below
        ([0.60, 0.95, 0.28, 0.29], 10, {0, 2, 3}),  # most of them
        ([0.95, 0.88, 0.80, 0.73], 10, set()),  # such are its seeds
        ([0.10, 0.12], 10, {0, 1}),
        ([0.95, 0.60], 10, {1}),
        ([0.60], 10, set()),
        ([0.54, 0.90, 0.91], 2, {0}),
        ([0.012] * 4, 100, {0, 1, 2, 3}),
        ([0.012] * 4, 0, set()),  # chance is not known
    ],
)
def test_the_rule_by_hand(accuracies, classes, failed):
    assert failed_trainings(np.array(accuracies), classes) == failed


def test_usual_trainings_do_not_fail(random):
    for seeds in (3, 5, 10):
        assert not any(failed_trainings(values, 10) for values in random.normal(0.9, 0.015, (1000, seeds)))


def test_an_interquartile_mean_is_that_of_scipy(random):
    for count in (3, 4, 7, 20):
        values = random.normal(size=count)
        assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))
    assert [spare_trainings(count) for count in (1, 3, 4, 5, 8, 10, 20)] == [0, 0, 0, 1, 2, 2, 5]


def test_two_groups_are_a_test_of_yuen(random):
    first, second = random.standard_t(2, 9), 1 + random.standard_t(2, 12)
    found = unpaired_difference(first, second, np.zeros((21, 21)), trim=True)
    expected = stats.ttest_ind(second, first, equal_var=False, trim=0.25)
    assert found.difference == pytest.approx(stats.trim_mean(second, 0.25) - stats.trim_mean(first, 0.25))
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)


def test_pairs_are_one_group_of_yuen(random):
    differences = random.standard_t(2, 12)
    found = paired_difference(differences, np.zeros((12, 12)), trim=True)
    expected = stats.ttest_ind(differences, np.zeros(12), equal_var=False, trim=0.25)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.interval(0.9) == pytest.approx(tuple(expected.confidence_interval(0.9)))


def trained(kind: str, accuracies: dict[int, float], failing: int | None = None, **options: Any) -> list[Record]:
    """Return records of networks that ended their trainings with these accuracies, by seed; one may fail on test."""
    found = []
    for seed, accuracy in accuracies.items():
        record = make_record(kind=kind, seed=seed, **options | ({"accuracy": 0.3} if seed == failing else {}))
        record.model.history = [{"epoch": 1, "train_accuracy": 0.3}, {"epoch": 2, "train_accuracy": accuracy}]
        found.append(record)
    return found


def accuracy_of(found: Comparison) -> ComparisonRow:
    return next(row for row in found.rows if row.metric == "accuracy")


USUAL = dict.fromkeys(range(8), 0.97)


def test_shares_of_failures_are_those_of_clopper_and_pearson():
    networks = read_networks("layer", trained("layer", USUAL | {2: 0.2, 5: 0.3}))
    found = find_failures("layer", networks)
    assert (found.seeds, found.n_networks, found.share) == ((2, 5), 8, 0.25)
    assert found.interval == pytest.approx(tuple(stats.binomtest(2, 8).proportion_ci(0.95)))
    none = find_failures("dense", read_networks("dense", trained("dense", USUAL)))
    assert not none
    assert none.interval == pytest.approx(tuple(stats.binomtest(0, 8).proportion_ci(0.95)))


def test_a_method_that_fails_does_not_win_by_what_it_usually_does():
    dense = trained("dense", USUAL, n=4000)
    usual = compare(dense, {"layer": trained("layer", USUAL, n=4000)})
    assert accuracy_of(usual).verdict == "equivalent"
    found = compare(dense, {"layer": trained("layer", USUAL | {4: 0.2}, failing=4, n=4000)})
    row = accuracy_of(found)
    assert (row.verdict, row.over_seeds) == ("undecided", "interquartile mean")
    assert row.bounds is not None
    assert max(map(abs, row.bounds)) < 1  # of the usual training
    assert found.summary[0].startswith("layer vs. dense: 1 of 8 trainings failed, clean accuracy undecided (")
    assert found.limitations[0].startswith(
        "layer: 1 of 8 trainings failed (seed 4); interval of the failure rate 0.3 to 52.7 %"
    )
    assert [bool(each) for each in found.failures] == [False, True]


def test_worse_it_may_be_and_what_the_dense_network_fails_in_is_no_fault_of_it():
    failing = trained("layer", USUAL | {4: 0.2}, failing=4, n=4000, accuracy=0.8)
    assert accuracy_of(compare(trained("dense", USUAL, n=4000), {"layer": failing})).verdict == "worse"
    dense = trained("dense", USUAL | {4: 0.2}, failing=4, n=4000)
    assert accuracy_of(compare(dense, {"layer": trained("layer", USUAL, n=4000)})).verdict == "equivalent"


def test_more_failures_than_can_be_left_out_leave_no_verdict():
    few = {seed: 0.97 for seed in range(3)}
    found = compare(trained("dense", few), {"layer": trained("layer", few | {1: 0.1}, failing=1)})
    row = accuracy_of(found)
    assert (row.verdict, row.interval) == (None, None)
    assert row.reason == "layer: 1 of 3 trainings failed (seed 1); interval of the failure rate 0.8 to 90.6 %"
    assert "verdicts are not given" in found.limitations[0]
    costs = [each for each in found.rows if each.metric == "macs"]
    assert costs[0].saved_percent == 0


def test_an_odd_training_is_said():
    values = {seed: 0.97 + 0.001 * (seed % 3) for seed in range(8)} | {3: 0.93}
    found = compare(trained("dense", USUAL), {"layer": trained("layer", values)})
    assert any("layer: outlier: seed 3 (training accuracy 93.0 %), far below" in each for each in found.limitations)


def test_grubbs_finds_one_set_of_normal_values_in_a_hundred(random):
    from robustprune.comparison.failures import _odd

    for seeds in (3, 6, 12):
        found = sum(bool(_odd(values, set())) for values in random.normal(0.9, 0.01, (4000, seeds)))
        assert 20 <= found <= 60


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_where_one_training_in_ten_fails_the_truth_is_held_or_nothing_is_said(seeds):
    found = failing_shares(seeds, 1000, 400)
    assert found["covered"] >= 90
    assert found["mean covered"] < 75
