"""Medians and their intervals, against tables of ranks and the binomial distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from robustprune.metrics import median_interval


# Ranks of the ends at 95 %, as tables of order statistics have them.
@pytest.mark.parametrize(("n", "ranks"), [(6, (1, 6)), (8, (1, 8)), (10, (2, 9)), (20, (6, 15)), (100, (40, 61))])
def test_ends_are_order_statistics(n: int, ranks: tuple[int, int]) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1, n + 1))
    assert median_interval(values) == (n // 2 + 1, *ranks)


@pytest.mark.parametrize("n", [6, 7, 31, 64, 1000])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_no_narrower_interval_would_do(n: int, confidence: float) -> None:
    _, low, high = median_interval(np.arange(1, n + 1), confidence)
    assert low + high == n + 1
    # The median lies between them where from ``low`` to ``high − 1`` values are below it.
    cover = binom.cdf(high - 1, n, 0.5) - binom.cdf(low - 1, n, 0.5)
    narrower = binom.cdf(high - 2, n, 0.5) - binom.cdf(low, n, 0.5)
    assert narrower < confidence <= cover


def test_few_values_and_infinite_ones() -> None:
    assert median_interval([3, 1, 2]) == (2, -np.inf, np.inf)
    assert median_interval([0, 1, 2, 3, np.inf, np.inf, np.inf]) == (3, 0, np.inf)
