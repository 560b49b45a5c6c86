"""`robustprune list`: what can be named."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import json_option
from robustprune.registry import Entry, first_line, read_tables

Row = dict[str, Any]

ROOMS = {
    "criteria": "pruning/criteria",
    "attacks": "attacks",
    "corruptions": "corruptions",
    "detectors": "ood",
    "models": "models",
    "datasets": "data",
}
"""Kind of plug-in → the room with its table."""


@commands.command("list", examples=["attacks"])
@click.argument("kind", type=click.Choice(list(ROOMS)))
@json_option
def list_(kind: str, as_json: bool) -> None:
    """List criteria, attacks, corruptions, detectors, models or datasets, with their options."""
    rows = list_rows(kind)
    if as_json:
        terminal.print_json(rows)
        return
    terminal.table(kind, list(rows[0]), [[_cell(value) for value in row.values()] for row in rows])


def list_rows(kind: str) -> list[Row]:
    """Return a row for everything of a kind that can be named; what other packages offer is imported and asked."""
    from importlib.metadata import entry_points

    if kind == "datasets":
        from robustprune.data import describe_datasets

        return [each._asdict() for each in describe_datasets()]  # whether they are here is asked of the machine
    tables = read_tables(ROOMS[kind])
    found: dict[str, Entry] = tables["PLUGINS"]
    others = {point.name for point in entry_points(group=f"robustprune.{kind}")} - found.keys()
    found = found | {name: ask(kind, name) for name in others}
    if kind == "corruptions":
        groups = dict.fromkeys(tables["HEADLINE"], "headline") | dict.fromkeys(tables["EXTRAS"], "extra")
        return [
            {"name": name, "group": groups.get(name, "own"), "description": each.description, "options": each.options}
            for name, each in found.items()
        ]
    rows = []
    for name, each in sorted(found.items()):
        called = f"{name}:{each.argument}" if each.argument else name
        options = {} if kind == "models" else {"options": each.options}
        rows.append({"name": called, "description": each.description, **options})
    return rows


def ask(kind: str, name: str) -> Entry:
    """Return what a plug-in says of itself, as it would stand in the table; it is imported."""
    room: Any = import_module(f"robustprune.{ROOMS[kind].partition('/')[0]}")
    plugin = getattr(room, kind.upper()).get(name)
    if getattr(plugin, "is_family", False):
        return Entry("", first_line(plugin), "NAME")
    match kind:
        case "models":
            known = {}
        case "criteria":
            known = room.make_criterion(name).model_dump()
        case _:
            known = getattr(room, f"{kind.removesuffix('s')}_options")(name)  # attack_options, for one
    given = {key: "(to be given)" if value is inspect.Parameter.empty else value for key, value in known.items()}
    return Entry("", first_line(plugin), **given)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name}={default}" for name, default in value.items())
    return "" if value is None else str(value)
