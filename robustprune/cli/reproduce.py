"""`robustprune reproduce`: the paper's tables."""

from __future__ import annotations

from typing import Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import json_option
from robustprune.cli.sweep import (
    OUT_OF_SWEEPS,
    carry_out,
    engine_options,
    overlay_option,
    read_comparison,
    set_option,
)


@commands.command()
@click.argument("table")
@click.option("--scale", type=click.Choice(["small", "paper"]), default="small", show_default=True)
@click.option("--out", type=OUT_OF_SWEEPS, required=True, help="Folder; several tables may share one.")
@engine_options
@overlay_option
@set_option
@click.option("--dry-run", is_flag=True, help="Say what would be run, and what it would take.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed before.")
@json_option
def reproduce(
    table: str,
    scale: Any,
    out: str,
    overlays: tuple[str, ...],
    settings: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Run the sweep of one of the paper's tables, table1 to table5, and show it.

    At the scale of the paper: CIFAR-10, 200 epochs, three seeds. Small: Fashion-MNIST at 14×14 pixels, 8 epochs.
    """
    from robustprune.sweep.paper import TABLES, read_table

    asked = read_table(table, scale, overlays, settings)
    summary = carry_out(asked, out, as_json=as_json, **options)
    if summary is not None and not as_json:
        for path, title in zip(summary["comparisons"], summary["compared"], strict=True):
            rows = [row for row in read_comparison(path)["rows"] if row["group"] in TABLES[table]]
            terminal.table(f"{asked.name}, {title}" if title else asked.name, _COLUMNS, [_cells(row) for row in rows])


_COLUMNS = ["ticket", "figure", ">dense", ">ticket", ">difference", "95 % interval", ">saved", ">seeds", "verdict"]


def _cells(row: dict[str, Any]) -> list[str]:
    low, high = row["interval"] or (None, None)
    return [
        row["candidate"],
        row["label"],
        _number(row["dense"]),
        _number(row["value"]),
        _signed(row["difference"]),
        "" if low is None else f"{low:+.2f} – {high:+.2f}",
        "" if row["saved_percent"] is None else f"{row['saved_percent']:.2f} %",
        str(row["n_seeds"]),
        row["verdict"] or "",
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}" if abs(value) < 1e5 else f"{value:,.0f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+,.2f}" if abs(value) < 1e5 else f"{value:+,.0f}"
