"""One candidate against the dense network, one metric at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robustprune.comparison.agreement import differing_setting, require_same_draws
from robustprune.comparison.difference import estimate_difference
from robustprune.comparison.estimate import LEAST_SEEDS, Estimate, estimate_paired, estimate_unpaired
from robustprune.comparison.outcomes import Floats, Metric
from robustprune.comparison.result import Row
from robustprune.comparison.sides import Sides
from robustprune.comparison.significance import mcnemar
from robustprune.comparison.verdict import judge


def make_row(metric: Metric, sides: Sides, tolerance: float | str, confidence: float) -> Row:
    """Return the row of a metric, without ``p_adjusted``.

    Args:
        metric: What to compare.
        sides: The networks.
        tolerance: ξ in percentage points, or ``std``.
        confidence: Of the interval.

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
        return Row(**about, reason=problem)
    dense, own = ([network.outcomes[metric] for network in side] for side in (sides.dense, sides.own))
    values = [np.array([outcome.value for outcome in side]) for side in (dense, own)]
    about |= {
        "dense": float(values[0].mean()),
        "value": float(values[1].mean()),
        "difference": float(values[1].mean() - values[0].mean()),
        "n_samples": dense[0].n_samples,
        "per_seed": tuple(_per_seed(metric, sides)),
    }
    if metric.group == "cost":
        return Row(**about, **_of_cost(metric, values, sides, confidence))
    # One pair may have been evaluated with another seed than the next.
    require_same_draws(metric, sides.pairs or [sides.networks])
    bare = [network for network in sides.networks if not network.outcomes[metric].varies]
    if bare:
        return Row(**about, reason=f"outcomes per sample are not on file for {sides.name(bare)}")
    estimate = estimate_difference(dense, own, paired=bool(sides.pairs))
    interval = estimate.interval(confidence)
    margin = find_tolerance(metric, values[0], tolerance)
    return Row(
        **about,
        interval=interval,
        p_value=_p_value(about["per_seed"], estimate),
        tolerance=margin,
        paired=True,
        statement="method" if estimate.of_method else "networks",
        verdict=judge(interval, margin, higher_is_better=metric.higher_is_better),
    )


def find_tolerance(metric: Metric, dense: Floats, tolerance: float | str) -> float:
    """Return ξ in the unit of a metric.

    A tolerance in percentage points is one of shares. Proper scores, NLL and Brier, are none: their tolerance is 0,
    so that they are better, losing or undecided. A standard deviation has the metric's own unit.
    """
    if isinstance(tolerance, str):
        return float(np.std(dense, ddof=1))
    return tolerance if metric.has_tolerance else 0.0


def _problem(metric: Metric, sides: Sides) -> str | None:
    """Return why a metric is not compared."""
    lacking = [network for network in sides.networks if metric not in network.outcomes]
    if lacking:
        return f"not on file for {sides.name(lacking)}"
    invalid = [network for network in sides.networks if network.outcomes[metric].problem is not None]
    if invalid:
        return f"invalid for {sides.name(invalid)}: {invalid[0].outcomes[metric].problem}"
    difference = differing_setting(metric, sides.networks)
    if difference is not None:
        name, values = difference
        return f"{name.replace('_', ' ')} differs: {', '.join(dict.fromkeys(str(each) for each in values.values()))}"
    return None


def _of_cost(metric: Metric, values: Sequence[Floats], sides: Sides, confidence: float) -> dict[str, Any]:
    """Return what a row of a cost has beside its values: what is saved, and an interval over enough seeds."""
    dense, own = values
    found: dict[str, Any] = {"reason": "costs have no tolerance"}
    if dense.mean() > 0:
        found["saved_percent"] = float(100 * (1 - own.mean() / dense.mean()))
    spread = max(float(np.ptp(each)) for each in values)
    if spread > 0 and min(map(len, values)) >= LEAST_SEEDS:
        none = np.zeros((len(dense) + len(own),) * 2)
        estimate = (
            estimate_paired(own - dense, none[: len(own), : len(own)])
            if sides.pairs
            else estimate_unpaired(dense, own, none)
        )
        found |= {"interval": estimate.interval(confidence), "statement": "method"}
    return found


def _per_seed(metric: Metric, sides: Sides) -> list[dict[str, Any]]:
    if not sides.pairs:
        singles = [
            {
                "seed": network.seed,
                "dense": None,
                "value": None,
                "difference": None,
                side: network.outcomes[metric].value,
            }
            for side, networks in (("dense", sides.dense), ("value", sides.own))
            for network in networks
        ]
        return [{**single, "b": None, "c": None, "p": None} for single in singles]
    found = []
    for dense, own in sides.pairs:
        first, second = dense.outcomes[metric], own.outcomes[metric]
        entry: dict[str, Any] = {
            "seed": dense.seed,
            "dense": first.value,
            "value": second.value,
            "difference": second.value - first.value,
            "b": None,
            "c": None,
            "p": None,
        }
        if first.right is not None and second.right is not None:
            lost, gained = int((first.right & ~second.right).sum()), int((second.right & ~first.right).sum())
            entry |= {"b": lost, "c": gained, "p": mcnemar(lost, gained)}
        found.append(entry)
    return found


def _p_value(per_seed: Sequence[dict[str, Any]], estimate: Estimate) -> float:
    """Return the p-value: McNemar's, which is exact, for one pair of networks, else that of the interval."""
    exact = per_seed[0]["p"] if len(per_seed) == 1 else None
    return estimate.p_value if exact is None else float(exact)
