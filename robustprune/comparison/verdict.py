"""How much of a difference matters, and what the interval of a difference allows to say.

A ticket wins where accuracy(ticket) + ξ ≥ accuracy(dense) (eq. 1). Here intervals take the place of the difference, and
ξ bounds it on both sides, so that two networks can also be found to be the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from robustprune.errors import ComparisonError
from robustprune.metrics.seeds import CrossedDifference
from robustprune.registry import suggest

Verdict = Literal["better", "equivalent", "no worse", "undecided", "worse"]
VERDICTS: tuple[Verdict, ...] = ("better", "equivalent", "no worse", "undecided", "worse")
WINNING: tuple[Verdict, ...] = ("better", "equivalent", "no worse")
"""Those of a ticket that wins in the sense of eq. 1."""

Tolerance = float | str | Mapping[str, float | str]
"""ξ: percentage points, ``std``, or either for each kind of metric."""

KINDS = {
    "accuracy": "accuracy",
    "robust_accuracy": "robust accuracy",
    "corruption_accuracy": "accuracy under corruptions",
    "shift_accuracy": "accuracy on shifted sets",
    "auroc": "AUROC",
    "ece": "ECE",
    "nll": "NLL",
    "brier": "Brier score",
}
"""What stands before the bracket of a metric's key → its name for readers."""

TOLERANCES: Mapping[str, float | str] = {
    **{"accuracy": 1.0, "robust_accuracy": 2.0, "corruption_accuracy": 2.0, "shift_accuracy": 2.0, "auroc": 2.0},
    **{"ece": 1.0, "nll": 0.0, "brier": 0.0},
}
"""ξ of each kind, in percentage points but for those that are no shares."""
_NO_SHARES = ("nll", "brier")


def read_tolerance(given: Tolerance) -> dict[str, float | str]:
    """Return ξ of each kind of metric.

    A number is that of all shares: NLL and Brier score are none, and a point of them means nothing. Kinds that a
    mapping does not name keep their default.

    Raises:
        ComparisonError: There is no such kind, or no such tolerance.
    """
    if isinstance(given, Mapping):
        for kind in given:
            if kind not in KINDS:
                raise ComparisonError(f"no metric {kind!r} has a tolerance.{suggest(kind, list(KINDS))}")
        return {kind: _read_one(kind, given.get(kind, default)) for kind, default in TOLERANCES.items()}
    if given == "std":
        return dict.fromkeys(KINDS, "std")
    return {kind: 0.0 if kind in _NO_SHARES else _read_one(kind, given) for kind in KINDS}


def _read_one(kind: str, value: Any) -> float | str:
    if value == "std":
        return "std"
    if isinstance(value, str) or not 0 <= value < 100:
        unit = "a number" if kind in _NO_SHARES else "percentage points"
        raise ComparisonError(f"the tolerance of {KINDS[kind]} is 'std' or {unit} from 0 to 100, got {value!r}")
    return float(value)


def write_margin(value: float | str | None, unit: str = "pp") -> str:
    """Return ξ for readers."""
    return "one standard deviation" if isinstance(value, str) else f"{value or 0:.3g} {unit}".rstrip()


def write_tolerances(tolerances: Mapping[str, float | str], metrics: Sequence[str]) -> str:
    """Return for readers which ξ the kinds of some metrics, given by their keys, have."""
    kinds = dict.fromkeys(key.partition("[")[0] for key in metrics)
    groups: dict[str, list[str]] = {}
    for kind in kinds:
        if kind in tolerances:
            text = write_margin(tolerances[kind], "" if kind in _NO_SHARES else "pp")
            groups.setdefault("none" if text in ("0", "0 pp") else text, []).append(KINDS[kind])
    return "; ".join(f"{margin} ({', '.join(names)})" for margin, names in groups.items())


def judge(
    interval: tuple[float, float], bounds: tuple[float, float], tolerance: float, *, higher_is_better: bool = True
) -> Verdict:
    """Return what a difference, candidate − dense, is found to be.

    ``better`` where its interval, of confidence 1 − α, lies above 0. Else it is what the bounds say, each of which
    holds with confidence 1 − α, so that they are the interval of confidence 1 − 2α: ``equivalent`` where they lie
    within ±ξ, which is two one-sided tests (Schuirmann 1987); ``no worse`` where they lie above −ξ, and ``worse`` where
    they lie below; ``undecided`` where −ξ lies between. ξ is the tolerance, in the unit of the interval; errors have
    their sign turned.
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
    """Return whether a difference is shown to be less than a tolerance, in either direction."""
    return -tolerance < bounds[0] and bounds[1] < tolerance


def judge_estimate(
    estimate: CrossedDifference, tolerance: float, confidence: float, *, higher_is_better: bool, has_failures: bool
) -> dict[str, Any]:
    """Return what a row of a comparison says of an estimated difference.

    Where trainings of the candidate failed, it is not found to win: what usually comes out of a training is not all
    that a method does.
    """
    interval, bounds = (estimate.interval(each) for each in (confidence, 2 * confidence - 1))
    verdict = judge(interval, bounds, tolerance, higher_is_better=higher_is_better)
    return {
        "interval": interval,
        "bounds": bounds,
        "standard_error": estimate.standard_error,
        "freedom": estimate.all_freedom,
        "p_value": estimate.p_value,
        "p_equivalent": estimate.p_equivalent(tolerance),
        "tolerance": tolerance,
        "verdict": "undecided" if has_failures and verdict in WINNING else verdict,
    }
