"""Searching the sets of blocks that can go together for the best one within a budget.

What a set is worth may be anything: minus the summed scores of its blocks, what a criterion finds the whole ticket to
be worth, or what the ticket of a table was measured to reach. Of equally good sets the one of fewer blocks is taken,
then the one whose blocks lie deeper, as :func:`robustprune.pruning.choose_blocks` does.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustprune.errors import PruningError
from robustprune.pruning.blocks import Block
from robustprune.pruning.choice import (
    Eligibility,
    blocks_that_stay,
    choose_blocks,
    eligible_blocks,
    removable_together,
)
from robustprune.pruning.subsets import Subset, removable_subsets
from robustprune.registry import read_options, suggest, with_options
from robustprune.runtime.randomness import derive_seed

_MOST_SETS = 100_000


@dataclass(frozen=True)
class SearchSpace:
    """The sets of blocks that can go together, what they are worth, and which keep within the budget.

    Attributes:
        blocks: All of the network.
        eligibility: Which may go.
        worth: What the ticket without a set is worth; larger is better.
        is_within: Whether it keeps within the budget.
        prices: Block → about how much less the network costs without it.
        worth_is_quick: Whether it takes no time to tell, compared with what the network costs.
    """

    blocks: Sequence[Block]
    eligibility: Eligibility
    worth: Callable[[Subset], float]
    is_within: Callable[[Subset], bool]
    prices: Mapping[str, float]
    worth_is_quick: bool = True

    @cached_property
    def _eligible(self) -> dict[str, Block]:
        return {block.name: block for block in eligible_blocks(self.blocks, self.eligibility)}

    @property
    def names(self) -> list[str]:
        """The blocks that may go, in order of execution."""
        return list(self._eligible)

    def in_order(self, removed: Collection[str]) -> Subset:
        """Return a set as its blocks are executed."""
        return tuple(name for name in self._eligible if name in removed)

    def can_go(self, removed: Collection[str]) -> bool:
        """Return whether enough blocks of each stage stay."""
        stages = [self._eligible[name] for name in removed]
        stay = blocks_that_stay(self.eligibility)
        return all(sum(each.stage == own.stage for each in stages) <= own.stage_size - stay for own in stages)

    def one_more(self, removed: Subset) -> list[Subset]:
        """Return the sets that have one block more."""
        more = ({*removed, name} for name in self._eligible if name not in removed)
        return [self.in_order(each) for each in more if self.can_go(each)]

    def by_worth(self, sets: Iterable[Subset]) -> list[Subset]:
        """Return sets, each once, the best first."""
        return sorted(dict.fromkeys(sets), key=lambda each: (-self.worth(each), *self._preference(each)))

    def best_within(self, sets: Iterable[Subset]) -> Subset | None:
        """Return the best of some sets that keeps within the budget; None where none does."""
        ranked = self.by_worth(sets if self.worth_is_quick else filter(self.is_within, sets))
        return next(filter(self.is_within, ranked), None)

    def cheapest(self, sets: Iterable[Subset]) -> Subset:
        """Return the set without which the network costs least."""
        return min(sets, key=lambda each: (-sum(self.prices[name] for name in each), *self._preference(each)))

    def smallest(self) -> Subset:
        """Return the set that takes the most expensive blocks that can go together."""
        removed: Subset = ()
        while following := self.one_more(removed):
            removed = self.cheapest(following)
        return removed

    def _preference(self, removed: Subset) -> tuple[int, tuple[int, ...]]:
        return len(removed), tuple(sorted(-self._eligible[name].depth for name in removed))


class Search(BaseModel, ABC):
    """A way to search; its fields are its options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def find(self, space: SearchSpace, seed: int = 0) -> Subset | None:
        """Return the best set within the budget that it comes upon; None where it comes upon none."""


class Greedy(Search):
    """One block after the other, each time that whose loss leaves the best ticket, until the budget is met."""

    def find(self, space: SearchSpace, seed: int = 0) -> Subset | None:
        """Return the first set within the budget."""
        removed: Subset = ()
        while not space.is_within(removed):
            following = space.one_more(removed)
            if not following:
                return None
            removed = space.by_worth(following)[0]
        return removed


class Beam(Search):
    """The best sets of one block, of two that come of these, and so on; of all that were met, the best.

    Lowerre 1976, "The HARPY speech recognition system". Of each size the cheapest set is kept besides, so that a budget
    that can be met is met.
    """

    width: Annotated[int, Field(ge=1)] = Field(default=8, description="sets of each size that are gone on from")

    def find(self, space: SearchSpace, seed: int = 0) -> Subset | None:
        """Return the best set within the budget of those met."""
        beam: list[Subset] = [()]
        met: list[Subset] = []
        while following := list(dict.fromkeys(more for each in beam for more in space.one_more(each))):
            met += following
            beam = [*space.by_worth(following)[: self.width], space.cheapest(following)]
        return space.best_within(met)


