from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Shape

from robustprune.errors import PruningError
from robustprune.models import build_model
from robustprune.pruning import Block, choose_blocks, eligible_blocks, find_blocks, removable_together


def blocks_of(name: str) -> tuple[Block, ...]:
    return find_blocks(build_model(name, Shape(channels=1, image_size=(8, 8)), width=4))


RESNET32 = blocks_of("resnet32")


@pytest.mark.parametrize(
    ("name", "eligibility", "eligible", "most"),
    [
        ("resnet20", "paper", 6, 3),
        ("resnet32", "paper", 12, 9),
        ("resnet56", "paper", 24, 21),
        # The last blocks of stages 1 and 2 stay too, as they come just before a downsampling one.
        ("resnet32", "strict", 10, 9),
        # All but the two downsampling blocks.
        ("resnet32", "identity", 13, 13),
    ],
)
def test_how_many_can_go(name: str, eligibility: str, eligible: int, most: int) -> None:
    blocks = blocks_of(name)
    assert len(eligible_blocks(blocks, eligibility)) == eligible
    assert removable_together(blocks, eligibility) == most


@given(
    st.lists(st.floats(-5, 5), min_size=15, max_size=15),
    st.integers(1, 9),
    st.sampled_from(["paper", "strict"]),
)
def test_walk_takes_the_lowest_that_leave_two_in_each_stage(values: list[float], count: int, eligibility: str) -> None:
    scores = {block.name: value for block, value in zip(RESNET32, values, strict=True)}
    chosen = choose_blocks(RESNET32, scores, count, eligibility)
    assert len(set(chosen)) == count
    assert set(chosen) <= set(eligible_blocks(RESNET32, eligibility))
    taken = Counter(block.stage for block in chosen)
    assert max(taken.values()) <= 3
    # A block that stayed though it scored lower than one that went was kept by its stage's minimum.
    highest = max(scores[block.name] for block in chosen)
    for block in eligible_blocks(RESNET32, eligibility):
        if block not in chosen and scores[block.name] < highest:
            assert taken[block.stage] == 3


SCORES = st.lists(st.floats(-5, 5), min_size=15, max_size=15, unique=True)


@given(SCORES, st.integers(1, 9), st.sampled_from(["paper", "strict", "identity"]))
def test_the_highest_are_the_lowest_of_the_reverse_ranking(values: list[float], count: int, eligibility: str) -> None:
    scores = {block.name: value for block, value in zip(RESNET32, values, strict=True)}
    reverse = {name: -value for name, value in scores.items()}
    chosen = choose_blocks(RESNET32, scores, count, eligibility, choice="highest")
    assert chosen == choose_blocks(RESNET32, reverse, count, eligibility)


@given(SCORES, st.integers(1, 9), st.sampled_from(["paper", "strict", "identity"]), st.integers(0, 99))
def test_random_per_stage_takes_as_many_of_each_stage(
    values: list[float], count: int, eligibility: str, seed: int
) -> None:
    scores = {block.name: value for block, value in zip(RESNET32, values, strict=True)}
    lowest = choose_blocks(RESNET32, scores, count, eligibility)
    chosen = choose_blocks(RESNET32, scores, count, eligibility, choice="random-per-stage", seed=seed)
    assert Counter(block.stage for block in chosen) == Counter(block.stage for block in lowest)
    assert len(set(chosen)) == count
    assert set(chosen) <= set(eligible_blocks(RESNET32, eligibility))
    # Of the ranking it knows how many blocks go from each stage, and nothing else.
    alike = dict.fromkeys(scores, 0.0) | {block.name: -1.0 for block in lowest}
    assert set(choose_blocks(RESNET32, alike, count, eligibility)) == set(lowest)
    assert chosen == choose_blocks(RESNET32, alike, count, eligibility, choice="random-per-stage", seed=seed)


def test_random_per_stage_takes_each_block_of_a_stage_equally_often() -> None:
    scores = {block.name: float(place) for place, block in enumerate(RESNET32)}  # layer1.1 would go
    draws = Counter(
        choose_blocks(RESNET32, scores, 1, choice="random-per-stage", seed=seed)[0].name for seed in range(400)
    )
    assert draws.keys() == {f"layer1.{place}" for place in (1, 2, 3, 4)}
    assert max(draws.values()) - min(draws.values()) < 50  # of 100 each, with a standard deviation of 9


def test_equal_scores_remove_the_later_block_first() -> None:
    chosen = choose_blocks(RESNET32, dict.fromkeys((b.name for b in RESNET32), 1.0), 4)
    assert [block.name for block in chosen] == ["layer3.4", "layer3.3", "layer3.2", "layer2.4"]


def test_too_many_names_the_most() -> None:
    scores = dict.fromkeys((b.name for b in RESNET32), 1.0)
    with pytest.raises(PruningError, match=r"asked for 10 blocks, at most 9 can go.*12 of .* 15"):
        choose_blocks(RESNET32, scores, 10)
    with pytest.raises(PruningError, match="at most 13 can go"):
        choose_blocks(RESNET32, scores, 14, "identity")
    with pytest.raises(PruningError, match="least that can be removed is 1"):
        choose_blocks(RESNET32, scores, 0)


def test_stages_of_two_have_nothing_to_give() -> None:
    blocks = find_blocks(build_model("torchvision:resnet18", Shape()))
    with pytest.raises(PruningError, match=r"none can go: .* 'paper'.*--eligibility identity"):
        choose_blocks(blocks, {}, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers(bad: float) -> None:
    scores = {block.name: 1.0 for block in RESNET32} | {"layer1.3": bad}
    with pytest.raises(PruningError, match=r"layer1\.3"):
        choose_blocks(RESNET32, scores, 1)
    del scores["layer1.3"]
    with pytest.raises(PruningError, match=r"layer1\.3 is missing"):
        choose_blocks(RESNET32, scores, 1)
