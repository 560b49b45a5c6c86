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
        "caption": f"Value, difference to {DENSE} with its {100 * comparison.confidence:.4g} % interval, and verdict. "
        "Select a verdict for details.",
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


def legend(confidence: float, *, has_invalid: bool) -> list[tuple[Any, str]]:
    """Return each verdict with its meaning."""
    interval, bounds = (f"{100 * each:.4g} % interval" for each in (confidence, 2 * confidence - 1))
    found = [
        (badge("better"), f"{interval} above 0, however small the gain; “< ξ”: the gain is less than ξ"),
        (badge("equivalent"), f"{bounds} within ±ξ"),
        (badge("no worse"), f"{bounds} above −ξ: no more than ξ is lost"),
        (badge("undecided"), f"{bounds} contains −ξ: a loss of more than ξ is neither shown nor excluded"),
        (badge("worse"), f"{bounds} below −ξ: more than ξ is lost"),
    ]
    return [*found, (badge("invalid"), "failed a check, so it is not compared")] if has_invalid else found


def legend_notes(comparison: Comparison) -> str:
    """Return what the verdicts of a comparison have in common."""
    interval = f"{100 * comparison.confidence:.4g} % interval"
    return (
        f"ξ: {comparison.tolerance_text or 'none'}. “Loss”: the {interval} lies below 0. Where lower is better, signs "
        "are reversed. Verdicts are not corrected for the number of metrics; p (Holm) is. A ticket wins, as the paper "
        "has it, if it is better, equivalent or no worse."
    )


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
    subject = "the method" if row.statement == "method" else "these networks only"
    margin = f"ξ = {write_margin(row.tolerance, row.unit)}" if row.tolerance else "without a tolerance ξ"
    return f"Holds for {subject}; {margin}."


def _facts(row: ComparisonRow, confidence: float) -> list[tuple[str, str]]:
    """Return the details of a row: its cells, its statistics, its key in JSON, and its values seed by seed."""
    facts = [(name, cell.text) for name, cell in zip(headings(confidence), _cells(row), strict=True)]
    if row.bounds is not None:
        bounds = " … ".join(signed(end, row.unit) for end in row.bounds)
        facts.append((f"{100 * (2 * confidence - 1):.4g} % interval", bounds))
    if row.p_equivalent is not None:
        facts.append(("p of equivalence (TOST)", p_text(row.p_equivalent)))
    facts.append(("estimate over seeds", row.over_seeds))
    if row.chance_better is not None and row.chance_interval is not None:
        chances = (f"{100 * each:.0f} %" for each in (row.chance_better, *row.chance_interval))
        facts.append(("probability that one network is better than one dense network", "{} ({} … {})".format(*chances)))
    facts += [("paired by image", "yes" if row.paired else "no"), ("metric in JSON", row.metric)]
    for each in row.per_seed:
        text = f"{value_text(each['reference'], row.unit)} → {value_text(each['value'], row.unit)}"
        if each.get("b") is not None:
            only = f"images that only {row.against} gets right: {each['b']}, only {row.candidate}: {each['c']}"
            text += f"; {only}; McNemar's p {p_text(each['p'])}"
        facts.append((f"seed {each['seed']}", text))
    return facts
