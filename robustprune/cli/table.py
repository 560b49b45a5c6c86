"""`robustprune table`: tables of trained tickets, built, queried, and criteria judged against them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.command import CommandGroup
from robustprune.cli.options import given_criteria, given_names, json_option, list_option
from robustprune.cli.paths import Naming, Source, Target
from robustprune.cli.query import Question, answer, question_options
from robustprune.cli.sweep import OUT_OF_SWEEPS, following, set_option
from robustprune.errors import SweepError
from robustprune.runtime.file_kinds import TICKET_TABLE

if TYPE_CHECKING:
    from robustprune.metrics.seeds import SeedMean


@commands.group(cls=CommandGroup)
def table() -> None:
    """Train all layer tickets of a network once, and judge pruning criteria against them in seconds."""


_NAMED = click.argument("name", metavar="TABLE", type=Naming(plain=True))
_FOLDER = click.option(
    "--folder", required=True, type=OUT_OF_SWEEPS, help="Folder of the sweep that trains the networks."
)
_METRICS = list_option(
    "--metric",
    "metrics",
    default=("accuracy",),
    metavar="COLUMN,…",
    help="Metrics to look at; `robustprune table show` lists those of a table.",
)


@table.command(
    examples=["examples/tables/resnet20-digits.yaml --folder runs --out resnet20.parquet"],
)
@click.argument("spec", type=Source(dir_okay=False))
@_FOLDER
@click.option(
    "--out", required=True, type=Target(TICKET_TABLE, dir_okay=False), help="File of the table: NAME.parquet."
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Worker processes.  [default: one per GPU, else one per processor]"
)
@set_option
@json_option
def build(spec: str, folder: str, out: str, workers: int | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Train and evaluate the tickets that a YAML file asks for, and write the table as a Parquet file.

    Called again after an interruption, it does what is missing.
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
@click.argument("name", metavar="[TABLE]", type=Naming(plain=True), required=False)
@json_option
def show(name: str | None, as_json: bool) -> None:
    """Describe a table: its tickets, settings and metrics. Without TABLE, list the tables of the package."""
    from robustprune.tables.ticket_table import load_table, shipped_tables

    if name is None:
        found = shipped_tables()
        if as_json:
            terminal.print_json(found)
        else:
            terminal.paragraph("\n".join(found) or "none comes with this package; see `robustprune table build`")
        return
    read = load_table(name)
    facts = {**read.facts, "seeds": read.seeds, "metrics": read.metrics}
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
            [
                "tickets",
                "every set of removable blocks"
                if spec["tickets"] == "subsets"
                else "one for each depth profile and seed",
            ],
            ["trained", f"{spec['recipe']['epochs']} epochs of {spec['recipe']['name']}"],
            ["images", f"{spec['data']['name']}, {read.facts['images']} to measure on"],
            ["metrics", ", ".join(read.metrics)],
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


@table.command(examples=["resnet20.parquet --budget 'macs<=80%' --metric accuracy,pgd_linf_16_255"])
@_NAMED
@_METRICS
@click.option("--budget", metavar="COST<=SHARE%", help="Highest cost, as a share of the dense network's: macs<=60%.")
@json_option
def best(name: str, metrics: tuple[str, ...], budget: str | None, as_json: bool) -> None:
    """Show the best depth profiles under a budget, and the Pareto front of metrics and MACs.

    A depth profile is how many blocks each stage keeps, such as 2-3-3.
    """
    from robustprune.tables.budget import best_tickets
    from robustprune.tables.ticket_table import load_table

    found = best_tickets(load_table(name), given_names(metrics), budget)
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
        ["network", "blocks kept", ">networks", ">MACs", *(f">{metric}" for metric in given_names(metrics)), "Pareto"],
        rows,
        "Means over seeds with 95 % intervals. Pareto: no other row is at least as good in all metrics and in MACs, "
        "and better in one of them.",
    )


_FIGURES = {
    "tau_subsets": "τ, tickets",
    "tau_profiles": "τ, profiles",
    "regret": "regret",
    "regret_of_chance": "regret of chance",
    "percentile": "percentile",
    "percentile_within": "within profile",
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
@_METRICS
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    default=1,
    help="Scorings per network, each on another random sample of images.",
)
@json_option
def rank(name: str, criteria: tuple[str, ...], metrics: tuple[str, ...], draws: int, as_json: bool) -> None:
    """Judge pruning criteria against a table of trained tickets: rank correlation, regret and percentile.

    TABLE is a Parquet file that `table build` wrote. The criterion scores the dense network of each seed at
    initialization; nothing is trained. Random choices have an expected τ of 0, a percentile of 50, and the regret in
    the column "regret of chance".
    """
    from robustprune.runtime.work import Work
    from robustprune.tables.criterion_rank import rank_criterion
    from robustprune.tables.ticket_table import load_table

    read, ranks = load_table(name), []
    with terminal.progress_bar() as bar:
        for criterion in given_criteria(criteria):
            ranks += rank_criterion(read, criterion, given_names(metrics), draws=draws, work=Work(progress=bar))
    if as_json:
        terminal.print_json([each.to_dict() for each in ranks])
        return
    terminal.table(
        f"{read.name}, {len(read.seeds)} seeds",
        ["criterion", "metric", *(f">{text}" for text in _FIGURES.values())],
        [[each.criterion, each.metric, *(_mean(each.figures.get(name), 2) for name in _FIGURES)] for each in ranks],
        "Means over seeds with 95 % intervals. τ: Kendall's rank correlation of predicted and measured values. regret: "
        "the best ticket of the same size less the picked one, in pp (nll, brier: their own unit). percentile: share "
        "of the other tickets of that size that the picked one beats; within profile: of those with its depth profile.",
    )


@table.command(
    examples=["resnet20.parquet --metric accuracy,pgd_linf_16_255 --criterion grasp,snip"],
)
@_NAMED
@_METRICS
@list_option(
    "--criterion",
    "criteria",
    metavar="NAME,…",
    help="Criteria whose ranks predict the metrics, all together.",
)
@json_option
def predict(name: str, metrics: tuple[str, ...], criteria: tuple[str, ...], as_json: bool) -> None:
    """Split the variance of a metric among tickets, and show how well accuracy and criteria predict it.

    The parts: depth profile (how many blocks each stage keeps), blocks (which ones), seed, and rest.
    """
    from robustprune.runtime.work import Work
    from robustprune.tables.criterion_rank import score_networks
    from robustprune.tables.predictability import metric_agreement, predicted_ranks, variance_shares
    from robustprune.tables.ticket_table import load_table

    read = load_table(name)
    with terminal.progress_bar() as bar:
        scores = {each: score_networks(read, each, work=Work(progress=bar)) for each in given_criteria(criteria)}
    found = []
    for metric in given_names(metrics):
        agreement = None if metric == "accuracy" else metric_agreement(read, "accuracy", metric)
        predicted = predicted_ranks(read, metric, scores) if scores else None
        found.append((variance_shares(read, metric), {"tau_of_accuracy": agreement, "tau_of_criteria": predicted}))
    if as_json:
        plain = [(shares, {name: each and vars(each) for name, each in taus.items()}) for shares, taus in found]
        terminal.print_json([{**vars(shares), **taus} for shares, taus in plain])
        return
    rows = []
    for shares, taus in found:
        parts = [shares.profile, shares.blocks, shares.seed, shares.rest]
        written = ["–" if part is None else terminal.percent(part) for part in parts]
        rows.append([shares.metric, *written, f"{shares.deviation:.4f}", *(_mean(each, 2) for each in taus.values())])
    terminal.table(
        f"Shares of the variance, {read.name}",
        ["metric", ">profile", ">blocks", ">seed", ">rest", ">deviation", ">τ of accuracy", ">τ of criteria"],
        rows,
        "Shares are of the variance among layer tickets. τ: Kendall's rank correlation with the metric, among tickets "
        "of one seed and size.",
    )


def _mean(found: SeedMean | None, digits: int = 4) -> str:
    if found is None:
        return "–"
    interval = "" if found.low is None else f" [{found.low:.{digits}f}, {found.high:.{digits}f}]"
    return f"{found.mean:.{digits}f}{interval}"


@table.command(examples=["resnet20.parquet --remove layer1.1,layer3.2 --seed 4 --folder check"])
@_NAMED
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the network.")
@list_option("--remove", "removed", metavar="BLOCK,…", help="Blocks that it lacks.  [default: none, the dense network]")
@_FOLDER
@json_option
def check(name: str, seed: int, removed: tuple[str, ...], folder: str, as_json: bool) -> None:
    """Train one network of a table again, and compare it with the table."""
    from robustprune.tables.table_building import retrain
    from robustprune.tables.ticket_table import load_table

    gone = given_names(removed)
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
