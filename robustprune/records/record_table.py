"""What a record found, as a small table that notebooks show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustprune.attacks.norms import write_budget, write_norm
from robustprune.records.tidy import COSTS, GROUPS, TidyRow, tidy_rows
from robustprune.runtime.html import html_table

_LABELS = {"ece": "ECE", "nll": "NLL (nats)", "brier": "Brier score", "mce_vs_dense": "mCE, relative to dense"}
_LABELS |= {"mean_error_evaluated": "mean error", "average_radius": "average radius"}


def record_table(record: Mapping[str, Any], costs: Mapping[str, float | None]) -> str:
    """Return what a record found as a small table in HTML, for notebooks."""
    model = record["model"]
    title = f"{model['architecture']} on {record['dataset']} ({record['split']}), {record['n']:,} images"
    notes = [f"Without {', '.join(model['removed'])}."] if model["removed"] else []
    for entry in record["attacks"]:
        failed = [f"{check['name']}: {check['detail']}" for check in entry["checks"] if check["verdict"] == "FAIL"]
        notes += [] if entry["valid"] else [f"{_name_attack(entry)} is not valid; {'; '.join(failed)}"]
    rows = tidy_rows(record, costs)
    lines: list[list[str]] = []
    for group, heading in GROUPS.items():
        chosen = [row for row in rows if row["group"] == group and _is_main(row)]
        lines += [[heading, "", ""]] if chosen else []
        lines += [[_label(row), _value(row), _interval(row)] for row in chosen]
    return html_table(title, ["measure", ">value", ">95 % interval"], lines, notes)


def _is_main(row: TidyRow) -> bool:
    """Return whether a row stands in the small table: no single severities, one mean, one figure of a detector."""
    main = {"ood": ("auroc",), "corruptions": ("mean_error_evaluated", "mce_vs_dense")}.get(row["group"])
    return row["severity"] is None and (main is None or row["metric"] in main)


def _name_attack(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']} {write_budget(entry['epsilon'], entry['norm'])}"


def _label(row: TidyRow) -> str:
    if row["group"] == "robustness":
        return _name_attack(row)
    if row["group"] == "distance":
        return f"{row['name']} {write_norm(row['norm'])}, median distance"
    if row["metric"] == "certified_accuracy":
        return f"within {write_budget(row['epsilon'], row['norm'])}"
    if row["group"] == "cost":
        label, unit = COSTS[row["metric"]]
        return f"{label} ({unit})" if unit not in ("", "MACs") else label
    what = {"ood": row["name"], "shift": row["metric"]}.get(row["group"])
    return f"{what}, {row['dataset']}" if what else _LABELS.get(row["metric"], str(row["metric"]))


def _value(row: TidyRow) -> str:
    if row["value"] is None:
        return "not valid"
    if row["group"] == "distance":
        return f"{row['value']:.4g}"
    if row["group"] == "cost":
        return f"{row['value']:,}" if isinstance(row["value"], int) else f"{row['value']:.4g}"
    return (
        f"{row['value']:.4f}"
        if row["metric"] in ("nll", "brier", "mce_vs_dense", "average_radius")
        else f"{100 * row['value']:.1f} %"
    )


def _interval(row: TidyRow) -> str:
    if row["low"] is None or row["high"] is None:
        return ""
    if row["group"] == "distance":
        return f"{row['low']:.4g} – {row['high']:.4g}"
    return f"{100 * row['low']:.1f} – {100 * row['high']:.1f} %"
