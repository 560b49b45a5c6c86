"""`robustprune table`: the group of its commands, and what several of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from robustprune.cli.application import commands
from robustprune.cli.command import CommandGroup
from robustprune.cli.options import list_option
from robustprune.cli.paths import OUT_FOLDER, Naming

if TYPE_CHECKING:
    from robustprune.metrics.seeds import SeedMean
    from robustprune.report.figures.drawing import Drawing


@commands.group(cls=CommandGroup)
def table() -> None:
    """Train all layer tickets of a network once, and judge pruning criteria against them in seconds."""


NAMED = click.argument("name", metavar="TABLE", type=Naming(plain=True))
METRICS = list_option(
    "--metric",
    "metrics",
    default=("accuracy",),
    metavar="COLUMN,…",
    help="Metrics to look at; `robustprune table show` lists those of a table.",
)


FIGURES_TO = click.option("--figures", type=OUT_FOLDER, help="Folder to save the figure in, as PDF, SVG and PNG.")


def save_figure(drawing: Drawing, folder: str) -> None:
    """Save what a command shows in a folder."""
    from robustprune.report.figures.drawing import save_figures

    save_figures([drawing], folder)


def write_mean(found: SeedMean | None, digits: int = 4) -> str:
    """Return a mean over seeds with its interval."""
    if found is None:
        return "–"
    interval = "" if found.low is None else f" [{found.low:.{digits}f}, {found.high:.{digits}f}]"
    return f"{found.mean:.{digits}f}{interval}".replace("-", "−")
