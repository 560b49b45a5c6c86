"""The comparison on the page: the table of verdicts, all comparisons, and how each came about."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from robustprune.comparison import Comparison, ComparisonRow
from robustprune.comparison.metric import POINTS
from robustprune.report.cells import (
    NONE,
    Cell,
    badge,
    difference_text,
    interval_text,
    p_text,
    value_text,
    verdict_badge,
)

_DETECTORS = ("energy", "msp", "knn")
# Those that are counted: what is measured varies with the machine.
_LAST = ("ece", "macs", "parameters")
_BRACKETS = re.compile(r"\w+\[(.+) (\S+) (\S+)\]")


def main_metrics(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Return a row of each metric that answers the question, in the order of the table's columns.

    Accuracy; robust accuracy under the strongest attack of two budgets, 8/255 and the one that leaves the dense network
    closest to 50 %; corruptions; AUROC of one detector on one out-of-distribution set; calibration; counted costs.
    """
    first: dict[str, ComparisonRow] = {}
    for row in rows:
        # Of the dense network any candidate's row tells as much, but for one that is not compared.
        if row.metric not in first or first[row.metric].dense is None:
            first[row.metric] = row
    chosen = [first["accuracy"]] if "accuracy" in first else []
    chosen += _strongest([row for row in first.values() if row.group == "robustness"])
    chosen += [first[name] for name in ("corruption_accuracy",) if name in first]
    chosen += _detection([row for row in first.values() if row.group == "ood"])
    return chosen + [first[name] for name in _LAST if name in first]


