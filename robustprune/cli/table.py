"""`robustprune table`: tables of trained tickets, built, shown and queried."""

from __future__ import annotations

from pathlib import Path

import click

from robustprune.cli import (
    table_judging,  # noqa: F401  adds commands to the group
    terminal,
)
from robustprune.cli.options import given_names, json_option, list_option
from robustprune.cli.paths import Naming, Source, Target
from robustprune.cli.query import Question, answer, question_options
from robustprune.cli.sweep import OUT_OF_SWEEPS, following, set_option
from robustprune.cli.table_group import FIGURES_TO, METRICS, NAMED, save_figure, table, write_mean
from robustprune.errors import SweepError
from robustprune.runtime.file_kinds import TICKET_TABLE

_FOLDER = click.option(
    "--folder", required=True, type=OUT_OF_SWEEPS, help="Folder of the sweep that trains the networks."
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


@table.command(examples=["resnet20/digits"])
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
                else "one for each depth profile and seed, its blocks drawn at random",
            ],
            ["trained", f"{spec['recipe']['epochs']} epochs of {spec['recipe']['name']}"],
            ["images", f"{spec['data']['name']}, {read.facts['images']} to measure on"],
            ["metrics", ", ".join(read.metrics)],
            ["built with", f"robustprune {read.facts['robustprune']}, torch {read.facts['torch']}"],
        ],
        spec["description"],
    )


@table.command(examples=["resnet20/digits --where \"kept = '2-3-3'\" --columns 'avg(accuracy)'"])
@NAMED
@question_options
def query(name: str, question: Question) -> None:
    """Show the networks of a table that meet a condition, one network per row."""
    from robustprune.tables.ticket_table import load_table

    read = load_table(name)
    plain = [name for name, value in read.rows[0].items() if not isinstance(value, bytes)]
    answer(question, [{name: row[name] for name in plain} for row in read.rows], read.name)


@table.command(examples=["resnet20/digits --budget 'macs<=80%' --metric accuracy,pgd_linf_16_255"])
@NAMED
@METRICS
@click.option("--budget", metavar="COST<=SHARE%", help="Highest cost, as a share of the dense network's: macs<=60%.")
@FIGURES_TO
@json_option
def best(name: str, metrics: tuple[str, ...], budget: str | None, figures: str | None, as_json: bool) -> None:
    """Show the best depth profiles under a budget, and the Pareto front of metrics and MACs.

    A depth profile is how many blocks each stage keeps, such as 2-3-3.
    """
    from robustprune.tables.budget import best_tickets
    from robustprune.tables.ticket_table import load_table

    read = load_table(name)
    found = best_tickets(read, given_names(metrics), budget)
    if figures is not None:
        from robustprune.tables.table_figures import draw_profiles

        save_figure(draw_profiles(read.name, found, given_names(metrics)), figures)
    if as_json:
        plain = [{**vars(each), "values": {key: vars(value) for key, value in each.values.items()}} for each in found]
        terminal.print_json(plain)
        return
    rows = []
    for each in found:
        values = [write_mean(value) for value in each.values.values()]
        is_best = "yes" if each.is_best else ""
        rows.append([each.method, each.kept, each.networks, terminal.percent(each.costs["macs"]), *values, is_best])
    terminal.table(
        f"{read.name}{f' within {budget}' if budget else ''}",
        ["network", "blocks kept", ">networks", ">MACs", *(f">{metric}" for metric in given_names(metrics)), "Pareto"],
        rows,
        "Means over seeds with 95 % intervals. Pareto: no other row is at least as good in all metrics and in MACs, "
        "and better in one of them.",
    )


@table.command(examples=["resnet20/digits --remove layer1.1,layer3.2 --seed 4 --folder check"])
@NAMED
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
        ""
        if found["is_alike"]
        else "The table was built on another kind of processor or with another torch, which round sums otherwise.",
    )
