"""`robustprune export`: a ticket as a file that runs elsewhere."""

from __future__ import annotations

from typing import Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    data_options,
    model_options,
    open_named_network,
    processor_options,
)
from robustprune.cli.paths import Target
from robustprune.cli.tables import pruning_notes
from robustprune.runtime.kinds import EXPORT


@commands.command()
@model_options
@data_options
@click.option("--format", type=click.Choice(["onnx", "torch-export"]), default="onnx", show_default=True)
@click.option("--out", required=True, type=Target(EXPORT, dir_okay=False), help="The file to write.")
@processor_options
def export(format: str, out: str, as_json: bool, **options: Any) -> None:
    """Write a network as a file that runs without robustprune, once it computes the same.

    It takes any number of float32 images in [0, 1], (N, C, H, W), and returns logits; normalization is inside.
    """
    from robustprune.tickets.export import export_model

    ticket = open_named_network(options)
    found = export_model(ticket, out, format)
    if as_json:
        terminal.print_json({"model": options["model"], **found.to_dict()})
        return
    rows = [
        ["input", found.metadata["input"]],
        ["output", f"logits (N, {found.metadata['classes']})"],
        ["size", f"{found.bytes / 1e6:,.2f} MB"],
        ["compared with the ticket", f"logits within {found.largest_difference:.1g} of the largest"],
    ]
    terminal.table(
        f"{options['model']} as {format}", ["", ""], rows, "\n".join([*pruning_notes(ticket), f"written to {out}"])
    )
