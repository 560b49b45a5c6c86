"""Counts of a finite population from a sample of it: against SciPy's hypergeometric distribution, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from robustprune.errors import EvaluationError
from robustprune.metrics.sampling import count_interval


@pytest.mark.parametrize(
    ("found", "sampled", "population"), [(0, 10, 50), (3, 10, 50), (10, 10, 50), (7, 40, 41), (2, 5, 12)]
)
def test_it_holds_the_counts_that_no_tail_speaks_against(found: int, sampled: int, population: int) -> None:
    possible = [
        count
        for count in range(population + 1)
        if hypergeom.cdf(found, population, count, sampled) > 0.025
        and hypergeom.sf(found - 1, population, count, sampled) > 0.025
    ]
    assert count_interval(found, sampled, population) == (possible[0], possible[-1])


def test_a_sample_of_all_leaves_nothing_open() -> None:
    assert count_interval(7, 30, 30) == (7, 7)
    assert count_interval(0, 1, 1) == (0, 0)


def test_coverage() -> None:
    """Of 2,000 samples at least 95 % have an interval that holds the truth, within chance, whatever the truth is."""
    generator = np.random.default_rng(0)
    for truth in (0, 1, 8, 60, 119):
        drawn = generator.hypergeometric(truth, 120 - truth, 40, size=2000)
        holds = {found: (ends := count_interval(int(found), 40, 120))[0] <= truth <= ends[1] for found in set(drawn)}
        assert np.mean([holds[found] for found in drawn]) >= 0.95 - 3 * 0.005


@pytest.mark.parametrize("counts", [(3, 2, 5), (1, 6, 5), (0, 0, 5), (-1, 2, 5)])
def test_counts_that_contradict_each_other(counts: tuple[int, int, int]) -> None:
    with pytest.raises(EvaluationError, match="are no counts of a sample"):
        count_interval(*counts)
