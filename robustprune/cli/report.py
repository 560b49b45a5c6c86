"""`robustprune report`: records on one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.compare import parse_tolerance, tolerance_option
from robustprune.cli.options import json_option
from robustprune.cli.paths import OUT_FOLDER, Records, Target
from robustprune.runtime.kinds import PAGE, TABLES, Kind


def _tables(out: Path, options: Mapping[str, Any]) -> list[tuple[Path, Kind]]:
    from robustprune.report.writing import table_files

    return [(file, TABLES) for file in table_files(out)] if options["paper_tables"] else []


@commands.command()
@click.argument(
    "records", nargs=-1, type=Records(), required=True, metavar="DIR | FILE … | dense=RECORDS NAME=RECORDS …"
)
@click.option(
    "--out",
    type=Target(PAGE, beside=_tables, dir_okay=False),
    default="report.html",
    show_default=True,
    help="File of the page.",
)
@click.option("--figures", type=OUT_FOLDER, help="Folder for each figure as PDF, SVG and PNG.")
@click.option(
    "--paper-tables", is_flag=True, help="Add the paper's Tables 1 to 5; also as PAGE.md and PAGE.tex beside the page."
)
@click.option("--title", help="Heading of the page.")
@tolerance_option
@json_option
def report(
    records: tuple[str, ...],
    out: str,
    figures: str | None,
    paper_tables: bool,
    title: str | None,
    tolerance: str,
    as_json: bool,
) -> None:
    """Compare networks and write one HTML page about it, with figures; it works offline.

    Of a folder all records are taken, wherever in it they are: `robustprune report runs`. They are grouped by what they
    say: image set, architecture, method, criterion, how many layers. Or name the groups, as for `compare`:
    `robustprune report dense=A.json,B.json layer=C.json,D.json`.
    """
    from robustprune.lottery.paper_tables import paper_tables as make_tables
    from robustprune.report import write_report

    with terminal.progress_bar() as bar:
        parts = write_report(
            records,
            out,
            title=title,
            tolerance=parse_tolerance(tolerance),
            figures=figures,
            tables=make_tables if paper_tables else None,
            progress=bar,
        )
    if as_json:
        terminal.print_json({"out": out, "parts": {name: found.to_dict() for name, found in parts.items()}})
        return
    for name, found in parts.items():
        if len(parts) > 1:
            terminal.say(name)
        terminal.paragraph(found.headline)
    terminal.say(f"report in {out}")
