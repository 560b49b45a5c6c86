"""Sets of blocks that can go together, counted by hand."""

from __future__ import annotations

from math import comb, prod

import pytest

from robustprune.pruning import Block, kept_profile, removable_subsets, removable_together, subsets_by_profile
from robustprune.pruning.choice import check_eligibility, choose_blocks


def stages(*sizes: int) -> list[Block]:
    return [
        Block(f"layer{stage}.{place}", 0, stage, place, size, 1, None if place == 0 and stage else "identity")
        for stage, size in enumerate(sizes)
        for place in range(size)
    ]


@pytest.mark.parametrize(("sizes", "subsets", "profiles"), [((3, 3, 3), 27, 8), ((5, 5, 5), 3375, 64)])
def test_as_many_as_the_paper_has(sizes: tuple[int, ...], subsets: int, profiles: int) -> None:
    blocks = stages(*sizes)
    found = removable_subsets(blocks)
    assert len(found) == len(set(found)) == subsets
    assert subsets == prod(sum(comb(size - 1, gone) for gone in range(size - 1)) for size in sizes)
    assert found[0] == ()
    assert len(subsets_by_profile(blocks)) == profiles
    assert max(map(len, found)) == removable_together(blocks, check_eligibility("paper"))


@pytest.mark.parametrize("eligibility", ["paper", "strict", "identity"])
def test_whatever_a_criterion_chooses_is_among_them(eligibility: str) -> None:
    blocks = stages(4, 3)
    every = {frozenset(each) for each in removable_subsets(blocks, check_eligibility(eligibility))}
    for turn in range(20):
        scores = {block.name: float((turn * 7 + place * 5) % 11) for place, block in enumerate(blocks)}
        for count in range(1, removable_together(blocks, check_eligibility(eligibility)) + 1):
            chosen = choose_blocks(blocks, scores, count, check_eligibility(eligibility))
            assert frozenset(block.name for block in chosen) in every


def test_a_profile_counts_what_stays() -> None:
    assert kept_profile(stages(3, 3, 3), ["layer0.1", "layer2.1", "layer2.2"]) == (2, 3, 1)
