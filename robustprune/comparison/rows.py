"""One candidate against the dense network, one metric at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robustprune.comparison.difference import estimate_difference, judge, mcnemar
from robustprune.comparison.findings import ComparisonRow
from robustprune.comparison.metric import POINTS, Floats, Metric, MetricValue
from robustprune.comparison.sides import Network, Sides, differing, require_one, settings_of
from robustprune.metrics.seeds import LEAST_SEEDS


def make_row(metric: Metric, sides: Sides, tolerance: float | str, confidence: float) -> ComparisonRow:
    """Return the row of a metric, without ``p_adjusted``.

    Raises:
        ComparisonError: What was drawn for the metric differs between networks.
    """
    about: dict[str, Any] = {
        "candidate": sides.candidate,
        "metric": metric.key,
        "label": metric.label,
        "group": metric.group,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "n_seeds": min(len(sides.dense), len(sides.own)),
        "seeds_paired": bool(sides.pairs),
    }
    problem = _problem(metric, sides)
    if problem is not None:
        return ComparisonRow(**about, reason=problem)
    dense, own = ([network.values[metric] for network in side] for side in (sides.dense, sides.own))
    values = [np.array([each.value for each in side]) for side in (dense, own)]
    about |= {
        "dense": float(values[0].mean()),
        "value": float(values[1].mean()),
        "difference": float(values[1].mean() - values[0].mean()),
        "n_samples": dense[0].n_samples,
        "per_seed": tuple(_per_seed(metric, sides)),
    }
    if metric.group == "cost":
        return ComparisonRow(**about, **_of_cost(dense, own, confidence, paired=bool(sides.pairs)))
    # One pair may have been evaluated with another seed than the next.
    together: list[Sequence[Network]] = [*sides.pairs] or [sides.networks]
    for compared in together:
        seeds = [network.values[metric].seed for network in compared]
        require_one(f"{metric.key}: seed of the evaluation", compared, seeds, "evaluate them with the same --seed")
    bare = [network for network in sides.networks if not network.values[metric].varies]
    if bare:
        return ComparisonRow(**about, reason=f"outcomes per sample are not on file for {sides.name(bare)}")
    estimate = estimate_difference(dense, own, paired=bool(sides.pairs))
    interval = estimate.interval(confidence)
    # McNemar's p-value, which is exact, for one pair of networks.
    exact = about["per_seed"][0]["p"] if len(about["per_seed"]) == 1 else None
    margin = _margin(metric, values[0], tolerance)
    return ComparisonRow(
        **about,
        interval=interval,
        p_value=estimate.p_value if exact is None else float(exact),
        tolerance=margin,
        paired=True,
        statement="method" if estimate.of_method else "networks",
        verdict=judge(interval, margin, higher_is_better=metric.higher_is_better),
    )


def _margin(metric: Metric, dense: Floats, tolerance: float | str) -> float:
    """Return ξ in the unit of a metric.

    A tolerance in percentage points is one of shares. Proper scores, NLL and Brier, are none: their tolerance is 0,
    so that they are better, losing or undecided. A standard deviation has the metric's own unit.
    """
    if isinstance(tolerance, str):
        return float(np.std(dense, ddof=1))
    return tolerance if metric.unit == POINTS else 0.0


def _problem(metric: Metric, sides: Sides) -> str | None:
    """Return why a metric is not compared."""
    lacking = [network for network in sides.networks if metric not in network.values]
    if lacking:
        return f"not on file for {sides.name(lacking)}"
    invalid = [network for network in sides.networks if network.values[metric].problem is not None]
    if invalid:
        return f"invalid for {sides.name(invalid)}: {invalid[0].values[metric].problem}"
    for name, values in settings_of(metric, sides.networks).items():
        if len(different := differing(values)) > 1:
            return f"{name.replace('_', ' ')} differs: {', '.join(str(values[place]) for place in different)}"
    return None


def _of_cost(
    dense: Sequence[MetricValue], own: Sequence[MetricValue], confidence: float, *, paired: bool
) -> dict[str, Any]:
    """Return what a row of a cost has beside its values: what is saved, and an interval over enough seeds."""
    values = [np.array([each.value for each in side]) for side in (dense, own)]
    found: dict[str, Any] = {"reason": "costs have no tolerance"}
    if values[0].mean() > 0:
        found["saved_percent"] = float(100 * (1 - values[1].mean() / values[0].mean()))
    if max(map(np.ptp, values)) > 0 and min(map(len, values)) >= LEAST_SEEDS:
        estimate = estimate_difference(dense, own, paired=paired)
        found |= {"interval": estimate.interval(confidence), "statement": "method"}
    return found


def _per_seed(metric: Metric, sides: Sides) -> list[dict[str, Any]]:
    if sides.pairs:
        return [_of_seed(dense.seed, dense.values[metric], own.values[metric]) for dense, own in sides.pairs]
    alone = [_of_seed(network.seed, network.values[metric], None) for network in sides.dense]
    return alone + [_of_seed(network.seed, None, network.values[metric]) for network in sides.own]


def _of_seed(seed: int | None, dense: MetricValue | None, own: MetricValue | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "seed": seed,
        "dense": None if dense is None else dense.value,
        "value": None if own is None else own.value,
        **dict.fromkeys(("difference", "b", "c", "p")),
    }
    if dense is not None and own is not None:
        found["difference"] = own.value - dense.value
        if dense.right is not None and own.right is not None:
            lost, gained = int((dense.right & ~own.right).sum()), int((own.right & ~dense.right).sum())
            found |= {"b": lost, "c": gained, "p": mcnemar(lost, gained)}
    return found
