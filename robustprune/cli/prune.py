"""`robustprune prune`: rank, remove or mask, write the ticket."""

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
from robustprune.cli.prune_methods import DRAW, PRUNE, mask_figures
from robustprune.cli.tables import cost_table, mask_note

# The options of each method; the first is required.
_OPTIONS = {"layer": ("blocks", "eligibility"), "weight": ("sparsity", "rounds")}


@commands.command()
@model_options
@data_options
@click.option(
    "--method",
    type=click.Choice(list(_OPTIONS)),
    default="layer",
    show_default=True,
    help="Remove blocks, or mask single weights, which saves no computation.",
)
@click.option("--criterion", default="grasp", show_default=True, help="See `robustprune list criteria`.")
@click.option(
    "--criterion-option",
    type=KeyValue("model", "data", "criterion", "seed", "sparsity", "rounds"),
    multiple=True,
    help="E.g. bn_mode=batch.",
)
@click.option(
    "--on",
    type=click.Choice(["clean", "adversarial"]),
    help="Images snip and grasp are computed on; adversarial ones (FGSM) are experimental. [default: clean]",
)
@click.option("--blocks", type=click.IntRange(min=1), help="layer: how many blocks go.")
@click.option("--eligibility", help="layer: authors, strict or identity. [default: authors]")
@click.option(
    "--sparsity",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="weight: the share of convolution and linear weights that go.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    help="weight: of scoring and masking. [default: 100 for synflow, else 1]",
)
@click.option("--out", type=OUT_FILE, required=True, help="File of the ticket.")
@common_options
def prune(
    method: str,
    criterion: str,
    criterion_option: tuple[tuple[str, Any], ...],
    on: str | None,
    out: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Score the blocks or weights of a network, remove or mask the least important ones, write the ticket."""
    from robustprune.cost import measure_cost

    how = _options_of(method, {name: options.pop(name) for names in _OPTIONS.values() for name in names})
    scoring = {"seed": options["seed"], **_criterion_options(criterion_option, on)}
    refuse_to_overwrite(options["model"], out)
    dense, data = open_named(options)
    dense.check_fits(data)
    dense.network.to(options["device"])
    ticket = PRUNE[method](dense, data, criterion, how, scoring)
    ticket.save(out)
    before, after = measure_cost(dense.network), measure_cost(ticket.network)
    if as_json:
        found = {
            "method": method,
            "criterion": criterion,
            "blocks": how.get("blocks"),
            "removed": list(ticket.plan.removed),
            "eligible": list(ticket.plan.eligible),
            "scores": ticket.scores,
            "before": before.to_dict(),
            "after": after.to_dict(),
            "match_gap": None,
            "seconds": ticket.plan.scoring_seconds,
            "out": out,
        }
        terminal.print_json(found | mask_figures(ticket))
        return
    DRAW[method](ticket)
    without = f" without {', '.join(ticket.plan.removed)}" if ticket.plan.removed else ""
    caption = f"{ticket.architecture.name}{without}; ticket in {out}"
    cost_table(after, before, ("before", "after"), "\n".join([caption, *mask_note(ticket)]))


def _options_of(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a method that were given; refuse those of another, and that its own is missing."""
    for owner, names in _OPTIONS.items():
        for name in names:
            if owner != method and given[name] is not None:
                raise click.UsageError(f"--{name} belongs to --method {owner}, not to --method {method}")
    required = _OPTIONS[method][0]
    if given[required] is None:
        raise click.UsageError(f"Missing option '--{required}', which --method {method} needs.")
    return {name: value for name, value in given.items() if value is not None}


def _criterion_options(pairs: tuple[tuple[str, Any], ...], on: str | None) -> dict[str, Any]:
    options = dict(pairs)
    if on is not None and options.setdefault("on", on) != on:
        raise click.UsageError(f"--on {on} contradicts --criterion-option on={options['on']}; give one of them")
    return options
