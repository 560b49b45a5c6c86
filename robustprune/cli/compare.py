"""`robustprune compare`: candidates against a dense network, from their records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import json_option
from robustprune.cli.paths import Records
from robustprune.errors import ComparisonError

if TYPE_CHECKING:
    from robustprune.comparison import Comparison

tolerance_option = click.option(
    "--tolerance", default="1.0", show_default=True, help="ξ in percentage points, or std: one of dense."
)


@commands.command()
@click.argument("groups", nargs=-1, type=Records(), required=True, metavar="dense=RECORDS NAME=RECORDS …")
@tolerance_option
@click.option("--confidence", type=click.FloatRange(0.5, 1, max_open=True), default=0.95, show_default=True)
@click.option("--metric", "metrics", multiple=True, help="Only this key, kind or group of metrics, such as robustness.")
@click.option("--resamples", type=click.IntRange(min=100), default=1000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap.")
@json_option
def compare(
    groups: tuple[str, ...],
    tolerance: str,
    confidence: float,
    metrics: tuple[str, ...],
    resamples: int,
    seed: int,
    as_json: bool,
) -> None:
    """Compare candidates with a dense network: `compare dense=A.json,B.json layer=C.json,D.json`.

    RECORDS are files that `evaluate --out` wrote, one for each seed, with commas between; or folders of records, or
    patterns such as `'runs/*/layer.json'`.
    """
    from robustprune.comparison import compare
    from robustprune.comparison.sources import split_named

    named: dict[str, list[str]] = {}
    try:
        for name, places in map(split_named, groups):
            named.setdefault(name, []).extend(places)
    except ComparisonError as error:
        raise click.UsageError(str(error)) from error
    if "dense" not in named or len(named) < 2:
        raise click.UsageError("name the dense network and a candidate: dense=A.json,B.json layer=C.json,D.json")
    found = compare(
        named.pop("dense"),
        named,
        tolerance=parse_tolerance(tolerance),
        confidence=confidence,
        metrics=metrics,
        resamples=resamples,
        seed=seed,
    )
    if as_json:
        terminal.print_json(found.to_dict())
    else:
        _draw(found)


def parse_tolerance(text: str) -> float | str:
    """Return a tolerance as :func:`robustprune.compare` takes it."""
    if text == "std":
        return text
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"--tolerance takes percentage points or std, got {text!r}") from None


def _draw(found: Comparison) -> None:
    terminal.paragraph(found.headline)
    margin = "one standard deviation of dense" if isinstance(found.tolerance, str) else f"{found.tolerance:g} pp"
    for name in found.candidates:
        headings, rows = found.table(name)
        title = f"{name} against {found.dense_name}, tolerance {margin}"
        terminal.table(title, headings, rows, "\n".join([_LEGEND, *found.notes(name)]))
    for warning in found.warnings:
        terminal.say(f"Warning: {warning}")


_LEGEND = """\
Shares in percent, differences in pp; p of no difference, Holm over all rows.
Verdicts hold each by itself and are not corrected; ± is half an interval.
Memory in bytes, latency in ms, time in s, energy in kWh, CO₂ in kg."""
