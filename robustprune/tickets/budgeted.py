"""Which blocks go so that a network keeps within a budget: a search over the sets of those that can go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from robustprune.cost import CUT_COSTS, Budget, CutCosts, read_budget
from robustprune.errors import PruningError
from robustprune.pruning import (
    Block,
    BlockScores,
    Choice,
    Eligibility,
    SearchSpace,
    Subset,
    TicketScores,
    fewest_of_ranking,
    make_search,
)
from robustprune.pruning.blocks import removable_blocks
from robustprune.pruning.searches import Greedy

Objective = Literal["blocks", "ticket"]
"""What a search makes as good as it can be: by the scores of blocks, or by that of the whole ticket."""


def read_cut_budget(text: str) -> Budget:
    """Return a budget of a cost that every network has, see :data:`robustprune.cost.CUT_COSTS`."""
    return read_budget(text, CUT_COSTS, PruningError)


def choose_within(
    network: nn.Module,
    blocks: Sequence[Block],
    scores: BlockScores | TicketScores,
    budget: str,
    *,
    search: str = "greedy",
    eligibility: Eligibility = "paper",
    choice: Choice = "lowest",
) -> tuple[Block, ...]:
    """Return the blocks that go, in order of removal where they are ranked, else in order of execution.

    Raises:
        PruningError: A budget that the network keeps anyway, or that no set of blocks meets; a search or choice that
            is none, or scores that are missing.
    """
    found, finder = CutBudget(network, blocks, budget, eligibility), make_search(search)
    if isinstance(scores, BlockScores) and isinstance(finder, Greedy):
        how = {"choice": choice, "seed": scores.seed}
        chosen = fewest_of_ranking(blocks, scores, found.is_within, eligibility, **how)
    elif choice != "lowest":
        raise PruningError(f"the choice {choice!r} is one of a ranking, which only the search greedy of blocks walks")
    else:
        chosen = finder.find(found.space(scores), scores.seed)
    if chosen is None:
        raise PruningError(
            f"the search {search!r} comes upon no set of blocks that keeps within {found.budget}, although there is "
            "one; try beam"
        )
    by_name = {block.name: block for block in blocks}
    return tuple(by_name[name] for name in chosen)


class CutBudget:
    """A budget of a network that loses blocks, which it can be brought within.

    Attributes:
        budget: As it was read.
        costs: Of the network without sets of blocks.
    """

    def __init__(self, network: nn.Module, blocks: Sequence[Block], budget: str, eligibility: Eligibility) -> None:
        """Measure the network, and find out whether anything has to go, and can."""
        removable_blocks(blocks)
        self.budget, self._blocks, self._eligibility = read_cut_budget(budget), blocks, eligibility
        self.costs = CutCosts(network, blocks, self.budget.cost)
        self._most = self.budget.most(self.costs.whole)
        smallest = self.space(None).smallest()
        least = self.costs(smallest)
        cost, whole = self.budget.cost, self.costs.whole
        if whole <= self._most:
            raise PruningError(
                f"nothing has to go: the network keeps within {self.budget} as it is ({cost}: {whole:,.6g}, at most "
                f"{self._most:,.6g}); give a smaller budget"
            )
        if least > self._most:
            advice = "" if eligibility == "identity" else " or --eligibility identity"
            raise PruningError(
                f"no set of blocks brings the network within {self.budget}: without {', '.join(smallest) or 'any'} "
                f"(no more can go together under {eligibility!r}) {cost} still comes to {100 * least / whole:.1f} %; "
                f"give a larger budget{advice}"
            )

    def is_within(self, removed: Subset) -> bool:
        """Return whether the network without blocks keeps within the budget."""
        return self.costs(removed) <= self._most

    def space(self, scores: BlockScores | TicketScores | None) -> SearchSpace:
        """Return the space to search, in which scores say what tickets are worth."""
        worth = scores if isinstance(scores, TicketScores) else lambda removed: -_summed(scores or {}, removed)
        quick = not isinstance(scores, TicketScores)
        return SearchSpace(self._blocks, self._eligibility, worth, self.is_within, self.costs.prices, quick)


def _summed(scores: dict[str, float], removed: Subset) -> float:
    for name in removed:
        if name not in scores:
            raise PruningError(f"the score of block {name} is missing; score the very network that is pruned")
    return sum(scores[name] for name in removed)
