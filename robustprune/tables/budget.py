"""The best tickets under a budget: means over the networks of each depth profile, and which no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from robustprune.cost import read_budget
from robustprune.errors import TableError
from robustprune.metrics.seeds import SeedMean, mean_over_seeds
from robustprune.tables.ticket_table import TicketTable, is_smaller_better

_COSTS = ("macs", "parameters", "filters", "training_memory", "training_seconds")


@dataclass(frozen=True)
class ProfileMeans:
    """The networks of one method and depth profile.

    Attributes:
        method: ``dense``, ``layer`` or ``filter``; ``filter by macs`` says what was matched.
        kept: Blocks that each stage keeps, or those of the layer ticket that is matched.
        networks: How many.
        costs: Cost → mean share of the dense network's.
        values: Metric → mean over seeds, and its interval.
        is_best: Whether it is on the Pareto front of all metrics and MACs within the budget.
    """

    method: str
    kept: str
    networks: int
    costs: dict[str, float]
    values: dict[str, SeedMean]
    is_best: bool = False


def best_tickets(
    table: TicketTable, metrics: Sequence[str] = ("accuracy",), budget: str | None = None
) -> list[ProfileMeans]:
    """Return what a table has of each method and depth profile, within a budget, the best in the first metric first.

    Args:
        table: From :func:`robustprune.load_table`.
        metrics: Columns to be good in.
        budget: Such as ``macs<=60%`` of the dense network, or ``parameters<=200000``.

    Raises:
        TableError: A metric that the table lacks, a budget of another form, or one that nothing keeps.
    """
    for metric in metrics:
        table.check_metric(metric)
    dense = dense_costs(table)
    kept = dict.fromkeys((row["method"], row["kept"], row["match_by"]) for row in table.rows)
    found = [_describe(table, key, metrics, dense) for key in kept]
    if budget is not None:
        asked = read_budget(budget, dense, TableError)
        most = asked.most(dense[asked.cost]) / dense[asked.cost]
        found = [each for each in found if each.costs[asked.cost] <= most]
        if not found:
            raise TableError(f"no network of {table.name} keeps within {budget}")
    found.sort(key=lambda each: -_sign(metrics[0]) * each.values[metrics[0]].mean)
    return [replace(each, is_best=is_on_front(each, found, metrics)) for each in found]


def dense_costs(table: TicketTable) -> dict[str, float]:
    """Return what the dense networks of a table cost, as the mean over seeds; what costs nothing is left out."""
    rows = [row for row in table.rows if row["method"] == "dense"]
    return {name: value for name in _COSTS if (value := _mean(rows, name))}  # a network may have no filters


def _describe(
    table: TicketTable, key: tuple[str, str, str | None], metrics: Sequence[str], dense: dict[str, float]
) -> ProfileMeans:
    method, kept, match_by = key
    own = [row for row in table.rows if (row["method"], row["kept"], row["match_by"]) == key]
    values = {}
    for metric in metrics:
        by_seed = {seed: [row[metric] for row in own if row["seed"] == seed] for seed in table.seeds}
        known = [[value for value in each if value is not None] for each in by_seed.values()]
        values[metric] = mean_over_seeds([float(np.mean(each)) for each in known if each] or [float("nan")])
    costs = {name: _mean(own, name) / value for name, value in dense.items()}
    return ProfileMeans(f"{method} by {match_by}" if match_by else method, kept, len(own), costs, values)


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    known = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(known)) if known else 0.0


def _sign(metric: str) -> int:
    return -1 if is_smaller_better(metric) else 1


def is_on_front(own: ProfileMeans, found: Sequence[ProfileMeans], metrics: Sequence[str]) -> bool:
    """Return whether no other is at least as good in all metrics and as cheap in MACs, and better in one of them."""

    def figures(each: ProfileMeans) -> np.ndarray[Any, Any]:
        return np.array([*(_sign(name) * each.values[name].mean for name in metrics), -each.costs["macs"]])

    mine = figures(own)
    return not any((figures(each) >= mine).all() and (figures(each) > mine).any() for each in found)
