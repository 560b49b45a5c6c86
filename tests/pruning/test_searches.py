"""Searches for sets of blocks within a budget, against all sets written out."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustprune.errors import PruningError
from robustprune.pruning import Block, SearchSpace, Subset, fewest_of_ranking, make_search, spell_search

SIZES = (4, 3, 4)
BLOCKS = [
    Block(f"layer{stage}.{place}", 4 * stage + place, stage, place, size, 1, "identity" if place else None)
    for stage, size in enumerate(SIZES)
    for place in range(size)
]
NAMES = [block.name for block in BLOCKS if block.position]
STAGES = {block.name: block.stage for block in BLOCKS}
# Every set that leaves the first block and another one of each stage.
SETS = [
    each
    for each in chain.from_iterable(combinations(NAMES, count) for count in range(1, len(NAMES) + 1))
    if all(sum(STAGES[name] == stage for name in each) <= size - 2 for stage, size in enumerate(SIZES))
]


def made_up(seed: int, *, additive: bool, share: float) -> tuple[SearchSpace, dict[str, float]]:
    """Return a space of random worths and prices, with a budget that some sets keep within, and the blocks' scores."""
    draws = random.Random(seed)
    scores = {name: draws.uniform(-0.2, 1) for name in NAMES}
    prices = {name: draws.uniform(1, 5) for name in NAMES}
    extra = {each: 0.0 if additive else draws.gauss(0, 0.5) for each in SETS}
    saved = {each: sum(prices[name] for name in each) for each in SETS}
    least = share * max(saved.values())

    def worth(removed: Subset) -> float:
        return extra[removed] - sum(scores[name] for name in removed)

    return SearchSpace(BLOCKS, "paper", worth, lambda removed: saved.get(removed, 0.0) >= least, prices), scores


def best(space: SearchSpace) -> float:
    return max(space.worth(each) for each in SETS if space.is_within(each))


cases = given(st.integers(0, 10_000), st.booleans(), st.floats(0.1, 1))


@cases
def test_an_exhaustive_search_finds_the_best_of_all_sets(seed: int, additive: bool, share: float) -> None:
    space, _ = made_up(seed, additive=additive, share=share)
    found = make_search("exhaustive").find(space)
    assert found in SETS
    assert space.is_within(found)
    assert space.worth(found) == best(space)


@cases
def test_a_beam_meets_every_budget_that_can_be_met(seed: int, additive: bool, share: float) -> None:
    space, _ = made_up(seed, additive=additive, share=share)
    whole, narrow = (make_search(f"beam:width={width}").find(space) for width in (len(SETS), 1))
    assert whole is not None
    assert space.worth(whole) == best(space)
    assert narrow in SETS
    assert space.is_within(narrow)


@given(st.integers(0, 10_000), st.booleans(), st.floats(0.1, 0.9))
def test_evolution_keeps_within_the_budget_and_is_decided_by_its_seed(seed: int, additive: bool, share: float) -> None:
    space, _ = made_up(seed, additive=additive, share=share)
    search = make_search("evolution:population=8,generations=4")
    found = search.find(space, seed)
    assert found is None or (found in SETS and space.is_within(found))
    assert found == search.find(space, seed)


def test_evolution_comes_close_to_the_best() -> None:
    losses = []
    for seed in range(10):
        space, _ = made_up(seed, additive=False, share=0.5)
        found = make_search("evolution").find(space, seed)
        assert found is not None
        losses.append(best(space) - space.worth(found))
    assert sorted(losses)[7] == 0
    assert max(losses) < 0.5


@given(st.integers(0, 10_000), st.floats(0.1, 1))
def test_greedy_walks_the_ranking(seed: int, share: float) -> None:
    space, scores = made_up(seed, additive=True, share=share)
    walked = fewest_of_ranking(BLOCKS, scores, space.is_within, "paper")
    assert walked is None or make_search("greedy").find(space) == space.in_order(walked)
    assert (walked is None) == (make_search("greedy").find(space) is None)


def test_of_equally_good_sets_the_smaller_goes_and_then_the_deeper() -> None:
    space = SearchSpace(BLOCKS, "paper", lambda _: 0.0, lambda removed: len(removed) > 1, dict.fromkeys(NAMES, 1.0))
    for name in ("greedy", "beam", "exhaustive"):
        assert make_search(name).find(space) == ("layer2.2", "layer2.3")


def test_a_worth_that_takes_long_is_asked_of_sets_within_alone() -> None:
    space, _ = made_up(0, additive=True, share=0.7)
    asked: list[Subset] = []

    def worth(removed: Subset) -> float:
        asked.append(removed)
        return space.worth(removed)

    slow = SearchSpace(BLOCKS, "paper", worth, space.is_within, space.prices, worth_is_quick=False)
    assert make_search("exhaustive").find(slow) == make_search("exhaustive").find(space)
    assert {*asked} == {each for each in SETS if space.is_within(each)}


def test_too_many_sets_are_refused() -> None:
    blocks = [Block(f"b.{place}", place, 0, place, 40, 1, "identity") for place in range(40)]
    space = SearchSpace(blocks, "identity", lambda _: 0.0, lambda _: True, {})
    with pytest.raises(PruningError, match=r"1,099,511,627,776 sets .* use beam or evolution"):
        make_search("exhaustive").find(space)


def test_options_stand_behind_the_name() -> None:
    assert spell_search("beam") == spell_search("beam:width=8") == "beam:width=8"
    assert spell_search("greedy") == "greedy"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bem", "no search 'bem'. Did you mean 'beam'"),
        ("beam:widht=3", "no option 'widht'. Did you mean 'width'"),
        ("greedy:width=3", "It takes no options"),
        ("beam:width=0", "greater than or equal to 1"),
    ],
)
def test_searches_that_cannot_be(name: str, said: str) -> None:
    make: Callable[[str], object] = make_search
    with pytest.raises(PruningError, match=said.replace(".", r"\.")):
        make(name)
