"""`robustprune demo`: the whole path in two minutes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import Setup, setup_options
from robustprune.cli.paths import Target
from robustprune.runtime.kinds import DEMO_MARK, Kind

if TYPE_CHECKING:
    from robustprune.cli.demonstration import DemoResult

_SHOWN = ("accuracy", "robustness", "corruptions", "ood", "cost")


def _files(out: Path, _options: Mapping[str, Any]) -> list[tuple[Path, Kind]]:
    from robustprune.cli.demonstration import demo_files

    return demo_files(out)


@commands.command()
@click.option(
    "--out",
    type=Target(beside=_files, marks=(DEMO_MARK,), file_okay=False),
    default="demo",
    show_default=True,
    help="Output folder.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True)
@setup_options
def demo(out: str, epochs: int, setup: Setup, as_json: bool) -> None:
    """Train a dense network, a GraSP ticket, a filter-pruned and a random one on digits; compare; write a report.

    Each is attacked, shown corrupted and foreign images, and compared with the dense one.
    """
    from robustprune.cli.demonstration import run_demo

    # Images of 8×8 pixels gain nothing from a second thread, and on a busy machine two would wait for each other.
    device = replace(setup, threads=setup.threads or 1).begin()
    with terminal.progress_bar() as bar:
        result = run_demo(
            Path(out),
            epochs=epochs,
            seed=setup.seed,
            device=device,
            progress=bar,
            say=terminal.say,
        )
    if as_json:
        terminal.print_json(result.to_dict())
        return
    _summary(result)


def _summary(result: DemoResult) -> None:
    """Draw the main metrics of each network, and what the comparison says of them."""
    from robustprune.cli.demonstration import NAMES
    from robustprune.report.cells import value_text, verdict_badge
    from robustprune.report.verdicts import heading, main_metrics

    comparison = result.comparison
    columns = [row for row in main_metrics(comparison.rows) if row.group in _SHOWN]
    by_place = {(row.candidate, row.metric): row for row in comparison.rows}
    rows = [["dense", *(value_text(column.dense, column.unit) for column in columns)]]
    for name in comparison.candidates:
        found = [by_place[name, column.metric] for column in columns]
        rows.append([name, *(f"{value_text(row.value, row.unit)}\n{verdict_badge(row).word}" for row in found)])
    terminal.table(
        f"ResNet32 on digits, {result.networks[0].record.n} test images: {', '.join(NAMES.values())}",
        ["network", *(f">{heading(column).partition(', ')[0]}" for column in columns)],
        rows,
        f"Verdicts by paired 95 % intervals with a tolerance of {comparison.tolerance:g} pp.\n"
        "One seed on a few hundred small images: this shows that everything works, not what layer pruning does.\n"
        f"Tickets and records are in {result.report.parent}/\nOpen the report: {result.report}",
    )
