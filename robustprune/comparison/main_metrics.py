"""The few metrics of a comparison that answer its question: is a candidate as accurate, as robust, and cheaper?"""

from __future__ import annotations

from collections.abc import Sequence

from robustprune.comparison.comparison_row import ComparisonRow

_DETECTORS = ("energy", "msp", "knn")
# Counted, not measured: memory, latency and energy depend on the machine.
_LAST = ("ece", "macs", "parameters")


def main_metrics(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Return one row for each metric that answers the question, in the order of a table's columns.

    Accuracy; robust accuracy under the strongest attack at two budgets, 8/255 and the one that leaves the dense network
    closest to 50 %; corruptions; AUROC of one detector on one out-of-distribution set; calibration; counted costs.
    Where no robustness was measured but on shifted sets, accuracy on the first of them.
    """
    first: dict[str, ComparisonRow] = {}
    for row in rows:
        # The row of any candidate has the value of the dense network, unless the metric is not compared there.
        if row.metric not in first or first[row.metric].reference is None:
            first[row.metric] = row
    robust = _strongest_attacks([row for row in first.values() if row.group == "robustness"])
    robust += _named(first, "corruption_accuracy")
    robust += _best_known_detector([row for row in first.values() if row.group == "ood"])
    robust = robust or [row for row in first.values() if row.group == "shift"][:1]
    return [*_named(first, "accuracy"), *robust, *_named(first, *_LAST)]


def _named(rows: dict[str, ComparisonRow], *metrics: str) -> list[ComparisonRow]:
    return [rows[metric] for metric in metrics if metric in rows]


def _strongest_attacks(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    budgets: dict[str, list[ComparisonRow]] = {}
    for row in rows:
        budgets.setdefault(row.label.partition(" ")[2], []).append(row)  # of "pgd L∞ 8/255", norm and ε
    # A number that failed a check does not tell how strong its attack is.
    strongest = [
        min(found, key=lambda row: 100.0 if row.reference is None else row.reference) for found in budgets.values()
    ]
    usual = [row for row in strongest if row.label.endswith(" 8/255")][:1]
    others = sorted((row for row in strongest if row not in usual), key=lambda row: abs((row.reference or 100.0) - 50))
    return usual + others[: 2 - len(usual)]


def _best_known_detector(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    order = {name: place for place, name in enumerate(_DETECTORS)}
    return sorted(rows, key=lambda row: order.get(row.label.partition(",")[0], len(order)))[:1]
