"""The answer of a comparison in one short sentence for each candidate."""

from __future__ import annotations

from collections.abc import Sequence

from robustprune.comparison.comparison_row import ComparisonRow
from robustprune.comparison.failures import Failures

_NAMES = {
    "accuracy": "clean accuracy",
    "robustness": "robust accuracy ({})",
    "certification": "accuracy {}",
    "corruptions": "accuracy under corruptions",
    "shift": "accuracy on {}",
    "ood": "AUROC ({})",
}
"""Group of metrics → what one of them is called in a sentence, with its label."""
_NARROW = 0.5
"""Percentage points: a narrower interval is written with two decimals."""


def write_answer(rows: Sequence[ComparisonRow], failures: Failures | None = None) -> str:
    """Return what rows of one candidate say, one for each main metric: the part of the sentence after its name.

    Which metrics these are, :func:`~robustprune.comparison.main_metrics.main_metrics` says.
    """
    clauses = []
    if failures:
        clauses.append(f"{len(failures.seeds)} of {failures.n_networks} trainings failed")
    clauses += [write_verdict(row) for row in rows if row.group in _NAMES]
    clauses += [_cost(row.saved_percent) for row in rows if row.metric == "macs" and row.saved_percent is not None]
    return ", ".join(clauses) or "see the table"


def write_verdict(row: ComparisonRow) -> str:
    """Return the verdict on a metric in words, with the difference where there is one to report."""
    name = _NAMES[row.group].format(row.label)
    if row.verdict is None:
        is_invalid = row.reason is not None and row.reason.startswith("invalid")
        return f"{name} {'failed a check' if is_invalid else 'not compared'}"
    if row.verdict in ("better", "worse"):
        slight = " (< ξ)" if row.verdict_text != row.verdict else ""
        return f"{name} {row.verdict} by {write_estimate(row, signed=False)}{slight}"
    if row.is_loss:
        return f"{name} {row.verdict}, a significant loss ({write_estimate(row)})"
    if row.group == "accuracy" or row.verdict == "undecided":
        return f"{name} {row.verdict} ({write_estimate(row)})"
    return f"{name} {row.verdict}"


def write_estimate(row: ComparisonRow, *, signed: bool = True) -> str:
    """Return a difference of shares with its interval: ``−0.3 pp [−0.9, +0.3]``; without a sign, its size.

    Raises:
        ValueError: The row has no interval.
    """
    if row.difference is None or row.interval is None:
        raise ValueError(f"{row.metric} of {row.candidate} has no interval")
    low, high = row.interval
    digits = 1 if high - low >= _NARROW else 2
    sign = -1 if row.difference < 0 and not signed else 1
    values = (sign * row.difference, *sorted((sign * low, sign * high)))
    form = f"{'+' if signed else ''}.{digits}f"
    texts = (f"{round(value, digits) + 0.0:{form}}".replace("-", "−") for value in values)
    return "{} pp [{}, {}]".format(*texts)


def _cost(saved_percent: float) -> str:
    if abs(saved_percent) < 0.05:
        return "as many MACs"
    return f"{abs(saved_percent):.3g} % {'fewer' if saved_percent > 0 else 'more'} MACs"
