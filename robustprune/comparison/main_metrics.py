"""The few metrics of a comparison that answer its question: is a candidate as accurate, as robust, and cheaper?"""

from __future__ import annotations

from collections.abc import Sequence

from robustprune.comparison.comparison_row import ComparisonRow

_DETECTORS = ("energy", "msp", "knn")
_CUSTOMARY = ("L∞ 8/255", "L2 0.5", "L2 0.502")
"""Norm and ε that robust accuracies are mostly published for; 128/255 in L2."""
_LAST = ("ece", "macs")  # MACs are counted; latency and energy depend on the machine


def main_metrics(rows: Sequence[ComparisonRow], own: Sequence[ComparisonRow] = ()) -> list[ComparisonRow]:
    """Return one row for each metric that answers the question, in the order of a table's columns.

    Accuracy; robust accuracy under the strongest attack at two budgets, the customary one and the one that leaves the
    dense network closest to 50 %; certified accuracy, at the radius that does so; corruptions; AUROC of one detector on
    each out-of-distribution set, or on the two where the difference is lowest and highest; calibration; MACs. Where no
    robustness was measured but on shifted sets, accuracy on one or two of them, chosen alike.

    Args:
        rows: All rows of a comparison.
        own: Rows whose differences choose between sets: those of one candidate; all rows by default.
    """
    first: dict[str, ComparisonRow] = {}
    for row in rows:
        # The row of any candidate has the value of the dense network, unless the metric is not compared there.
        if row.metric not in first or first[row.metric].reference is None:
            first[row.metric] = row
    robust = _strongest_attacks([row for row in first.values() if row.group == "robustness"])
    certified = [row for row in first.values() if row.metric.startswith("certified_accuracy")]
    robust += sorted(certified, key=_distance_to_half)[:1]
    robust += _named(first, "corruption_accuracy")
    robust += _named(first, *_extremes(_of_one_detector([row for row in own or rows if row.group == "ood"])))
    robust = robust or _named(first, *_extremes([row for row in own or rows if row.group == "shift"]))
    return [*_named(first, "accuracy"), *robust, *_named(first, *_LAST)]


def explain_choice(rows: Sequence[ComparisonRow]) -> str:
    """Return how main metrics were chosen among those of the rows, for readers; empty where there was no choice."""
    labels: dict[str, set[str]] = {}
    for row in rows:
        labels.setdefault(row.group, set()).add(row.label)
    parts = []
    if len(labels.get("robustness", ())) > 1:
        parts.append(
            "the strongest attack at the customary ε (8/255 in L∞, 0.5 in L2) and at the ε that leaves the dense "
            "network closest to 50 %"
        )
    if len(labels.get("certification", ())) > 2:
        parts.append("the certified radius that leaves the dense network closest to 50 %")
    if len(labels.get("ood", ())) > 1:
        parts.append("one OOD detector (energy, else MSP or kNN)")
    sets = [{label.partition(", ")[2] for label in labels.get("ood", ())}, labels.get("shift", set())]
    if max(map(len, sets)) > 2:
        parts.append("of three sets or more, those with the lowest and the highest difference")
    return f"Chosen for the answer: {'; '.join(parts)}." if parts else ""


def _named(rows: dict[str, ComparisonRow], *metrics: str) -> list[ComparisonRow]:
    return [rows[metric] for metric in metrics if metric in rows]


def _strongest_attacks(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    budgets: dict[str, list[ComparisonRow]] = {}
    for row in rows:
        budgets.setdefault(_budget(row), []).append(row)
    # A number that failed a check does not tell how strong its attack is.
    strongest = [
        min(found, key=lambda row: 100.0 if row.reference is None else row.reference) for found in budgets.values()
    ]
    usual = [row for row in strongest if _budget(row) in _CUSTOMARY][:1]
    others = sorted((row for row in strongest if row not in usual), key=_distance_to_half)
    return usual + others[: 2 - len(usual)]


def _distance_to_half(row: ComparisonRow) -> float:
    return abs((row.reference or 100.0) - 50)


def _budget(row: ComparisonRow) -> str:
    return row.label.partition(" ")[2]  # of "pgd L∞ 8/255", norm and ε


def _of_one_detector(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Return the rows of the best known detector."""
    names = {row.label.partition(",")[0] for row in rows}
    chosen = next((name for name in _DETECTORS if name in names), min(names, default=""))
    return [row for row in rows if row.label.partition(",")[0] == chosen]


def _extremes(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return the metrics of rows on several sets: up to two, else those with the lowest and the highest difference."""
    metrics = list(dict.fromkeys(row.metric for row in rows))
    judged = sorted((row for row in rows if row.difference is not None), key=lambda row: row.difference or 0.0)
    if len(metrics) <= 2 or len({row.metric for row in judged}) < 2:
        return metrics[:2]
    best = next(row for row in reversed(judged) if row.metric != judged[0].metric)
    return [judged[0].metric, best.metric]
