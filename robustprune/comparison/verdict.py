"""Tolerances, and the verdict on a difference by its interval.

In the paper a ticket wins where accuracy(ticket) + ξ ≥ accuracy(dense) (eq. 1). Here the interval of the difference
takes the place of the difference, and ξ bounds it on both sides, so that two networks can also be found equivalent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robustprune.errors import ComparisonError
from robustprune.metrics.seeds import CrossedDifference
from robustprune.registry import suggest

Verdict = Literal["better", "equivalent", "no worse", "undecided", "worse"]
VERDICTS: tuple[Verdict, ...] = ("better", "equivalent", "no worse", "undecided", "worse")
WINNING: tuple[Verdict, ...] = ("better", "equivalent", "no worse")
"""Verdicts on a ticket that wins in the sense of eq. 1."""

Tolerance = float | str | Mapping[str, float | str]
"""ξ: percentage points, ``std``, or either for each kind of metric."""

KINDS = {
    "accuracy": "accuracy",
    "robust_accuracy": "robust accuracy",
    "median_distance": "median distance to the decision boundary",
    "certified_accuracy": "certified accuracy",
    "certified_radius": "certified radius",
    "corruption_accuracy": "accuracy under corruptions",
    "shift_accuracy": "accuracy on shifted sets",
    "auroc": "AUROC",
    "ece": "ECE",
    "nll": "NLL",
    "brier": "Brier score",
}
"""Kind of metric (the part of its key before the bracket) → its name for readers."""

TOLERANCES: Mapping[str, float | str] = {
    **{"accuracy": 1.0, "robust_accuracy": 2.0, "corruption_accuracy": 2.0, "shift_accuracy": 2.0, "auroc": 2.0},
    **{"certified_accuracy": 2.0, "certified_radius": 0.0},
    **{"ece": 1.0, "nll": 0.0, "brier": 0.0, "median_distance": 0.0},
}
"""Kind of metric → ξ: in percentage points for shares, else in the unit of the metric."""
NO_SHARES = ("nll", "brier", "median_distance", "certified_radius")
"""Kinds of metrics that are no shares: their differences are in their own unit, not in percentage points."""


def read_tolerance(given: Tolerance) -> dict[str, float | str]:
    """Return ξ of each kind of metric.

    A single number is ξ of all shares; NLL, Brier score and radius are no shares and then have a ξ of 0. Kinds
    that a mapping does not name keep their default.

    Raises:
        ComparisonError: A kind is unknown, or a tolerance is out of range.
    """
    if isinstance(given, Mapping):
        for kind in given:
            if kind not in KINDS:
                raise ComparisonError(f"no kind of metric {kind!r} has a tolerance.{suggest(kind, list(KINDS))}")
        return {kind: _read_one(kind, given.get(kind, default)) for kind, default in TOLERANCES.items()}
    if given == "std":
        return dict.fromkeys(KINDS, "std")
    return {kind: 0.0 if kind in NO_SHARES else _read_one(kind, given) for kind in KINDS}


def _read_one(kind: str, value: Any) -> float | str:
    if value == "std":
        return "std"
    if isinstance(value, str) or not 0 <= value < 100:
        unit = "a number" if kind in NO_SHARES else "percentage points"
        raise ComparisonError(f"the tolerance of {KINDS[kind]} must be 'std' or {unit} from 0 to 100, got {value!r}")
    return float(value)


def margin(tolerance: float | str, reference: NDArray[Any]) -> float:
    """Return ξ in the unit of a metric, from the values (S,) of the reference where it is their standard deviation."""
    return float(np.std(reference, ddof=1)) if isinstance(tolerance, str) else tolerance


def write_margin(value: float | str | None, unit: str = "pp") -> str:
    """Return ξ for readers."""
    return "one standard deviation" if isinstance(value, str) else f"{value or 0:.3g} {unit}".rstrip()


def write_tolerances(tolerances: Mapping[str, float | str], metrics: Sequence[str]) -> str:
    """Return ξ of some metrics, given by their keys, for readers: ``1 pp (accuracy, ECE); 2 pp (AUROC)``."""
    kinds = dict.fromkeys(key.partition("[")[0] for key in metrics)
    groups: dict[str, list[str]] = {}
    for kind in kinds:
        if kind in tolerances:
            text = write_margin(tolerances[kind], "" if kind in NO_SHARES else "pp")
            groups.setdefault("none" if text in ("0", "0 pp") else text, []).append(KINDS[kind])
    return "; ".join(f"{margin} ({', '.join(names)})" for margin, names in groups.items())


def judge(
    interval: tuple[float, float], bounds: tuple[float, float], tolerance: float, *, higher_is_better: bool = True
) -> Verdict:
    """Return the verdict on a difference, candidate − reference.

    ``better`` where the interval, of confidence 1 − α, lies above 0. Else the bounds decide, which are one-sided and
    have confidence 1 − α each, so that together they are the interval of confidence 1 − 2α: ``equivalent`` where they
    lie within ±ξ (two one-sided tests, Schuirmann 1987), ``no worse`` where they lie above −ξ, ``worse`` where they lie
    below −ξ, and ``undecided`` where −ξ lies between them. ξ is the tolerance, in the unit of the interval. Where lower
    values are better, signs are reversed. So a gain needs no minimum and a loss does: eq. 1 allows for losses up to ξ.
    Rows say where such a loss is significant (:attr:`ComparisonRow.is_loss`).
    """
    if not higher_is_better:
        interval, bounds = ((-high, -low) for low, high in (interval, bounds))
    if interval[0] > 0:
        return "better"
    if is_within(bounds, tolerance):
        return "equivalent"
    if bounds[0] > -tolerance:
        return "no worse"
    return "worse" if bounds[1] < -tolerance else "undecided"


def is_within(bounds: tuple[float, float], tolerance: float) -> bool:
    """Return whether both bounds of a difference lie within ±tolerance."""
    return -tolerance < bounds[0] and bounds[1] < tolerance


def judge_estimate(
    estimate: CrossedDifference, tolerance: float, confidence: float, *, higher_is_better: bool, has_failures: bool
) -> dict[str, Any]:
    """Return the fields of a row of a comparison that an estimated difference decides.

    A candidate with failed trainings does not win, however good its other networks are. Without a tolerance there is no
    test of equivalence.
    """
    interval, bounds = (estimate.interval(each) for each in (confidence, 2 * confidence - 1))
    verdict = judge(interval, bounds, tolerance, higher_is_better=higher_is_better)
    return {
        "interval": interval,
        "bounds": bounds,
        "standard_error": estimate.standard_error,
        "freedom": estimate.all_freedom,
        "p_value": estimate.p_value,
        "p_equivalent": estimate.p_equivalent(tolerance) if tolerance else None,
        "tolerance": tolerance,
        "verdict": "undecided" if has_failures and verdict in WINNING else verdict,
    }
