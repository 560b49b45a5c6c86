"""`robustprune cost`: what a network costs, and what it saves."""

from __future__ import annotations

from typing import Any

import rich_click as click

from robustprune import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import common_options, data_options, model_options, open_named_network
from robustprune.cli.tables import cost_table, mask_note


@commands.command()
@model_options
@data_options
@click.option("--dense", help="A ticket or model to compare with.")
@common_options
def cost(dense: str | None, as_json: bool, **options: Any) -> None:
    """Count parameters, multiply-accumulates and filters of a network."""
    from robustprune.cost import measure_cost
    from robustprune.workbench import is_ticket_path, open_counterpart

    counterpart_options = {
        "model_options": dict(options["network_options"]),
        "model_code": options["model_code"],
        "seed": options["seed"],
    }
    if dense is not None and not is_ticket_path(dense) and is_ticket_path(options["model"]):
        options["network_options"] = ()  # they are for the one that is built by name
    ticket = open_named_network(options)
    own = measure_cost(ticket.network)
    full = measure_cost(open_counterpart(dense, ticket, **counterpart_options)) if dense is not None else None
    if as_json:
        saved = {"saved_percent": own.saved_percent(full)} if full else {}
        masks = {"masks": ticket.mask_summary} if ticket.masks else {}
        terminal.print_json(
            {"model": options["model"], "dataset": ticket.data.get("name"), **own.to_dict(), **masks, **saved}
        )
        return
    cost_table(own, full, (dense or "", options["model"]), "".join(mask_note(ticket)))
