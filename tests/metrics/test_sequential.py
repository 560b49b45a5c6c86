"""How sure each of several looks has to be: published boundaries, and what errors they leave."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from robustprune.metrics.sequential import look_levels, plan_looks


@pytest.mark.parametrize(
    ("most", "looks"),
    [(3, (3,)), (4, (3, 4)), (10, (3, 5, 7, 10)), (12, (3, 5, 7, 10, 12)), (30, (3, 5, 7, 10, 14, 20, 28, 30))],
)
def test_looks(most: int, looks: tuple[int, ...]) -> None:
    assert plan_looks(most) == looks


def test_looks_grow_and_end_with_the_most() -> None:
    for most in range(3, 200):
        looks = plan_looks(most)
        assert looks[-1] == most
        assert all(one < later <= 1.7 * one for one, later in pairwise(looks))


def test_one_look_is_no_different_from_a_test() -> None:
    assert look_levels((5,)) == (0.05,)


def test_with_many_seeds_they_are_published_boundaries() -> None:
    # Five equally spaced looks at a one-sided 2.5 %: ldbounds and East give 2.438, 2.427, 2.410, 2.397, 2.386.
    found = stats.norm.isf(look_levels((1000, 2000, 3000, 4000, 5000), 0.025))
    assert found == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=0.04)


@pytest.mark.parametrize(("looks", "images"), [((3, 5), 0.0), ((3, 5, 7, 10), 0.0), ((3, 5, 7, 10, 14, 20), 0.5)])
def test_a_bound_errs_at_any_look_in_five_percent(looks: tuple[int, ...], images: float) -> None:
    random = np.random.default_rng(7)
    values = random.normal(size=(40_000, looks[-1]))
    shared = images * random.normal(size=40_000)  # the same at every look, its spread known
    has_erred = np.zeros(40_000, bool)
    for count, level in zip(looks, look_levels(looks), strict=True):
        seeds, mean = values[:, :count].var(axis=1, ddof=1) / count, values[:, :count].mean(axis=1) + shared
        freedom = (count - 1) * (1 + (images**2 / seeds) ** 2)
        has_erred |= mean > stats.t.isf(level, np.minimum(freedom, 1e9)) * np.sqrt(seeds + images**2)
    assert has_erred.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40_000)
    if not images:
        assert has_erred.mean() > 0.046
