"""`robustprune table`: tables of tickets that are all trained, built, asked, and criteria judged against them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.command import CommandGroup
from robustprune.cli.options import json_option, list_option
from robustprune.cli.paths import Naming, Source, Target
from robustprune.cli.query import Question, answer, question_options
from robustprune.cli.sweep import OUT_OF_SWEEPS, following
from robustprune.errors import SweepError
from robustprune.registry import split_names
from robustprune.runtime.file_kinds import TICKET_TABLE

if TYPE_CHECKING:
    from robustprune.metrics.seeds import SeedMean


def _names(given: Sequence[str]) -> list[str]:
    return [name for text in given for name in split_names(text)]


@commands.group(cls=CommandGroup)
def table() -> None:
    """Build tables in which every ticket is trained, and judge criteria against them in seconds."""


_NAMED = click.argument("name", type=Naming(plain=True))
_FOLDER = click.option(
    "--folder", required=True, type=OUT_OF_SWEEPS, help="Folder of the sweep that trains the networks."
)
_MEASURES = list_option(
    "--measure",
    "measures",
    default=("accuracy",),
    metavar="COLUMN,…",
    help="Measures of the table, see `robustprune table show`.",
)


@table.command(
    examples=["examples/tables/resnet20-digits.yaml --folder runs --out resnet20.parquet"],
)
@click.argument("spec", type=Source(dir_okay=False))
@_FOLDER
@click.option(
    "--out", required=True, type=Target(TICKET_TABLE, dir_okay=False), help="File of the table: NAME.parquet."
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes side by side.  [default: GPUs, or processors]")
@click.option("--set", "settings", type=Naming(), multiple=True, metavar="NAME=VALUE", help="As for a sweep.")
@json_option
def build(spec: str, folder: str, out: str, workers: int | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Train and evaluate every ticket that a YAML file asks for, and write the table.

    Called again after an interruption, it continues with what is missing.
    """
    from robustprune.sweep.document import read_document
    from robustprune.tables.table_building import build_table
    from robustprune.tables.table_spec import read_spec

    asked = read_spec(read_document(spec, (), settings), spec)
    with following() as watch:
        state = build_table(asked, folder, out, workers=workers, watch=watch)
    if state.failed:
        first, error = next(iter(state.failed.items()))
        raise SweepError(f"{len(state.failed)} stages failed, and no table was written: {first}: {error}")
    if as_json:
        terminal.print_json({"out": out, "name": asked.name, "networks": len(state.plan.runs)})
    else:
        terminal.say(f"{len(state.plan.runs)} networks are in {out}")


@table.command(examples=["resnet20.parquet"])
@click.argument("name", type=Naming(plain=True), required=False)
@json_option
def show(name: str | None, as_json: bool) -> None:
    """Describe a table; without a name, list the tables of the package."""
    from robustprune.tables.ticket_table import load_table, shipped_tables

    if name is None:
        found = shipped_tables()
        if as_json:
            terminal.print_json(found)
        else:
            terminal.paragraph("\n".join(found) or "none comes with this package; see `robustprune table build`")
        return
    read = load_table(name)
    facts = {**read.facts, "seeds": read.seeds, "measures": read.measures}
    if as_json:
        terminal.print_json(facts)
        return
    spec = read.facts["spec"]
    counts = {method: sum(row["method"] == method for row in read.rows) for method in ("dense", "layer", "filter")}
    terminal.table(
        read.name,
        ["", ""],
        [
            ["networks", ", ".join(f"{count} {method}" for method, count in counts.items() if count)],
            ["seeds", len(read.seeds)],
            ["tickets", "every set of blocks" if spec["tickets"] == "subsets" else "one for each depth of each stage"],
            ["trained", f"{spec['recipe']['epochs']} epochs of {spec['recipe']['name']}"],
            ["images", f"{spec['data']['name']}, {read.facts['images']} to measure on"],
            ["measures", ", ".join(read.measures)],
            ["built with", f"robustprune {read.facts['robustprune']}, torch {read.facts['torch']}"],
        ],
        spec["description"],
    )


@table.command(examples=["resnet20.parquet --where \"kept = '2-3-3'\" --columns 'avg(accuracy)'"])
@_NAMED
@question_options
def query(name: str, question: Question) -> None:
    """Show the networks of a table that meet a condition, one network per row."""
    from robustprune.tables.ticket_table import load_table

    read = load_table(name)
    plain = [name for name, value in read.rows[0].items() if not isinstance(value, bytes)]
    answer(question, [{name: row[name] for name in plain} for row in read.rows], read.name)


@table.command(examples=["resnet20.parquet --budget 'macs<=80%' --measure accuracy,pgd_linf_16_255"])
@_NAMED
@_MEASURES
@click.option("--budget", metavar="COST<=SHARE%", help="Largest cost, such as macs<=60% of the dense network's.")
@json_option
def best(name: str, measures: tuple[str, ...], budget: str | None, as_json: bool) -> None:
    """Show the best depths under a budget, and the Pareto front of measures and MACs."""
    from robustprune.tables.budget import best_tickets
    from robustprune.tables.ticket_table import load_table

    found = best_tickets(load_table(name), _names(measures), budget)
    if as_json:
        plain = [{**vars(each), "values": {key: vars(value) for key, value in each.values.items()}} for each in found]
        terminal.print_json(plain)
        return
    rows = []
    for each in found:
        values = [_mean(value) for value in each.values.values()]
        is_best = "yes" if each.is_best else ""
        rows.append([each.method, each.kept, each.networks, terminal.percent(each.costs["macs"]), *values, is_best])
    terminal.table(
        f"{name}{f' within {budget}' if budget else ''}",
        ["network", "blocks kept", ">networks", ">MACs", *(f">{measure}" for measure in _names(measures)), "Pareto"],
        rows,
        "means over seeds with 95 % intervals; Pareto: none is as good in all measures and as cheap, and better in one",
    )


