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
        ("resnet20", "authors", 6, 3),
        ("resnet32", "authors", 12, 9),
        ("resnet56", "authors", 24, 21),
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
    st.sampled_from(["authors", "strict"]),
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
    with pytest.raises(PruningError, match=r"none can go: .* 'authors'.*--eligibility identity"):
        choose_blocks(blocks, {}, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers(bad: float) -> None:
    scores = {block.name: 1.0 for block in RESNET32} | {"layer1.3": bad}
    with pytest.raises(PruningError, match=r"layer1\.3"):
        choose_blocks(RESNET32, scores, 1)
    del scores["layer1.3"]
    with pytest.raises(PruningError, match=r"layer1\.3 is missing"):
        choose_blocks(RESNET32, scores, 1)