def _strongest(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    budgets: dict[tuple[str, str], list[ComparisonRow]] = {}
    for row in rows:
        match = _BRACKETS.fullmatch(row.metric)
        budgets.setdefault((match[2], match[3]) if match else ("", row.metric), []).append(row)
    # An invalid number says nothing of which attack is strongest.
    strongest = [min(found, key=lambda row: 100.0 if row.dense is None else row.dense) for found in budgets.values()]
    usual = [row for row in strongest if row.label.endswith(" 8/255")][:1]
    others = sorted((row for row in strongest if row not in usual), key=lambda row: abs((row.dense or 100.0) - 50))
    return usual + others[: 2 - len(usual)]


def _detection(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    order = {name: place for place, name in enumerate(_DETECTORS)}
    return sorted(rows, key=lambda row: order.get(row.label.partition(",")[0], len(order)))[:1]


def verdict_matrix(comparison: Comparison, seeds: Mapping[str, int], prefix: str) -> dict[str, Any]:
    """Return the table of verdicts: the dense network, then each candidate, metric by metric."""
    columns = main_metrics(comparison.rows)
    by_place = {(row.candidate, row.metric): (place, row) for place, row in enumerate(comparison.rows)}
    dense = [_plain_cell(value_text(row.dense, row.unit), row.dense) for row in columns]
    rows = [{"name": comparison.dense_name, "seeds": _seeds(seeds[comparison.dense_name]), "cells": dense}]
    for name in comparison.candidates:
        cells = []
        for column in columns:
            place, row = by_place.get((name, column.metric), (None, None))
            cells.append(_plain_cell(NONE) if row is None else _matrix_cell(row, f"{prefix}-why-{place}"))
        rows.append({"name": name, "seeds": _seeds(seeds[name]), "cells": cells})
    return {
        "columns": [Cell(heading(row)) for row in columns],
        "rows": rows,
        "title": "Verdicts",
        "caption": f"Value, difference to {comparison.dense_name} with its {100 * comparison.confidence:g} % interval, "
        "and verdict. Press a verdict to see how it came about.",
    }


def _plain_cell(value: str, sort: float | None = None) -> dict[str, Any]:
    return {"value": value, "sort": sort, "lines": [], "verdict": None}


def _matrix_cell(row: ComparisonRow, why: str) -> dict[str, Any]:
    return {
        "value": value_text(row.value, row.unit),
        "sort": row.value,
        "lines": [difference_text(row), f"[{interval_text(row)}]"] if row.verdict else [],
        "verdict": verdict_badge(row),
        "why": why,
        "metric": row.label,
    }


def heading(row: ComparisonRow) -> str:
    """Return what a metric is called above a column."""
    return f"AUROC {row.label}" if row.group == "ood" else row.label


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def legend(tolerance: float | str, *, has_invalid: bool) -> list[tuple[Any, str]]:
    """Return what each verdict means."""
    margin = "one standard deviation" if isinstance(tolerance, str) else f"{tolerance:g} pp"
    found = [
        (badge("better"), "the interval lies above 0"),
        (badge("winning"), f"at most {margin} worse"),
        (badge("undecided"), "the interval allows either"),
        (badge("losing"), f"more than {margin} worse"),
    ]
    return [*found, (badge("invalid"), "failed a check, so not compared")] if has_invalid else found


HEADINGS = ("network", "metric", "dense", "value", "difference", "95 % interval", "p", "p (Holm)", "seeds", "images")


def all_comparisons(
    comparison: Comparison, links: Mapping[str, Sequence[dict[str, str]]], prefix: str
) -> list[dict[str, Any]]:
    """Return every row of a comparison with what explains it.

    Args:
        comparison: What was compared.
        links: Group → where its records stand on the page.
        prefix: Of the ids.
    """
    return [
        {
            "id": f"{prefix}-why-{place}",
            "title": f"{heading(row)}: {row.candidate} against {comparison.dense_name}",
            "cells": _cells(row),
            "verdict": verdict_badge(row),
            "reason": _reason(row),
            "facts": _facts(row, comparison),
            "links": [*links[comparison.dense_name], *links[row.candidate]],
        }
        for place, row in enumerate(comparison.rows)
    ]


def _cells(row: ComparisonRow) -> list[Cell]:
    numbers = (row.dense, row.value, row.difference)
    texts = (
        value_text(row.dense, row.unit),
        value_text(row.value, row.unit),
        difference_text(row) or NONE,
    )
    return [
        Cell(row.candidate),
        Cell(heading(row)),
        *(Cell(text, number, number=True) for text, number in zip(texts, numbers, strict=True)),
        Cell(interval_text(row), row.interval and row.interval[0], number=True),
        Cell(p_text(row.p_value), row.p_value, number=True),
        Cell(p_text(row.p_adjusted), row.p_adjusted, number=True),
        Cell(str(row.n_seeds), number=True),
        Cell(NONE if row.n_samples is None else f"{row.n_samples:,}", row.n_samples, number=True),
    ]


def _reason(row: ComparisonRow) -> str:
    if row.verdict is None:
        return row.reason or ""
    whom = "the method" if row.statement == "method" else "these networks, not of the method"
    if row.tolerance is None or row.unit != POINTS:
        margin = "with no tolerance" if not row.tolerance else f"with a tolerance of {row.tolerance:.3g} {row.unit}"
    else:
        margin = f"with a tolerance of {row.tolerance:.3g} pp"
    return f"speaks of {whom}, {margin.rstrip()}."


def _facts(row: ComparisonRow, comparison: Comparison) -> list[tuple[str, str]]:
    facts = [
        (comparison.dense_name, value_text(row.dense, row.unit)),
        (row.candidate, value_text(row.value, row.unit)),
        ("difference", difference_text(row) or NONE),
        (f"{100 * comparison.confidence:g} % interval", interval_text(row)),
        ("p-value", f"{p_text(row.p_value)}; corrected for all rows (Holm) {p_text(row.p_adjusted)}"),
        ("images", NONE if row.n_samples is None else f"{row.n_samples:,}{', compared one by one' * row.paired}"),
        ("metric", row.metric),
    ]
    return facts + [(f"seed {each['seed']}", _seed_text(each, row.unit)) for each in row.per_seed]


def _seed_text(each: Mapping[str, Any], unit: str) -> str:
    text = f"{value_text(each['dense'], unit)} → {value_text(each['value'], unit)}"
    if each.get("b") is None:
        return text
    return f"{text}; right only in one: {each['b']} dense, {each['c']} candidate; McNemar p {p_text(each['p'])}"