class Evolution(Search):
    """Sets within the budget that are crossed and mutated; the best are parents of the next generation.

    Guo et al., "Single path one-shot neural architecture search with uniform sampling", ECCV 2020 (arXiv:1904.00420),
    algorithm 1: parents are the best of all so far, half of the children cross two of them, and half mutate one. A
    child beyond the budget loses further blocks at random until it is within.
    """

    population: Annotated[int, Field(ge=4)] = Field(default=32, description="sets of each generation")
    generations: Annotated[int, Field(ge=1)] = Field(default=20, description="generations, the first one included")
    parents: Annotated[int, Field(ge=1)] = Field(default=8, description="the best so far, which have children")
    mutation: Annotated[float, Field(gt=0, lt=1)] = Field(default=0.1, description="chance that a block changes sides")

    def find(self, space: SearchSpace, seed: int = 0) -> Subset | None:
        """Return the best set within the budget of those that lived."""
        draws = np.random.default_rng(derive_seed(seed, "evolution"))
        lived: list[Subset] = []
        for generation in range(self.generations):
            parents = space.by_worth(lived)[: self.parents]
            children = [self._child(space, parents, place, draws) for place in range(self.population)]
            lived += [child for child in children if child is not None]
            if not lived and generation:
                return None
        return space.best_within(lived)

    def _child(
        self, space: SearchSpace, parents: Sequence[Subset], place: int, draws: np.random.Generator
    ) -> Subset | None:
        """Return a set within the budget: drawn where there are no parents, of two of them, or of one."""
        names = space.names
        if not parents:
            wanted = set(draws.permutation(names)[: draws.integers(len(names) + 1)].tolist())
        elif place % 2:
            first, second = (set(parents[each]) for each in draws.integers(len(parents), size=2))
            wanted = {name for name in names if name in (first if draws.random() < 0.5 else second)}
        else:
            parent = set(parents[int(draws.integers(len(parents)))])
            wanted = {name for name in names if (name in parent) != (draws.random() < self.mutation)}
        return _repaired(space, wanted, draws)


def _repaired(space: SearchSpace, wanted: Collection[str], draws: np.random.Generator) -> Subset | None:
    """Return as much of a set as can go together, and further blocks at random until it is within the budget."""
    removed: Subset = ()
    order = draws.permutation(space.names).tolist()
    for name in (each for each in order if each in wanted):
        more = space.in_order({*removed, name})
        removed = more if space.can_go(more) else removed
    for name in (each for each in order if each not in removed):
        if space.is_within(removed):
            break
        more = space.in_order({*removed, name})
        removed = more if space.can_go(more) else removed
    return removed if space.is_within(removed) else None


class Exhaustive(Search):
    """Every set."""

    def find(self, space: SearchSpace, seed: int = 0) -> Subset | None:
        """Return the best set of all within the budget.

        Raises:
            PruningError: There are too many.
        """
        count = _count_sets(space)
        if count > _MOST_SETS:
            raise PruningError(
                f"there are {count:,} sets of blocks that can go together, and an exhaustive search takes at most "
                f"{_MOST_SETS:,}; use beam or evolution"
            )
        return space.best_within(removable_subsets(space.blocks, space.eligibility)[1:])


def _count_sets(space: SearchSpace) -> int:
    total, eligible = 1, eligible_blocks(space.blocks, space.eligibility)
    for stage in {block.stage for block in eligible}:
        own = [block for block in eligible if block.stage == stage]
        most = min(len(own), own[0].stage_size - blocks_that_stay(space.eligibility))
        total *= sum(math.comb(len(own), gone) for gone in range(most + 1))
    return total


SEARCHES: dict[str, type[Search]] = {
    "greedy": Greedy,
    "beam": Beam,
    "evolution": Evolution,
    "exhaustive": Exhaustive,
}


def make_search(name: str) -> Search:
    """Return a search by its name, with its options behind it: ``beam:width=16``.

    Raises:
        PruningError: No search of that name, an option it does not have, or a value it cannot take.
    """
    plain, options = read_options(str(name))
    if plain not in SEARCHES:
        raise PruningError(f"there is no search {plain!r}.{suggest(plain, SEARCHES)} Known: {', '.join(SEARCHES)}.")
    kind = SEARCHES[plain]
    try:
        return kind(**options)
    except ValidationError as error:
        problem = error.errors()[0]
        option, known = ".".join(map(str, problem["loc"])), list(kind.model_fields)
        if problem["type"] == "extra_forbidden":
            takes = f"It takes {', '.join(known)}." if known else "It takes no options."
            text = f"there is no option {option!r}.{suggest(option, known)} {takes}"
        else:
            text = f"option {option}={problem['input']!r}: {problem['msg']}"
        raise PruningError(f"search {plain}: {text}") from error


def spell_search(name: str) -> str:
    """Return a search with all its options behind its name, as :func:`make_search` reads it."""
    return with_options(read_options(name)[0], make_search(name).model_dump())


def fewest_of_ranking(
    blocks: Sequence[Block],
    scores: Mapping[str, float],
    is_within: Callable[[Subset], bool],
    eligibility: Eligibility,
    **how: object,
) -> Subset | None:
    """Return as few blocks of a ranking as bring a network within a budget; None where all that can go do not.

    What :class:`Greedy` finds where a ticket is worth minus the summed scores of its blocks; here the ``choice`` and
    ``seed`` of :func:`robustprune.pruning.choose_blocks` may make it a control.
    """
    for count in range(1, removable_together(blocks, eligibility) + 1):
        chosen = choose_blocks(blocks, scores, count, eligibility, **how)  # type: ignore[arg-type]
        if is_within(tuple(block.name for block in blocks if block in chosen)):
            return tuple(block.name for block in chosen)
    return None
