"""A criterion judged against the truth: how good are the tickets that it picks, of all that there are?"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustprune.comparison.verdict import NO_SHARES
from robustprune.data import load_data
from robustprune.errors import TableError
from robustprune.metrics.concordance import kendall, percentile
from robustprune.metrics.seeds import SeedMean, mean_over_seeds
from robustprune.models import build_model
from robustprune.pruning import Subset, choose_blocks, kept_profile, score_blocks, write_profile
from robustprune.runtime.devices import Device
from robustprune.runtime.html import html_table
from robustprune.runtime.progress import counted
from robustprune.runtime.randomness import derive_seed
from robustprune.runtime.work import Work
from robustprune.tables.ticket_table import TicketTable

Scores = Mapping[str, float]
"""Block → importance; the lowest go first."""


@dataclass(frozen=True)
class CriterionRank:
    """How good a criterion's choices are, in one metric of a table.

    Attributes:
        criterion: As it was asked for.
        metric: Column of the table.
        figures: Name → mean over seeds with its interval; a figure that the table cannot tell is not there.

            ``tau_subsets``: Kendall's τ_b between the predicted value of a ticket, minus the summed scores of its
            removed blocks, and its measured value, among tickets of equal size; ``tau_profiles``: of the means over
            the tickets of each depth profile. Chance is 0.
            ``regret``: how much the best ticket of the same seed and size is better than the one picked, in percentage
            points of shares and AUROC; ``regret_of_chance``: the same of a ticket picked at random.
            ``percentile``: the share of other tickets of that size that the picked one beats; chance is 50.
            ``percentile_within``: the same among tickets of the same depth profile.

            Where a table draws the blocks of each depth profile, a ticket stands for all sets of its profile: the one
            of the profile that a criterion chooses is judged, and those of its own profile count as equals.
            ``tau_profiles`` and ``percentile_within`` are not there. Sizes of one ticket leave nothing to choose.
        by_size: The same, by the number of removed blocks.
        seconds: How long scoring took.
    """

    criterion: str
    metric: str
    figures: dict[str, SeedMean]
    by_size: dict[int, dict[str, SeedMean]]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""

        def plain(figures: Mapping[str, SeedMean]) -> dict[str, dict[str, float | None]]:
            return {name: {"mean": each.mean, "low": each.low, "high": each.high} for name, each in figures.items()}

        own = {"criterion": self.criterion, "metric": self.metric, "seconds": self.seconds}
        return {**own, **plain(self.figures), "by_size": {size: plain(each) for size, each in self.by_size.items()}}

    def _repr_html_(self) -> str:
        rows = [[name, f"{each.mean:.3f}", "" if each.low is None else f"{each.low:.3f} … {each.high:.3f}"]
                for name, each in self.figures.items()]  # fmt: skip
        return html_table(f"{self.criterion} by {self.metric}", ["figure", ">mean", ">95 % interval"], rows)


def rank_criterion(
    table: TicketTable,
    criterion: str,
    metrics: Sequence[str] = ("accuracy",),
    *,
    draws: int = 1,
    device: Device = None,
    work: Work = Work(),
    **options: Any,
) -> list[CriterionRank]:
    """Return how a criterion's tickets fare among all that were trained, in each of some metrics.

    The dense network of every seed is built anew and scored; nothing is trained.

    Args:
        table: From :func:`robustprune.load_table`.
        criterion: A name, or a class in a file of your own, ``mine.py:Mine``; options may stand behind it.
        metrics: Columns of the table.
        draws: How often each network is scored, each time on other images; more tell more of random criteria.
        device: Where to compute; by default on the processor.
        work: Its progress is told of networks.
        options: Those of the criterion.

    Raises:
        TableError: There is no such metric, or one ticket of each size alone.
        RobustPruneError: As scoring raises.
    """
    for metric in metrics:
        table.check_metric(metric)
    start = time.perf_counter()
    scores = score_networks(table, criterion, draws=draws, device=device, work=work, **options)
    seconds = time.perf_counter() - start
    return [CriterionRank(criterion, each, *judge_scores(table, each, scores), seconds) for each in metrics]


def score_networks(
    table: TicketTable, criterion: str, *, draws: int = 1, device: Device = None, work: Work = Work(), **options: Any
) -> dict[int, list[Scores]]:
    """Return what a criterion finds the blocks of the dense network of each seed to be worth, at initialization."""
    spec = table.spec
    data = load_data(**dict(spec.data))
    found: dict[int, list[Scores]] = {}
    for seed in counted(table.seeds, work.progress, f"scoring by {criterion}"):
        network = build_model(spec.model, data, seed=seed, **spec.model_options)
        seeds = [derive_seed("draw", seed, draw) % 2**31 if draw else seed for draw in range(draws)]
        found[seed] = [score_blocks(network, data, criterion, seed=each, device=device, **options) for each in seeds]
    return found


def pick(table: TicketTable, tickets: Sequence[Subset], scores: Scores) -> Subset:
    """Return which of some tickets of one size and seed scores choose.

    Of a table with one ticket for each depth profile, it is the one of the profile that they choose.

    Raises:
        TableError: There is none of that profile.
    """
    spec, size = table.spec, len(tickets[0])
    names = {block.name for block in choose_blocks(spec.blocks, scores, size, spec.eligibility)}
    chosen = tuple(block.name for block in spec.blocks if block.name in names)
    if chosen in tickets:
        return chosen
    kept = write_profile(kept_profile(spec.blocks, chosen))
    for removed in tickets:
        if table.kept(removed) == kept:
            return removed
    raise TableError(f"{table.name} has no ticket that keeps {kept} blocks of each stage for every seed")


def judge_scores(
    table: TicketTable, metric: str, scores: Mapping[int, Sequence[Scores]]
) -> tuple[dict[str, SeedMean], dict[int, dict[str, SeedMean]]]:
    """Return what scores, by seed, are worth in a metric: over all sizes, and by the number of blocks removed.

    Raises:
        TableError: One ticket of each size alone.
    """
    judged: _Judged = {}
    for seed, drawn in scores.items():
        judge = _Judge(table, table.goodness(metric, seed), 1 if metric in NO_SHARES else 100)
        judged[seed] = [judge.judge(own) for own in drawn]
    if not any(own[0]["percentile"] is not None for drawn in judged.values() for own in drawn):
        raise TableError(f"{table.name} has one ticket of each seed and size, so that there is nothing to choose")
    sizes = sorted({size for drawn in judged.values() for own in drawn for size in own} - {0})
    return _over_seeds(judged, 0), {size: _over_seeds(judged, size) for size in sizes}


BOUNDS = {"tau": (-1.0, 1.0), "percentile": (0.0, 100.0), "regret": (0.0, math.inf)}
_Figures = dict[str, float | None]
_Judged = dict[int, list[dict[int, _Figures]]]


@dataclass(frozen=True)
class _Judge:
    """Knows the true values of the tickets of a seed."""

    table: TicketTable
    truth: Mapping[Subset, float]
    scale: float

    def judge(self, scores: Scores) -> dict[int, _Figures]:
        """Return the figures of scores by size; 0 stands for all sizes together."""
        by_size = {size: self._of_size(size) for size in sorted({len(removed) for removed in self.truth})}
        found = {size: self._judge_size(own, scores) for size, own in by_size.items()}
        together: _Figures = {
            "tau_subsets": kendall(_pairs(own, scores) for own in by_size.values()),
            "tau_profiles": kendall(self._profile_pairs(own, scores) for own in by_size.values()),
        }
        for name in ("regret", "regret_of_chance", "percentile", "percentile_within"):
            values = [value for own in found.values() if (value := own[name]) is not None]
            together[name] = float(np.mean(values)) if values else None
        return {0: together, **found}

    def _judge_size(self, truth: Mapping[Subset, float], scores: Scores) -> _Figures:
        picked = pick(self.table, list(truth), scores)
        kept = self.table.kept(picked)
        alike = [value for removed, value in truth.items() if removed != picked and self.table.kept(removed) == kept]
        every = Counter({removed: self._stands_for(removed) for removed in truth})
        rest = [truth[removed] for removed in (every - Counter([picked])).elements()]
        mean = float(np.mean([*rest, truth[picked]]))
        best, is_choice = max(truth.values()), len(truth) > 1
        return {
            "tau_subsets": kendall([_pairs(truth, scores)]),
            "tau_profiles": kendall([self._profile_pairs(truth, scores)]),
            "regret": self.scale * (best - truth[picked]) if is_choice else None,
            "regret_of_chance": self.scale * (best - mean) if is_choice else None,
            "percentile": percentile(truth[picked], np.array(rest)) if is_choice else None,
            "percentile_within": percentile(truth[picked], np.array(alike)),
        }

    def _stands_for(self, removed: Subset) -> int:
        """Return for how many sets of blocks a ticket stands: a random choice of blocks is one of those sets."""
        return self.table.sets[self.table.kept(removed)] if self.table.draws_blocks else 1

    def _of_size(self, size: int) -> dict[Subset, float]:
        return {removed: value for removed, value in self.truth.items() if len(removed) == size}

    def _profile_pairs(self, truth: Mapping[Subset, float], scores: Scores) -> tuple[Any, Any]:
        """Return the means over tickets that keep as many blocks of each stage, of expected and true values."""
        if self.table.draws_blocks:  # one ticket is not the mean of its profile
            return np.array([]), np.array([])
        together: dict[str, list[Subset]] = {}
        for removed in truth:
            together.setdefault(self.table.kept(removed), []).append(removed)
        expected = [np.mean([_expected(each, scores) for each in own]) for own in together.values()]
        return np.array(expected), np.array([np.mean([truth[each] for each in own]) for own in together.values()])


def _expected(removed: Subset, scores: Scores) -> float:
    return -sum(scores[name] for name in removed)


def _pairs(truth: Mapping[Subset, float], scores: Scores) -> tuple[Any, Any]:
    return np.array([_expected(removed, scores) for removed in truth]), np.array(list(truth.values()))


def _over_seeds(
    judged: Mapping[int, Sequence[Mapping[int, Mapping[str, float | None]]]], size: int
) -> dict[str, SeedMean]:
    """Return the mean of each figure over seeds, that of a seed being the mean over its scorings."""
    figures: dict[str, SeedMean] = {}
    names = dict.fromkeys(name for drawn in judged.values() for own in drawn for name in own.get(size, {}))
    for name in names:
        by_seed = []
        for drawn in judged.values():
            values = [value for own in drawn if (value := own.get(size, {}).get(name)) is not None]
            by_seed += [float(np.mean(values))] if values else []
        if by_seed:
            figures[name] = mean_over_seeds(by_seed, bounds=BOUNDS[name.partition("_")[0]])
    return figures
