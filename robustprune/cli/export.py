"""`robustprune export`: a ticket as a file that runs elsewhere."""

from __future__ import annotations

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    DataOptions,
    NetworkOptions,
    Setup,
    dataset_options,
    network_options,
    processor_options,
)
from robustprune.cli.paths import Target
from robustprune.runtime.kinds import EXPORT


@commands.command()
@network_options
@dataset_options
@click.option("--format", type=click.Choice(["onnx", "torch-export"]), default="onnx", show_default=True)
@click.option("--out", required=True, type=Target(EXPORT, dir_okay=False), help="The file to write.")
@processor_options
def export(network: NetworkOptions, dataset: DataOptions, format: str, out: str, setup: Setup, as_json: bool) -> None:
    """Write a network as a file that runs without robustprune, once it computes the same.

    It takes any number of float32 images in [0, 1], (N, C, H, W), and returns logits; normalization is inside.
    """
    from robustprune.cli.workbench import open_network
    from robustprune.tickets.export import export_model

    setup.begin()
    ticket = open_network(network, dataset, seed=setup.seed)
    found = export_model(ticket, out, format)
    if as_json:
        terminal.print_json({"model": network.model, **found.to_dict()})
        return
    rows = [
        ["input", found.metadata["input"]],
        ["output", f"logits (N, {found.metadata['classes']})"],
        ["size", f"{found.bytes / 1e6:,.2f} MB"],
        ["compared with the ticket", f"logits within {found.largest_difference:.1g} of the largest"],
    ]
    notes = "\n".join([*terminal.pruning_notes(ticket), f"written to {out}"])
    terminal.table(f"{network.model} as {format}", ["", ""], rows, notes)
