from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustprune.errors import PruningError
from robustprune.pruning import FilterScores
from robustprune.pruning.choice import filter_counts, filter_walk, least_important


def scores_of(*rows: list[float], seed: int = 0) -> FilterScores:
    return FilterScores(
        {f"conv{i}": torch.tensor(row, dtype=torch.float64) for i, row in enumerate(rows)}, criterion="x", seed=seed
    )


rows = st.lists(st.lists(st.integers(0, 3).map(float), min_size=1, max_size=9), min_size=1, max_size=5)


def test_a_ranking_worked_by_hand() -> None:
    scores = scores_of([5, 1, 1], [0], [1, 7])
    # Equal ones: the deeper convolution first, then the later filter; conv1 keeps its only one.
    assert list(filter_walk(scores)) == [
        {"conv0": 0, "conv1": 0, "conv2": 1},
        {"conv0": 1, "conv1": 0, "conv2": 1},
        {"conv0": 2, "conv1": 0, "conv2": 1},
    ]
    assert least_important(scores, {"conv0": 1, "conv2": 1}) == {"conv0": (2,), "conv2": (0,)}
    assert least_important(scores, {"conv0": 2, "conv1": 0}) == {"conv0": (1, 2)}


@given(rows)
def test_global_takes_the_least_important_but_for_last_filters(values: list[list[float]]) -> None:
    scores = scores_of(*values)
    steps = list(filter_walk(scores, "global"))
    assert [sum(step.values()) for step in steps] == list(range(1, sum(map(len, values)) - len(values) + 1))
    for step in steps:
        gone = least_important(scores, step)
        kept = {
            name: [float(v) for i, v in enumerate(row) if i not in gone.get(name, ())] for name, row in scores.items()
        }
        assert all(kept.values())
        worst = max(float(scores[name][i]) for name, indices in gone.items() for i in indices)
        # What stays is worth no less than anything that went, unless it is a convolution's last filter.
        assert all(min(left) >= worst for left in kept.values() if len(left) > 1)


@pytest.mark.slow
@given(rows, st.integers(0, 3))
def test_uniform_takes_the_largest_equal_share_then_one_more_of_some(values: list[list[float]], seed: int) -> None:
    sizes = [len(row) for row in values]
    steps = list(filter_walk(scores_of(*values, seed=seed), "uniform"))
    assert [sum(step.values()) for step in steps] == list(range(1, sum(sizes) - len(sizes) + 1))
    shares = [Fraction(i, 2520) for i in range(2521)]  # every k/n for n up to 10 is one of these
    levels = [[min(floor(share * size), size - 1) for size in sizes] for share in shares]
    for step in steps:
        level = max((level for level in levels if sum(level) <= sum(step.values())), key=sum)
        extra = [count - base for count, base in zip(step.values(), level, strict=True)]
        assert set(extra) <= {0, 1}
        assert all(count < size for count, size in zip(step.values(), sizes, strict=True))


def test_the_seed_decides_which_convolutions_lose_one_more() -> None:
    chosen = Counter()
    for seed in range(40):
        scores = scores_of(*[[0.0] * 8] * 10, seed=seed)
        counts = filter_counts(scores, "uniform", 33)
        assert counts == filter_counts(scores, "uniform", 33)
        assert sorted(counts.values()) == [3] * 7 + [4] * 3
        chosen.update(name for name, count in counts.items() if count == 4)
    assert len(chosen) == 10
    assert max(chosen.values()) < 25  # 12 expected of each


def test_counts_out_of_reach() -> None:
    for count in (0, 4):
        with pytest.raises(PruningError, match=rf"asked for {count} filters, from 1 to 3 can go: 2 conv.* 5 filters"):
            filter_counts(scores_of([1, 2, 3], [1, 2]), "global", count)
    with pytest.raises(PruningError, match=r"no variant 'even'.*global, uniform"):
        filter_walk(scores_of([1, 2]), "even")  # type: ignore[arg-type]
