"""`robustprune list`: what can be named."""

from __future__ import annotations

from typing import Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import json_option


@commands.command("list")
@click.argument("kind", type=click.Choice(["criteria", "attacks", "corruptions", "detectors", "models", "datasets"]))
@json_option
def list_(kind: str, as_json: bool) -> None:
    """List what can be named: criteria, attacks, corruptions, detectors, models or datasets."""
    from robustprune.cli.listed import list_rows

    rows = list_rows(kind)
    if as_json:
        terminal.print_json(rows)
        return
    terminal.table(kind, list(rows[0]), [[_cell(value) for value in row.values()] for row in rows])


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name}={default}" for name, default in value.items())
    return "" if value is None else str(value)
