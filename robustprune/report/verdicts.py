"""The comparison on the page: the table of verdicts, the table of all rows, and the details of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustprune.comparison import DENSE, Comparison, ComparisonRow
from robustprune.comparison.main_metrics import main_metrics
from robustprune.comparison.verdict import write_margin
from robustprune.report.cells import (
    NONE,
    Cell,
    badge,
    difference_text,
    interval_text,
    p_text,
    signed,
    value_text,
    verdict_badge,
)


def verdict_matrix(comparison: Comparison, seeds: Mapping[str, int], prefix: str) -> dict[str, Any]:
    """Return the table of verdicts: the dense network, then each candidate, metric by metric."""
    columns = main_metrics(comparison.rows)
    places = {(row.candidate, row.metric): place for place, row in enumerate(comparison.rows)}
    lines = {DENSE: [_plain_cell(value_text(row.reference, row.unit), row.reference) for row in columns]}
    for name in comparison.candidates:
        found = [places.get((name, column.metric)) for column in columns]
        lines[name] = [
            _plain_cell(NONE) if place is None else _verdict_cell(comparison.rows[place], f"{prefix}-why-{place}")
            for place in found
        ]
    return {
        "columns": [Cell(heading(row)) for row in columns],
        "rows": [
            {"name": name, "seeds": f"{seeds[name]} seed{'s' if seeds[name] != 1 else ''}", "cells": cells}
            for name, cells in lines.items()
        ],
        "caption": f"Value, difference to {DENSE} with its {100 * comparison.confidence:.4g} % interval, "
        "and verdict. Press a verdict for its p-values, seeds and records.",
    }


def _plain_cell(value: str, sort: float | None = None) -> dict[str, Any]:
    return {"value": value, "sort": sort, "lines": [], "verdict": None}


def _verdict_cell(row: ComparisonRow, why: str) -> dict[str, Any]:
    return {
        "value": value_text(row.value, row.unit),
        "sort": row.value,
        "lines": [difference_text(row), f"[{interval_text(row)}]"] if row.verdict else [],
        "verdict": verdict_badge(row),
        "why": why,
        "metric": row.label,
    }


def heading(row: ComparisonRow) -> str:
    """Return the heading of a metric's column."""
    return f"AUROC {row.label}" if row.group == "ood" else row.label


def legend(tolerances: str, *, has_invalid: bool) -> list[tuple[Any, str]]:
    """Return each verdict with its meaning; ``tolerances`` are in words."""
    found = [
        (badge("better"), "the interval lies above 0"),
        (badge("equivalent"), f"the difference lies within the tolerance ±ξ: {tolerances}"),
        (badge("no worse"), "not worse by more than ξ: a winning ticket, as the paper calls it"),
        (badge("undecided"), "too few seeds or images to decide"),
        (badge("worse"), "worse by more than ξ"),
    ]
    return [*found, (badge("invalid"), "failed a check, so it is not compared")] if has_invalid else found


def headings(confidence: float) -> tuple[str, ...]:
    """Return the headings of the table of all comparisons."""
    interval = f"{100 * confidence:.4g} % interval"
    return ("network", "metric", "dense", "value", "difference", interval, "p", "p (Holm)", "seeds", "images")


def all_comparisons(
    comparison: Comparison, links: Mapping[str, Sequence[dict[str, str]]], prefix: str
) -> list[dict[str, Any]]:
    """Return every row of a comparison with its details; ``links`` lead to the records of each group."""
    return [
        {
            "id": f"{prefix}-why-{place}",
            "title": f"{heading(row)}: {row.candidate} vs. {DENSE}",
            "cells": _cells(row),
            "verdict": verdict_badge(row),
            "reason": _reason(row),
            "facts": _facts(row, comparison.confidence),
            "links": [*links[DENSE], *links[row.candidate]],
        }
        for place, row in enumerate(comparison.rows)
    ]


def _cells(row: ComparisonRow) -> list[Cell]:
    return [
        Cell(row.candidate),
        Cell(heading(row)),
        Cell(value_text(row.reference, row.unit), row.reference, number=True),
        Cell(value_text(row.value, row.unit), row.value, number=True),
        Cell(difference_text(row) or NONE, row.difference, number=True),
        Cell(interval_text(row), row.interval and row.interval[0], number=True),
        Cell(p_text(row.p_value), row.p_value, number=True),
        Cell(p_text(row.p_adjusted), row.p_adjusted, number=True),
        Cell(str(row.n_seeds), number=True),
        Cell(NONE if row.n_samples is None else f"{row.n_samples:,}", row.n_samples, number=True),
    ]


def _reason(row: ComparisonRow) -> str:
    if row.verdict is None:
        return row.reason or ""
    subject = "the method" if row.statement == "method" else "these networks, not for the method"
    margin = f"a tolerance of {write_margin(row.tolerance, row.unit)}" if row.tolerance else "no tolerance"
    return f"for {subject}, with {margin}."


def _facts(row: ComparisonRow, confidence: float) -> list[tuple[str, str]]:
    """Return the details of a row: its cells, its statistics, its key in JSON, and its values seed by seed."""
    facts = [(name, cell.text) for name, cell in zip(headings(confidence), _cells(row), strict=True)]
    if row.bounds is not None and row.p_equivalent is not None:
        bounds = f"{signed(row.bounds[0], row.unit)}, {signed(row.bounds[1], row.unit)}"
        facts += [("one-sided bounds", bounds), ("p, equivalence", p_text(row.p_equivalent))]
    facts.append(("average over seeds", row.over_seeds))
    if row.chance_better is not None and row.chance_interval is not None:
        chances = (f"{100 * each:.0f} %" for each in (row.chance_better, *row.chance_interval))
        facts.append(("probability that one network is better than one dense network", "{} ({} … {})".format(*chances)))
    facts += [("paired by image", "yes" if row.paired else "no"), ("metric in JSON", row.metric)]
    for each in row.per_seed:
        text = f"{value_text(each['reference'], row.unit)} → {value_text(each['value'], row.unit)}"
        if each.get("b") is not None:
            text += f"; right in one only: {each['b']} dense, {each['c']} candidate; McNemar's p {p_text(each['p'])}"
        facts.append((f"seed {each['seed']}", text))
    return facts
