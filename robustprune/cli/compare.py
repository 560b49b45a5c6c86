"""`robustprune compare` and `robustprune report`: candidates against a dense network, from their records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import json_option, list_option
from robustprune.cli.paths import OUT_FOLDER, Records, Target
from robustprune.errors import ComparisonError
from robustprune.runtime.file_kinds import PAGE, TABLES, FileKind

if TYPE_CHECKING:
    from robustprune.comparison import Comparison

_LEGEND = """\
Shares in percent, differences in pp; ± is half an interval.
p: Holm's correction for all rows. Verdicts are not corrected.
Better: the {interval:.4g} % interval lies above 0, however little (< ξ: by less than ξ).
Otherwise the {bounds:.4g} % interval decides: equivalent within ±ξ, no worse above −ξ,
worse below −ξ, undecided where it contains −ξ.
Loss: the {interval:.4g} % interval lies below 0. Where lower is better, signs are reversed.
Memory in bytes, latency in ms, time in s, energy in kWh, CO₂ in kg."""


CONFIDENCE_HELP = "Confidence level of intervals, and of each of the one-sided bounds that verdicts go by."
tolerance_option = list_option(
    "--tolerance",
    metavar="ξ | KIND=ξ,…",
    help="Tolerance ξ in percentage points, of all metrics or of one kind: auroc=3. std: the standard deviation of "
    "dense "
    "over its seeds.  [default: 1 for accuracy and ece, 2 for robust_accuracy, certified_accuracy, "
    "corruption_accuracy, shift_accuracy and auroc, 0 for nll, brier, median_distance and certified_radius]",
)


def read_tolerances(given: Sequence[str]) -> dict[str, float | str]:
    """Return ξ of each kind: first what is given for all, then what is for some."""
    from robustprune.comparison.verdict import TOLERANCES, read_tolerance

    pairs = [text.strip().rpartition("=") for each in given for text in each.split(",")]
    try:
        values = [(kind, text if text == "std" else float(text)) for kind, _, text in pairs]
    except ValueError:
        raise click.UsageError(f"--tolerance takes percentage points or std, got {','.join(given)!r}") from None
    plain = [value for kind, value in values if not kind]
    if len(plain) > 1:
        raise click.UsageError("--tolerance is given more than once; give it once, and once for each kind of metric")
    named = {kind: value for kind, value in values if kind}
    return read_tolerance({**read_tolerance(plain[0] if plain else TOLERANCES), **named})


def named_groups(groups: Sequence[str], against: str | None) -> dict[str, list[str]]:
    """Return the records of each group, by its name; ``against`` has to be one of them, and there have to be two."""
    from robustprune.comparison.sources import split_named

    named: dict[str, list[str]] = {}
    try:
        for name, places in map(split_named, groups):
            named.setdefault(name, []).extend(places)
    except ComparisonError as error:
        raise click.UsageError(str(error)) from error
    if len(named) < 2 or (against is not None and against not in named):
        reference = against or "dense"
        kind = {"dense": "the dense network"}.get(reference, reference)
        raise click.UsageError(f"name {kind} and a candidate: {reference}=A.json,B.json layer=C.json,D.json")
    return named


@commands.command(
    examples=[
        "dense=d0.json,d1.json,d2.json layer=l0.json,l1.json,l2.json",
        "dense='runs/dense-*.json' layer='runs/layer-*.json' filter='runs/filter-*.json' --against filter",
    ],
)
@click.argument("groups", nargs=-1, type=Records(), required=True, metavar="dense=RECORDS NAME=RECORDS …")
@click.option("--against", default="dense", help="Name of the reference that all others are compared with.")
@click.option("--all-pairs", is_flag=True, help="Compare all networks with each other.")
@tolerance_option
@click.option("--confidence", type=click.FloatRange(0.5, 1, max_open=True), default=0.95, help=CONFIDENCE_HELP)
@list_option(
    "--metric", "metrics", metavar="METRIC,…", help="Compare only these metrics, kinds or groups: accuracy,robustness."
)
@click.option("--resamples", type=click.IntRange(min=100), default=1000, help="Bootstrap resamples, for ECE only.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the bootstrap.")
@click.option(
    "--figures",
    type=OUT_FOLDER,
    help="Folder for critical-difference diagrams (mean ranks in each metric) as PDF, SVG and PNG.",
)
@json_option
def compare(
    groups: tuple[str, ...], tolerance: tuple[str, ...], figures: str | None, as_json: bool, **statistics: Any
) -> None:
    """Compare candidates with the dense network, or with one another, from records.

    RECORDS names the records of one kind of network, one for each seed: files that `evaluate --out` wrote, separated by
    commas; a folder of them; or a pattern such as `'runs/*/layer.json'`.
    """
    from robustprune.comparison import compare
    from robustprune.runtime.work import Work

    named = named_groups(groups, None if statistics["all_pairs"] else statistics["against"])
    # Commas in a key, as of an attack's options, are within its brackets.
    statistics["metrics"] = [key.strip() for each in statistics["metrics"] for key in re.split(r",(?![^\[]*\])", each)]
    with terminal.progress_bar() as bar:
        how = {"tolerance": read_tolerances(tolerance), "work": Work(progress=bar), **statistics}
        found = compare(named.pop("dense", None), named, **how)
    if figures is not None:
        _write_ranks(found, figures)
    if not statistics["metrics"] and {row.group for row in found.rows} <= {"accuracy", "calibration", "cost"}:
        terminal.say(_MORE)
    if as_json:
        terminal.print_json(found.to_dict())
    else:
        _draw(found)


_MORE = (
    "Compared: accuracy, calibration and cost. Robustness, corruptions and out-of-distribution detection are compared "
    "where records hold them: `robustprune evaluate … --attack pgd --corruption all --ood near`"
)


def _draw(found: Comparison) -> None:
    for sentence in found.summary:
        terminal.paragraph(sentence)
    levels = {"interval": 100 * found.confidence, "bounds": 100 * (2 * found.confidence - 1)}
    for pair in found.pairs:
        legend = [
            _LEGEND.format(**levels),
            *([f"ξ: {found.tolerance_text}."] if found.tolerance_text else []),
            *found.notes(*pair),
        ]
        terminal.table(found.title(*pair), *found.table(*pair), "\n".join(legend))
    for ranking in found.rankings[:1]:
        terminal.table(ranking.title, *ranking.table(), "\n".join(ranking.notes()))
    if found.choice:
        terminal.paragraph(found.choice)
    for limitation in found.limitations:
        terminal.say(f"Limitation: {limitation}")


def _write_ranks(found: Comparison, folder: str) -> None:
    from robustprune.report.figures.drawing import save_figures, slug
    from robustprune.report.figures.mean_ranks import draw_ranking

    if not found.rankings:
        raise ComparisonError(
            "ranks need at least three kinds of networks, on three settings or of three seeds that all of them have; "
            "leave out --figures, or give more records"
        )
    save_figures((draw_ranking(each, f"ranks-{slug(each.metric)}") for each in found.rankings), folder)


def _tables(out: Path, options: Mapping[str, Any]) -> list[tuple[Path, FileKind]]:
    from robustprune.report.writing import table_files

    return [(file, TABLES) for file in table_files(out)] if options["paper_tables"] else []


@commands.command(examples=["runs --out report.html"])
@click.argument(
    "records", nargs=-1, type=Records(), required=True, metavar="DIR | FILE … | dense=RECORDS NAME=RECORDS …"
)
@click.option(
    "--out", type=Target(PAGE, beside=_tables, dir_okay=False), default="report.html", help="File of the page."
)
@click.option("--figures", type=OUT_FOLDER, help="Folder to save all figures in, as PDF, SVG and PNG.")
@click.option(
    "--paper-tables",
    is_flag=True,
    help="Add the paper's Tables 1 to 5, and write them beside the page as .md and .tex files.",
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
    tolerance: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare networks and write an HTML report with figures, in one file that works offline.

    All records of a folder are taken: `robustprune report runs`. They are grouped by image set, architecture, method,
    criterion and number of removed blocks. Or name the groups, as for `compare`:
    `robustprune report dense=A.json,B.json layer=C.json,D.json`.
    """
    from robustprune.lottery.paper_tables import paper_tables as make_tables
    from robustprune.report import write_report

    with terminal.progress_bar() as bar:
        parts = write_report(
            records,
            out,
            title=title,
            tolerance=read_tolerances(tolerance),
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
        for sentence in found.summary:
            terminal.paragraph(sentence)
    terminal.say(f"report in {out}")
