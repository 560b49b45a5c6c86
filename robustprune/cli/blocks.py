"""`robustprune blocks`: which blocks of a network can go."""

from __future__ import annotations

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    DataOptions,
    NetworkOptions,
    Setup,
    dataset_options,
    eligibility_option,
    network_options,
    processor_options,
)


@commands.command()
@network_options
@dataset_options
@eligibility_option
@processor_options
def blocks(network: NetworkOptions, dataset: DataOptions, eligibility: str, setup: Setup, as_json: bool) -> None:
    """Show the residual blocks of a network and which of them can go."""
    from robustprune.cli.workbench import open_network
    from robustprune.cost import measure_block_macs, measure_cost
    from robustprune.pruning import check_eligibility, find_blocks, ineligible_because, removable_together

    rule = check_eligibility(eligibility)
    setup.begin()
    ticket = open_network(network, dataset, seed=setup.seed)
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
        terminal.print_json({"model": network.model, "eligibility": rule, "removable_together": most, "blocks": rows})
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
