"""What the values of tickets vary with: depth profile, blocks and seed; and how well other figures predict them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustprune.errors import TableError
from robustprune.metrics.concordance import kendall
from robustprune.metrics.seeds import SeedMean, mean_over_seeds
from robustprune.pruning import Subset
from robustprune.tables.criterion_rank import Scores
from robustprune.tables.ticket_table import TicketTable

_Floats = NDArray[Any]
_RIDGE = 1.0


@dataclass(frozen=True)
class VarianceShares:
    """What a metric varies with among layer tickets, as shares of its variance that add up to 1.

    Attributes:
        profile: How many blocks each stage keeps.
        blocks: Which ones, in the same profile, alike for all seeds; None where a table has one ticket for each profile
            and seed.
        seed: Initial weights and order of training, alike for all tickets.
        rest: What is particular to a ticket of a seed: which of the drawn blocks go, and chance.
        deviation: Standard deviation of the whole, in units of the metric.
    """

    metric: str
    profile: float
    blocks: float | None
    seed: float
    rest: float
    deviation: float


def variance_shares(table: TicketTable, metric: str) -> VarianceShares:
    """Return variance components of a metric by the analysis of variance, negative ones taken for zero.

    Seeds and tickets are crossed, tickets nested within profiles; components are those whose expected mean squares are
    the ones found (Searle, Casella and McCulloch 1992, "Variance components", chapter 4).

    Raises:
        TableError: Fewer than two seeds, or depth profiles.
    """
    by_seed = [table.goodness(metric, seed) for seed in table.seeds]
    if table.spec.tickets == "profiles":  # other blocks for each seed: profiles are what they share
        by_seed = [{(table.kept(removed),): value for removed, value in own.items()} for own in by_seed]
        group = {key: key[0] for key in by_seed[0]}
    else:
        group = {key: table.kept(key) for key in by_seed[0]}
    keys = list(group)
    values = np.array([[own[key] for key in keys] for own in by_seed])  # (seeds, tickets)
    labels = np.array([group[key] for key in keys])
    if len(values) < 2 or len(set(labels)) < 2:
        raise TableError(f"{table.name} has too few seeds or depth profiles to distinguish their effects")
    components = _components(values, labels)
    total = sum(components.values()) or 1.0
    shares = {name: value / total for name, value in components.items()}
    blocks = shares["blocks"] if len(keys) > len(set(labels)) else None
    return VarianceShares(
        metric, shares["profile"], blocks, shares["seed"], shares["rest"], float(np.sqrt(sum(components.values())))
    )


def _components(values: _Floats, labels: NDArray[np.str_]) -> dict[str, float]:
    """Return the components of values (seeds, tickets), of which those of equal labels are of one profile."""
    seeds, tickets = values.shape
    profiles, sizes = np.unique(labels, return_counts=True)
    mean, of_seed, of_ticket = values.mean(), values.mean(axis=1), values.mean(axis=0)
    of_profiles = {each: of_ticket[labels == each].mean() for each in profiles}
    expected = np.array([of_profiles[label] for label in labels])
    rest = values - of_seed[:, None] - of_ticket[None, :] + mean
    mean_rest = float((rest**2).sum()) / ((seeds - 1) * (tickets - 1))
    mean_seed = tickets * float(((of_seed - mean) ** 2).sum()) / (seeds - 1)
    mean_profiles = seeds * float(((expected - mean) ** 2).sum()) / (len(profiles) - 1)
    within = tickets - len(profiles)
    mean_blocks = seeds * float(((of_ticket - expected) ** 2).sum()) / within if within else mean_rest
    typical = (tickets - float((sizes**2).sum()) / tickets) / (len(profiles) - 1)
    components = {
        "profile": (mean_profiles - mean_blocks) / (seeds * typical),
        "blocks": (mean_blocks - mean_rest) / seeds,
        "seed": (mean_seed - mean_rest) / tickets,
        "rest": mean_rest,
    }
    return {name: max(value, 0.0) for name, value in components.items()}


def metric_agreement(table: TicketTable, first: str, second: str) -> SeedMean:
    """Return Kendall's τ_b between two metrics of the tickets of a seed and size, the mean over seeds.

    Raises:
        TableError: There is no such metric, or all values are tied.
    """
    found = []
    for seed in table.seeds:
        own, other = (table.goodness(name, seed) for name in (first, second))
        strata = [np.array([[own[key], other[key]] for key in keys]).T for keys in _by_size(own).values()]
        found.append(kendall((each[0], each[1]) for each in strata))
    known = [value for value in found if value is not None]
    if not known:
        raise TableError(f"{first} or {second} of {table.name} is the same for all tickets")
    return mean_over_seeds(known, bounds=(-1, 1))


def predicted_ranks(table: TicketTable, metric: str, scores: Mapping[str, Mapping[int, Sequence[Scores]]]) -> SeedMean:
    """Return Kendall's τ_b between a metric and what all criteria together predict of it, the mean over seeds.

    A ridge regression on the ranks that criteria give tickets of equal size is fitted on every other seed, and judged
    on those between. Each seed would serve both if one after the other were left out, but then errors of all fits hang
    together, and no interval over seeds is right (Bengio and Grandvalet 2004, "No unbiased estimator of the variance of
    k-fold cross-validation").

    Args:
        table: The table, of four seeds or more.
        metric: What is to be predicted.
        scores: Criterion → seed → scorings, from :func:`~robustprune.tables.criterion_rank.score_networks`.

    Raises:
        TableError: Fewer than four seeds.
    """
    if len(table.seeds) < 4:
        raise TableError(
            f"{table.name} has {len(table.seeds)} seeds; to learn from some and judge by others takes four"
        )
    by_seed = {seed: _ranked(table.goodness(metric, seed), [own[seed][0] for own in scores.values()])
               for seed in table.seeds}  # fmt: skip
    learnt = [group for seed in table.seeds[::2] for group in by_seed[seed]]
    x, y = (np.concatenate(parts) for parts in zip(*learnt, strict=True))
    weights = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ y)
    found = [kendall((own @ weights, true) for own, true in by_seed[seed]) for seed in table.seeds[1::2]]
    return mean_over_seeds([0.0 if tau is None else tau for tau in found], bounds=(-1, 1))


def _ranked(truth: Mapping[Subset, float], scores: Sequence[Scores]) -> list[tuple[_Floats, _Floats]]:
    """Return for tickets of each size their ranks by each scoring (n, scorings), and by their true values (n,)."""
    found = []
    for keys in _by_size(truth).values():
        by_scores = [_centred_ranks([-sum(own[name] for name in key) for key in keys]) for own in scores]
        found.append((np.array(by_scores).T, _centred_ranks([truth[key] for key in keys])))
    return found


def _by_size(values: Mapping[Subset, float]) -> dict[int, list[Subset]]:
    found: dict[int, list[Subset]] = {}
    for key in values:
        found.setdefault(len(key), []).append(key)
    return found


def _centred_ranks(values: Sequence[float]) -> _Floats:
    """Return mid-ranks from −½ to ½; zero where all are equal."""
    from scipy.stats import rankdata

    ranks: _Floats = rankdata(values)
    centred: _Floats = (ranks - ranks.mean()) / max(len(ranks) - 1, 1)
    return centred
