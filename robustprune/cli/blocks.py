"""`robustprune blocks`: which blocks of a network can go."""

from __future__ import annotations

from typing import Any

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    data_options,
    eligibility_option,
    model_options,
    open_named_network,
    processor_options,
)


@commands.command()
@model_options
@data_options
@eligibility_option
@processor_options
def blocks(eligibility: str, as_json: bool, **options: Any) -> None:
    """Show the residual blocks of a network and which of them can go."""
    from robustprune.cost import measure_block_macs, measure_cost
    from robustprune.pruning import check_eligibility, find_blocks, ineligible_because, removable_together

    rule = check_eligibility(eligibility)
    ticket = open_named_network(options)
    found = find_blocks(ticket.network)
    macs, total = measure_block_macs(ticket.network, found), measure_cost(ticket.network).macs
    rows = [
        {
            "name": block.name,
            "stage": block.stage + 1,
            "position": block.position + 1,
            "parameters": block.parameters,
            "macs": macs[block.name],
            "macs_percent": 100 * macs[block.name] / total,
            "eligible": ineligible_because(block, found, rule) is None,
            "reason": ineligible_because(block, found, rule),
        }
        for block in found
    ]
    most = removable_together(found, rule)
    if as_json:
        terminal.print_json(
            {"model": options["model"], "eligibility": rule, "removable_together": most, "blocks": rows}
        )
        return
    terminal.table(
        f"Blocks of {ticket.architecture.name}",
        ["block", ">stage", ">position", ">parameters", ">MACs", ">share", "can go"],
        [
            [
                row["name"],
                row["stage"],
                row["position"],
                f"{row['parameters']:,}",
                f"{row['macs']:,}",
                f"{row['macs_percent']:.3f} %",
                "yes" if row["eligible"] else f"no: {row['reason']}",
            ]
            for row in rows
        ],
        f"{sum(row['reason'] is None for row in rows)} of {len(rows)} blocks are eligible ({rule}); "
        f"at most {most} can go together",
    )
