"""The tickets of a table against dense networks, chance, or filter tickets: paired by seed and image, and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from robustprune.comparison.difference import estimate_difference
from robustprune.comparison.metric import POINTS, SHARE, MetricValue
from robustprune.comparison.verdict import (
    NO_SHARES,
    TOLERANCES,
    Tolerance,
    Verdict,
    judge_estimate,
    margin,
    read_tolerance,
)
from robustprune.errors import TableError
from robustprune.metrics.seeds import LEAST_SEEDS
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Work
from robustprune.tables.criterion_rank import pick, score_networks
from robustprune.tables.table_file import Row
from robustprune.tables.ticket_table import TicketTable, blocks_of, is_smaller_better

Reference = Literal["dense", "random", "filters", "macs", "params"]
Grouping = Literal["size", "profile", "ticket"]

REFERENCES: Mapping[str, str] = {
    "dense": "dense",
    "random": "a random choice",
    "filters": "filter tickets of as many filters",
    "macs": "filter tickets of as many MACs",
    "params": "filter tickets of as many parameters",
}
"""What tickets are compared with → its name for readers."""

_Group = Mapping[int, Sequence[Row]]
"""Seed → rows, whose mean counts."""


@dataclass(frozen=True)
class TicketDifference:
    """What tickets differ by from a reference of the same seeds, on the same images.

    Attributes:
        candidate: Which tickets.
        against: What they are compared with.
        metric: Column of the table.
        unit: Of the difference: ``pp``, or empty.
        n_seeds: Seeds that count.
        macs: Of the candidate, as a share of the dense network's.
        reference: Mean over seeds, in percent where the unit is ``pp``.
        value: That of the candidate.
        difference: ``value`` − ``reference``.
        interval: Of the difference, with the confidence asked for: over seeds and images, or over seeds alone where the
            table does not hold the outcome of each image.
        bounds: The interval that the verdict's two one-sided tests take.
        p_value: Two-sided, of no difference; not corrected for the number of rows.
        p_equivalent: Of a difference of ξ or more; None without ξ.
        tolerance: ξ.
        verdict: As :func:`robustprune.compare` gives it.
    """

    candidate: str
    against: str
    metric: str
    unit: str
    n_seeds: int
    macs: float
    reference: float
    value: float
    difference: float
    interval: tuple[float, float]
    bounds: tuple[float, float]
    p_value: float
    p_equivalent: float | None
    tolerance: float
    verdict: Verdict


def compare_tickets(
    table: TicketTable,
    metrics: Sequence[str] = ("accuracy",),
    *,
    against: Reference = "dense",
    by: Grouping = "profile",
    criteria: Sequence[str] = (),
    tolerance: Tolerance = TOLERANCES,
    confidence: float = 0.95,
    device: Device = None,
    work: Work = Work(),
) -> list[TicketDifference]:
    """Compare the tickets of a table with a reference, over seeds and image by image.

    Of several tickets of one seed, and of several references, the mean over sets of blocks counts: where a table draws
    the blocks of each depth profile, a ticket weighs as much as its profile has sets.

    Args:
        table: From :func:`robustprune.load_table`.
        metrics: Columns of the table.
        against: ``dense``: the dense network of the seed. ``random``: all layer tickets of the seed that lack as many
            blocks, of which a random choice is one. ``filters``, ``macs``, ``params``: the filter tickets that match
            in this cost; tickets that none matches are left out.
        by: A candidate for each number of removed blocks, for each depth profile, or for each set of blocks.
        criteria: Compare what these criteria pick, by number of removed blocks, instead of all tickets. Where a table
            draws the blocks of each depth profile, it is the ticket of the profile that they choose; where it has one
            ticket of a size, that is not compared with ``random``, as there is nothing to choose.
        tolerance: ξ, as for :func:`robustprune.compare`.
        confidence: Of the intervals, and of each of the one-sided tests.
        device: Where criteria compute; by default on the processor.
        work: Its progress is told of networks that are scored.

    Raises:
        TableError: There is no such metric, there are fewer than three seeds, criteria are to be compared with filter
            tickets, of which a table has few, or sets of blocks of a table that draws other ones for each seed.
        RobustPruneError: As scoring raises.
    """
    for metric in metrics:
        table.check_metric(metric)
    if criteria and against not in ("dense", "random"):
        raise TableError(f"what criteria pick can be compared with dense and random, not with {against}")
    if by == "ticket" and table.draws_blocks and not criteria:
        raise TableError(
            f"{table.name} draws the blocks of each depth profile anew for each seed, and few sets of blocks come with "
            f"{LEAST_SEEDS} seeds; compare by profile or by size"
        )
    judge = _Judge(table, read_tolerance(tolerance), confidence)
    found = []
    for name, group in (_picks(table, criteria, device, work) if criteria else _groups(table, by)).items():
        reference = _reference(table, group, against)
        if len(reference) >= LEAST_SEEDS and not (criteria and reference == group):
            own = {seed: _matched(group[seed], rows) for seed, rows in reference.items()}
            found += [judge.judge(name, against, metric, reference, own) for metric in metrics]
    if not found:
        raise TableError(f"{table.name} has fewer than {LEAST_SEEDS} seeds with both tickets and {against}")
    return found


@dataclass(frozen=True)
class _Judge:
    table: TicketTable
    tolerances: Mapping[str, float | str]
    confidence: float

    def judge(self, candidate: str, against: str, metric: str, reference: _Group, own: _Group) -> TicketDifference:
        """Return the difference of two groups of the same seeds."""
        kind = _kind(self.table, metric)
        before, after = ([_value(self.table, rows, metric) for rows in side.values()] for side in (reference, own))
        estimate = estimate_difference(before, after, paired=True)
        judged = judge_estimate(
            estimate,
            margin(self.tolerances[kind], np.array([each.value for each in before])),
            self.confidence,
            higher_is_better=not is_smaller_better(metric),
            has_failures=False,
        )
        names = {field.name for field in fields(TicketDifference)}
        return TicketDifference(
            candidate=candidate,
            against=against,
            metric=metric,
            unit="" if kind in NO_SHARES else POINTS,
            n_seeds=len(own),
            macs=float(np.mean([_mean(self.table, rows, _costs(self.table, rows)) for rows in own.values()])),
            reference=float(np.mean([each.value for each in before])),
            value=float(np.mean([each.value for each in after])),
            difference=estimate.difference,
            **{name: value for name, value in judged.items() if name in names},
        )


def _groups(table: TicketTable, by: Grouping) -> dict[str, dict[int, list[Row]]]:
    found: dict[str, dict[int, list[Row]]] = {}
    for row in sorted(table.layer_tickets, key=lambda row: (len(blocks_of(row)), by == "profile" and row["kept"])):
        removed = blocks_of(row)
        names = {"size": _count(len(removed)), "profile": row["kept"], "ticket": f"without {row['removed']}"}
        found.setdefault(names[by], {}).setdefault(row["seed"], []).append(row)
    return found


def _count(blocks: int) -> str:
    return f"{blocks} block{'s' if blocks > 1 else ''}"


def _picks(table: TicketTable, criteria: Sequence[str], device: Device, work: Work) -> dict[str, dict[int, list[Row]]]:
    found: dict[str, dict[int, list[Row]]] = {}
    for criterion in criteria:
        for seed, (scores,) in score_networks(table, criterion, device=device, work=work).items():
            own = {blocks_of(row): row for row in table.layer_tickets if row["seed"] == seed}
            for size in sorted({len(removed) for removed in own}):
                row = own[pick(table, [removed for removed in own if len(removed) == size], scores)]
                found.setdefault(f"{criterion}, {_count(size)}", {}).setdefault(seed, []).append(row)
    return found


def _reference(table: TicketTable, group: _Group, against: Reference) -> _Group:
    """Return by seed what the rows of a group are compared with; without seeds that have nothing of the kind."""

    def is_reference(row: Row, own: Sequence[Row]) -> bool:
        if against == "dense":
            return bool(row["method"] == "dense")
        if against == "random":
            return row["method"] == "layer" and len(blocks_of(row)) == len(blocks_of(own[0]))
        return row["match_by"] == against and row["kept"] in {each["kept"] for each in own}

    found = {
        seed: [row for row in table.rows if row["seed"] == seed and is_reference(row, own)]
        for seed, own in group.items()
    }
    return {seed: rows for seed, rows in found.items() if rows}


def _matched(rows: Sequence[Row], reference: Sequence[Row]) -> Sequence[Row]:
    """Return the tickets that filter tickets match, of which not every depth profile has one; all beside others."""
    profiles = {row["kept"] for row in reference if row["method"] == "filter"}
    return [row for row in rows if row["kept"] in profiles] if profiles else rows


def _value(table: TicketTable, rows: Sequence[Row], metric: str) -> MetricValue:
    """Return the mean of a metric over some networks, and its contributions of each image where the table has them."""
    values = table.values(rows, metric)
    scale = 1.0 if metric in NO_SHARES else SHARE
    outcomes = [np.mean(list(each), axis=0) for row in rows if (each := [*_outcomes(table, row, metric)])]
    samples = (_mean(table, rows, outcomes),) if outcomes else ()
    return MetricValue(scale * float(_mean(table, rows, values)), samples, scale)


def _mean(table: TicketTable, rows: Sequence[Row], values: Sequence[Any]) -> Any:
    """Return the mean of values of some networks over the sets of blocks that they stand for."""
    profiles = Counter(row["kept"] for row in rows)
    if len(profiles) == 1:
        return np.mean(values, axis=0)
    return np.average(values, axis=0, weights=[table.sets[row["kept"]] / profiles[row["kept"]] for row in rows])


def _costs(table: TicketTable, rows: Sequence[Row]) -> list[float]:
    return [row["macs"] / table.dense_macs for row in rows]


def _outcomes(table: TicketTable, row: Row, metric: str) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Yield which images (n,) a network gets right: once for accuracies, for each severity under corruptions."""
    names = {"accuracy": ["clean"], "corruption_mean_accuracy": table.corruptions}.get(metric, [metric])
    for name in names:
        if f"right_{name}" in row:
            yield from np.atleast_2d(table.outcomes(row, name))


def _kind(table: TicketTable, metric: str) -> str:
    """Return which of the tolerances is a metric's."""
    if metric in ("accuracy", "ece", "nll", "brier"):
        return metric
    if metric == "corruption_mean_accuracy" or metric in table.corruptions:
        return "corruption_accuracy"
    return "robust_accuracy" if f"right_{metric}" in table.rows[0] else "auroc"
