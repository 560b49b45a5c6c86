"""`robustprune prune`: rank, remove, write the ticket."""

from __future__ import annotations

from typing import Any

import rich_click as click

from robustprune import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    OUT_FILE,
    KeyValue,
    common_options,
    data_options,
    model_options,
    open_named,
    refuse_to_overwrite,
)
from robustprune.cli.tables import cost_table


@commands.command()
@model_options
@data_options
@click.option("--criterion", default="grasp", show_default=True, help="See `robustprune list criteria`.")
@click.option(
    "--criterion-option",
    type=KeyValue("model", "data", "criterion", "seed"),
    multiple=True,
    help="E.g. bn_mode=batch.",
)
@click.option("--blocks", "count", type=click.IntRange(min=1), required=True, help="How many blocks go.")
@click.option("--eligibility", default="authors", show_default=True, help="authors, strict or identity.")
@click.option("--out", type=OUT_FILE, required=True, help="File of the ticket.")
@common_options
def prune(
    criterion: str,
    criterion_option: tuple[tuple[str, Any], ...],
    count: int,
    eligibility: str,
    out: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Score the blocks of a network, remove the least important ones, write the ticket."""
    from robustprune.cost import measure_cost
    from robustprune.prune import prune_layers
    from robustprune.pruning import score_blocks

    refuse_to_overwrite(options["model"], out)
    dense, data = open_named(options)
    dense.check_fits(data)
    dense.network.to(options["device"])
    scores = score_blocks(dense.network, data, criterion, seed=options["seed"], **dict(criterion_option))
    ticket = prune_layers(dense, scores, blocks=count, eligibility=eligibility, data=data)  # type: ignore[arg-type]
    ticket.save(out)
    before, after = measure_cost(dense.network), measure_cost(ticket.network)
    removed = list(ticket.plan.removed)
    if as_json:
        terminal.print_json(
            {
                "method": ticket.plan.method,
                "criterion": criterion,
                "blocks": count,
                "removed": removed,
                "eligible": list(ticket.plan.eligible),
                "scores": dict(scores),
                "before": before.to_dict(),
                "after": after.to_dict(),
                "match_gap": None,
                "seconds": scores.seconds,
                "out": out,
            }
        )
        return
    rows = sorted(scores.items(), key=lambda item: item[1])
    terminal.table(
        f"{criterion} scores, least important first",
        ["block", ">importance", ""],
        [[name, f"{score:.4g}", _fate(name, removed, ticket.plan.eligible)] for name, score in rows],
    )
    cost_table(
        after, before, ("before", "after"), f"{ticket.architecture.name} without {', '.join(removed)}; ticket in {out}"
    )


def _fate(name: str, removed: list[str], eligible: tuple[str, ...]) -> str:
    if name in removed:
        return "removed"
    return "" if name in eligible else "not eligible"
