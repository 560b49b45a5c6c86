"""Searches under a budget, judged against the truth: how good is the ticket that is found, of all that keep within it?

What a search loses comes of two things: of what it goes by, the scores of a criterion, and of how it searches. Where it
goes by what tickets were measured to reach, the second alone is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from robustprune.comparison.verdict import NO_SHARES
from robustprune.cost import Budget, read_budget
from robustprune.errors import TableError
from robustprune.metrics.concordance import percentile
from robustprune.metrics.seeds import SeedMean, mean_over_seeds
from robustprune.pruning import SearchSpace, Subset, fewest_of_ranking, make_search, removable_subsets
from robustprune.pruning.searches import Greedy
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Work
from robustprune.tables.budget import dense_costs
from robustprune.tables.criterion_rank import BOUNDS, Scores, score_networks
from robustprune.tables.ticket_table import TicketTable, blocks_of

TRUTH = "truth"
"""In place of a criterion: the mean over seeds of the very metric that is judged by."""
_BOUNDS = {**BOUNDS, "cost": (0.0, math.inf)}


@dataclass(frozen=True)
class SearchRank:
    """How good the tickets are that a search finds within a budget, in one metric of a table.

    Attributes:
        criterion: As it was asked for, or ``truth``.
        search: With its options.
        budget: As it was asked for.
        metric: Column of the table.
        figures: Name → mean over seeds with its interval.

            ``regret``: how much the best ticket of the same seed within the budget is better than the one found, in
            percentage points of shares and AUROC; ``regret_of_chance``: the same of one drawn from those within.
            ``percentile``: the share of other tickets within the budget that it beats; chance is 50.
            ``cost``: what it costs, in percent of the dense network.

            Of ``truth``, tickets are judged by their means over seeds, so that there is one value.
        tickets: How many sets of blocks keep within the budget.
    """

    criterion: str
    search: str
    budget: str
    metric: str
    figures: dict[str, SeedMean] = field(default_factory=dict)
    tickets: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        named = {name: value for name, value in vars(self).items() if name != "figures"}
        return {**named, **{name: vars(each) for name, each in self.figures.items()}}


def rank_searches(
    table: TicketTable,
    criteria: Sequence[str],
    budgets: Sequence[str],
    searches: Sequence[str] = ("greedy",),
    metrics: Sequence[str] = ("accuracy",),
    *,
    draws: int = 1,
    device: Device = None,
    work: Work = Work(),
) -> list[SearchRank]:
    """Return how the tickets fare that searches find within budgets, by the scores of criteria and by the truth.

    A search by a criterion's scores looks for the lowest sum over the blocks that go; ``greedy`` walks the ranking
    until the budget is met, which is one-shot pruning. Costs are those that the table has.

    Args:
        table: From :func:`robustprune.load_table`, one that has every set of blocks.
        criteria: Names; each scores the dense network of every seed at initialization.
        budgets: Such as ``macs<=80%`` of the dense network.
        searches: ``greedy``, ``beam:width=8``, ``evolution``, ``exhaustive``.
        metrics: Columns of the table.
        draws: How often each network is scored, each time on other images.
        device: Where to compute; by default on the processor.
        work: Its progress is told of networks.

    Raises:
        TableError: There is no such metric or cost, no ticket keeps within a budget, or the dense network does; or the
            table lacks sets of blocks.
        RobustPruneError: As scoring raises.
    """
    for metric in metrics:
        table.check_metric(metric)
    judges = [_Judge(table, budget, metric) for budget in budgets for metric in metrics]
    ways = [(search, make_search(search)) for search in searches]
    scored: dict[str, Mapping[int, Sequence[Scores]]] = {}
    for criterion in criteria:
        scored[criterion] = score_networks(table, criterion, draws=draws, device=device, work=work)
    found = []
    for judge in judges:
        for name, search in ways:
            found.append(judge.by_truth(name, search.find))
            for criterion, scores in scored.items():
                find = partial(_walk, judge) if isinstance(search, Greedy) else partial(_look, judge, search.find)
                found.append(judge.by_criterion(criterion, name, scores, find))
    return found


class _Judge:
    """Knows the tickets of a table within a budget, and what they reach."""

    def __init__(self, table: TicketTable, budget: str, metric: str) -> None:
        self.table, self.budget, self.metric = table, budget, metric
        self.scale = 1 if metric in NO_SHARES else 100
        dense = dense_costs(table)
        self._asked: Budget = read_budget(budget, dense, TableError)
        cost = self._asked.cost
        by_removed: dict[Subset, list[float]] = {}
        for row in table.layer_tickets:
            by_removed.setdefault(blocks_of(row), []).append(row[cost])
        self.shares = {removed: float(np.mean(each)) / dense[cost] for removed, each in by_removed.items()}
        self.most = self._asked.most(dense[cost]) / dense[cost]
        every = set(removable_subsets(table.spec.blocks, table.spec.eligibility)) - {()}
        if every - set(self.shares):
            raise TableError(f"a search takes a table of every set of blocks that can go, and {table.name} has a part")
        if self.most >= 1 or not any(share <= self.most for share in self.shares.values()):
            which = "the dense network keeps" if self.most >= 1 else "no ticket keeps"
            raise TableError(f"{which} within {budget}; of the tickets of {table.name}, {self._range()}")
        self.truths = {seed: self._within(table.goodness(metric, seed)) for seed in table.seeds}

    def _range(self) -> str:
        shares = self.shares.values()
        return f"{self._asked.cost} are {100 * min(shares):.1f} to {100 * max(shares):.1f} %"

    def is_within(self, removed: Subset) -> bool:
        return bool(removed) and self.shares[removed] <= self.most

    def _within(self, values: Mapping[Subset, float]) -> dict[Subset, float]:
        return {removed: value for removed, value in values.items() if self.is_within(removed)}

    def space(self, worth: Callable[[Subset], float]) -> SearchSpace:
        spec = self.table.spec
        prices = {removed[0]: 1 - share for removed, share in self.shares.items() if len(removed) == 1}
        return SearchSpace(spec.blocks, spec.eligibility, worth, self.is_within, prices)

    def by_truth(self, name: str, find: Callable[..., Subset | None]) -> SearchRank:
        """Judge a search that goes by means over seeds, by these means."""
        each = [self.table.goodness(self.metric, seed) for seed in self.table.seeds]
        means = {removed: float(np.mean([own[removed] for own in each])) for removed in each[0]}
        found = find(self.space(lambda removed: means[removed]), 0)
        return self._rank(TRUTH, name, [self._figures(found, self._within(means))])

    def by_criterion(
        self,
        criterion: str,
        name: str,
        scores: Mapping[int, Sequence[Scores]],
        find: Callable[[Scores, int], Subset | None],
    ) -> SearchRank:
        """Judge what a search finds by scores of each seed, by the tickets of that seed."""
        figures = []
        for seed, drawn in scores.items():
            own = [self._figures(find(each, seed), self.truths[seed]) for each in drawn]
            figures.append({figure: float(np.mean([each[figure] for each in own])) for figure in own[0]})
        return self._rank(criterion, name, figures)

    def _rank(self, criterion: str, name: str, figures: Sequence[Mapping[str, float]]) -> SearchRank:
        means = {
            figure: mean_over_seeds([each[figure] for each in figures], bounds=_BOUNDS[figure.partition("_")[0]])
            for figure in figures[0]
        }
        return SearchRank(criterion, name, self.budget, self.metric, means, len(next(iter(self.truths.values()))))

    def _figures(self, found: Subset | None, truth: Mapping[Subset, float]) -> dict[str, float]:
        if found is None:
            raise TableError(f"the search comes upon no ticket of {self.table.name} within {self.budget}; try beam")
        best, values = max(truth.values()), list(truth.values())
        others = [value for removed, value in truth.items() if removed != found]
        rank = percentile(truth[found], np.array(others))
        return {
            "regret": self.scale * (best - truth[found]),
            "regret_of_chance": self.scale * (best - float(np.mean(values))),
            "percentile": 100.0 if rank is None else rank,
            "cost": 100 * self.shares[found],
        }


def _walk(judge: _Judge, scores: Scores, _seed: int) -> Subset | None:
    spec = judge.table.spec
    found = fewest_of_ranking(spec.blocks, scores, judge.is_within, spec.eligibility)
    return found and tuple(block.name for block in spec.blocks if block.name in found)


def _look(judge: _Judge, find: Callable[..., Subset | None], scores: Scores, seed: int) -> Subset | None:
    return find(judge.space(lambda removed: -sum(scores[name] for name in removed)), seed)
