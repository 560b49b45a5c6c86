"""Mean ranks against the worked example of Demšar 2006 and scipy."""

from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from robustprune.metrics.ranks import exact_p_value, friedman_p_value, range_quantile, rank_methods

# Demšar 2006, Table 6: AUC of C4.5, with m, with cf and with both tuned, on 14 data sets. The table has 0.975 twice for
# voting and yet the ranks 2 and 3; so one of the two was rounded.
AUC = np.array(
    [
        *[(0.763, 0.768, 0.771, 0.798), (0.599, 0.591, 0.590, 0.569), (0.954, 0.971, 0.968, 0.967)],
        *[(0.628, 0.661, 0.654, 0.657), (0.882, 0.888, 0.886, 0.898), (0.936, 0.931, 0.916, 0.931)],
        *[(0.661, 0.668, 0.609, 0.685), (0.583, 0.583, 0.563, 0.625), (0.775, 0.838, 0.866, 0.875)],
        *[(1.000, 1.000, 1.000, 1.000), (0.940, 0.962, 0.965, 0.962), (0.619, 0.666, 0.614, 0.669)],
        *[(0.972, 0.981, 0.9751, 0.975), (0.957, 0.978, 0.946, 0.970)],
    ]
)


def test_demsars_example():
    found = rank_methods(AUC)
    assert found.means == pytest.approx((3.143, 2.000, 2.893, 1.964), abs=5e-4)
    assert rank_methods(AUC, 0.9).critical_difference == pytest.approx(1.12, abs=5e-3)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    ties = 1 - (3 * (2**3 - 2) + (4**3 - 4)) / (14 * (4**3 - 4))  # three pairs, and mushrooms
    assert found.statistic * ties == pytest.approx(9.28, abs=5e-3)
    assert stats.f.sf(3.69, 3, 39) == pytest.approx(friedman_p_value(9.28, 14, 4), rel=5e-3)


def test_demsar_tells_two_methods_from_the_first_at_10_percent():
    assert rank_methods(AUC).cliques == ((3, 1, 2, 0),)
    assert rank_methods(AUC, 0.9).cliques == ((3, 1, 2), (2, 0))


def test_friedman_and_ranks_are_those_of_scipy():
    random = np.random.default_rng(0)
    for shape in ((6, 3), (10, 5)):
        values = random.integers(0, 6, shape).astype(float)
        found = rank_methods(values, higher_is_better=False)
        assert found.statistic == pytest.approx(stats.friedmanchisquare(*values.T).statistic)
        assert found.means == pytest.approx(stats.rankdata(values, axis=1).mean(axis=0))


@pytest.mark.parametrize(("confidence", "k"), [(0.95, 3), (0.9, 6)])
def test_quantiles_are_those_of_the_studentized_range(confidence, k):
    assert range_quantile(confidence, k) == pytest.approx(stats.studentized_range.ppf(confidence, k, np.inf), rel=1e-5)


def test_methods_that_never_differ_are_one_clique():
    found = rank_methods(np.ones((4, 3)))
    assert (found.means, found.statistic, found.p_value) == ((2.0, 2.0, 2.0), 0.0, 1.0)
    assert found.cliques == ((0, 1, 2),)


def test_one_order_on_every_block_is_as_rare_as_it_is():
    found = rank_methods(np.arange(3.0) + np.arange(4.0)[:, None])
    assert found.means == (3, 2, 1)
    assert found.p_value == pytest.approx(1 / math.factorial(3) ** 3)
    assert found.cliques == ((2, 1), (1, 0))  # the critical difference is 1.66


def test_of_as_many_methods_on_twenty_blocks_five_percent_are_told_apart_by_chance():
    random = np.random.default_rng(2)
    told = sum(len(rank_methods(random.random((20, 4))).cliques) > 1 for _ in range(300))
    assert told / 3 <= 5 + 2.5


@pytest.mark.parametrize(
    ("values", "by_hand"),
    [
        # Layer 1 1 1, dense 2 2 3, filter 3 3 2. Of the 36 orders of the other two blocks, χ² is 6 in 1 and 4.67 in 6.
        ([(3, 2, 1), (3, 2, 1), (3, 1, 2)], 7 / 36),
        ([(3, 2, 1), (3, 2, 1), (3, 2, 1)], 1 / 36),
        # Two alike in each block, the third ahead in all: 1 of 9 orders.
        ([(2, 1, 1), (2, 1, 1), (2, 1, 1)], 1 / 9),
    ],
)
def test_of_three_methods_on_three_blocks_p_is_counted(values, by_hand):
    assert rank_methods(np.array(values, float)).p_value == pytest.approx(by_hand)


def test_the_exact_p_is_the_share_of_orders_with_a_chi_square_as_large():
    values = np.random.default_rng(1).integers(0, 4, (4, 3)).astype(float)
    orders = [list(permutations(row)) for row in values]
    found = np.array([stats.friedmanchisquare(*np.array(each).T).statistic for each in product(*orders)])
    observed = stats.friedmanchisquare(*values.T).statistic
    assert rank_methods(values).p_value == pytest.approx(np.mean(found >= observed - 1e-9))


def test_exact_and_approximate_p_agree_on_many_blocks():
    random = np.random.default_rng(4)
    for _ in range(5):
        values = random.random((10, 4)) + 0.1 * np.arange(4)
        found, ranks = rank_methods(values), stats.rankdata(-values, axis=1)
        assert exact_p_value(ranks) == found.p_value
        assert found.p_value == pytest.approx(friedman_p_value(found.statistic, 10, 4), abs=0.02)
        assert found.p_value == pytest.approx(stats.friedmanchisquare(*values.T).pvalue, abs=0.05)