_FIGURES = {
    "tau_subsets": "τ, tickets",
    "tau_tuples": "τ, depths",
    "regret": "regret",
    "regret_of_chance": "of chance",
    "percentile": "percentile",
    "percentile_within": "within depth",
}


@table.command(
    examples=[
        "resnet20.parquet --criterion grasp",
        "resnet20.parquet --criterion my_file.py:MyCriterion",
    ],
)
@_NAMED
@list_option(
    "--criterion",
    "criteria",
    required=True,
    metavar="NAME,…",
    help="Criteria to judge, see `robustprune list criteria`.",
)
@_MEASURES
@click.option("--draws", type=click.IntRange(min=1), default=1, help="Scorings per network, each on other images.")
@json_option
def rank(name: str, criteria: tuple[str, ...], measures: tuple[str, ...], draws: int, as_json: bool) -> None:
    """Judge criteria by the measured values of the tickets that they pick.

    Scores the dense network of each seed at initialization and trains nothing. A random criterion has a τ of 0, a
    percentile of 50, and the regret in the column beside.
    """
    from robustprune.runtime.work import Work
    from robustprune.tables.criterion_rank import rank_criterion
    from robustprune.tables.ticket_table import load_table

    read, ranks = load_table(name), []
    with terminal.progress_bar() as bar:
        for criterion in _names(criteria):
            ranks += rank_criterion(read, criterion, _names(measures), draws=draws, work=Work(progress=bar))
    if as_json:
        terminal.print_json([each.to_dict() for each in ranks])
        return
    terminal.table(
        f"{read.name}, {len(read.seeds)} seeds",
        ["criterion", "measure", *(f">{text}" for text in _FIGURES.values())],
        [[each.criterion, each.measure, *(_mean(each.figures.get(name), 2) for name in _FIGURES)] for each in ranks],
        "means over seeds with 95 % intervals; regret: how much better the best ticket of equal size is, in percentage "
        "points but for nll and brier; percentile: the share of tickets of equal size that the picked one beats",
    )


@table.command(
    examples=["resnet20.parquet --measure accuracy,pgd_linf_16_255 --criterion grasp,snip"],
)
@_NAMED
@_MEASURES
@list_option("--criterion", "criteria", metavar="NAME,…", help="Criteria that predict the measures together.")
@json_option
def predict(name: str, measures: tuple[str, ...], criteria: tuple[str, ...], as_json: bool) -> None:
    """Measure what the tickets' measures vary with, and how well accuracy and criteria predict them."""
    from robustprune.runtime.work import Work
    from robustprune.tables.criterion_rank import score_networks
    from robustprune.tables.predictability import measure_agreement, predicted_ranks, variance_shares
    from robustprune.tables.ticket_table import load_table

    read = load_table(name)
    with terminal.progress_bar() as bar:
        scores = {each: score_networks(read, each, work=Work(progress=bar)) for each in _names(criteria)}
    found = []
    for measure in _names(measures):
        agreement = None if measure == "accuracy" else measure_agreement(read, "accuracy", measure)
        predicted = predicted_ranks(read, measure, scores) if scores else None
        found.append((variance_shares(read, measure), {"tau_of_accuracy": agreement, "tau_of_criteria": predicted}))
    if as_json:
        plain = [(shares, {name: each and vars(each) for name, each in taus.items()}) for shares, taus in found]
        terminal.print_json([{**vars(shares), **taus} for shares, taus in plain])
        return
    rows = []
    for shares, taus in found:
        parts = [shares.depths, shares.blocks, shares.seed, shares.rest]
        written = ["–" if part is None else terminal.percent(part) for part in parts]
        rows.append([shares.measure, *written, f"{shares.deviation:.4f}", *(_mean(each, 2) for each in taus.values())])
    terminal.table(
        f"What {read.name} varies with",
        ["measure", ">depths", ">blocks", ">seed", ">rest", ">deviation", ">τ of accuracy", ">τ of criteria"],
        rows,
        "shares of the variance among layer tickets; τ among tickets of equal seed and size",
    )


def _mean(found: SeedMean | None, digits: int = 4) -> str:
    if found is None:
        return "–"
    interval = "" if found.low is None else f" [{found.low:.{digits}f}, {found.high:.{digits}f}]"
    return f"{found.mean:.{digits}f}{interval}"


@table.command(examples=["resnet20.parquet --remove layer1.1,layer3.2 --seed 4 --folder check"])
@_NAMED
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the network.")
@list_option("--remove", "removed", metavar="BLOCK,…", help="Blocks that it lacks.  [default: none]")
@_FOLDER
@json_option
def check(name: str, seed: int, removed: tuple[str, ...], folder: str, as_json: bool) -> None:
    """Train one network of a table again, and compare it with the table."""
    from robustprune.tables.table_building import retrain
    from robustprune.tables.ticket_table import load_table

    gone = _names(removed)
    with terminal.progress_bar():
        found = retrain(load_table(name), gone, seed, Path(folder))
    if as_json:
        terminal.print_json(found)
        return
    same = "the same network" if found["is_same"] else "another network"
    lacking = f"without {', '.join(gone)}" if gone else "dense"
    terminal.table(
        f"{name}, seed {seed}, {lacking}: {same}",
        ["", ">in the table", ">now"],
        [[each, found["table"][each], found["now"][each]] for each in found["now"]],
    )
