"""`robustprune prune`: rank, remove or mask, write the ticket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    KeyValue,
    common_options,
    data_options,
    model_options,
    open_named,
    resolve,
    stack,
    was_given,
)
from robustprune.cli.paths import Source, Target
from robustprune.cli.prune_methods import DRAW, PRUNE, filter_figures, mask_figures
from robustprune.cli.tables import cost_table, pruning_notes
from robustprune.runtime.kinds import TICKET

if TYPE_CHECKING:
    from robustprune.data import ImageData
    from robustprune.tickets.ticket import Ticket

# The options of each method, of which one of the first group is required.
_OPTIONS = {
    "layer": (("blocks",), ("eligibility",)),
    "filter": (("match", "filters"), ("match_by", "variant")),
    "weight": (("sparsity",), ("rounds",)),
}
# What lotteries and sweeps call filters with --variant uniform.
_UNIFORM = "filter-uniform"

prune_options = stack(
    click.option(
        "--method",
        type=click.Choice([*_OPTIONS, _UNIFORM]),
        default="layer",
        show_default=True,
        help="Remove blocks, remove filters, or mask single weights, which saves no computation; filter-uniform is "
        "filter with --variant uniform.",
    ),
    click.option("--criterion", default="grasp", show_default=True, help="See `robustprune list criteria`."),
    click.option(
        "--criterion-option",
        type=KeyValue("model", "data", "layers", "criterion", "seed", "sparsity", "rounds"),
        multiple=True,
        help="E.g. bn_mode=batch.",
    ),
    click.option(
        "--on",
        type=click.Choice(["clean", "adversarial"]),
        help="Images snip and grasp are computed on; adversarial ones (FGSM) are experimental. [default: clean]",
    ),
    click.option("--blocks", type=click.IntRange(min=1), help="layer: how many blocks go."),
    click.option("--eligibility", help="layer: authors, strict or identity. [default: authors]"),
    click.option("--match", type=Source(), help="filter: a ticket; filters go until the costs are closest."),
    click.option("--filters", type=click.IntRange(min=1), help="filter: how many go, where nothing is matched."),
    click.option(
        "--match-by",
        type=click.Choice(["filters", "macs", "params"]),
        help="filter: the cost to match. [default: filters]",
    ),
    click.option(
        "--variant",
        type=click.Choice(["global", "uniform"]),
        help="filter: one ranking, or the same share of each convolution. [default: global]",
    ),
    click.option(
        "--sparsity",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="weight: the share of convolution and linear weights that go.",
    ),
    click.option(
        "--rounds",
        type=click.IntRange(min=1),
        help="weight: of scoring and masking. [default: 100 for synflow, else 1]",
    ),
    click.option("--out", type=Target(TICKET, dir_okay=False), required=True, help="File of the ticket."),
)


@commands.command()
@model_options
@data_options
@prune_options
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
    """Score the blocks, filters or weights of a network, remove or mask the least important, write the ticket.

    With --match, the network starts from the weights that the ticket started from; data set, options of the model and
    --seed are the ticket's where they are not given.
    """
    from robustprune.cost import measure_cost

    owned = [name for parts in _OPTIONS.values() for names in parts for name in names]
    given = {name: options.pop(name) for name in owned}
    if method == _UNIFORM:
        method, given["variant"] = "filter", _uniform(given["variant"])
    how = _options_of(method, given)
    scoring = _criterion_options(criterion_option, on)
    dense, data = _open(options, how)
    scoring |= {"seed": options["seed"]}
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
            "match_gap": ticket.plan.match.gap if ticket.plan.match else None,
            "seconds": ticket.plan.scoring_seconds,
            "out": out,
        }
        terminal.print_json(found | filter_figures(ticket) | mask_figures(ticket))
        return
    DRAW[method](ticket)
    without = f" without {', '.join(ticket.plan.removed)}" if ticket.plan.removed else ""
    caption = f"{ticket.architecture.name}{without}; ticket in {out}"
    cost_table(after, before, ("before", "after"), "\n".join([caption, *pruning_notes(ticket)]))


def _open(options: dict[str, Any], how: dict[str, Any]) -> tuple[Ticket, ImageData]:
    """Return what is to be pruned; with a ticket to match, as its twin, and the ticket in the place of its path."""
    if "match" not in how:
        return open_named(options)
    from robustprune.cli.workbench import open_twin
    from robustprune.tickets.ticket import load_ticket

    how["match"] = match = load_ticket(how["match"], model_code=options["model_code"])
    named = resolve(options)
    if not was_given("seed"):
        named["seed"] = None
        options["seed"] = match.seed if match.plan.seed is None else match.plan.seed
    return open_twin(match, **named)


def _uniform(variant: str | None) -> str:
    if variant not in (None, "uniform"):
        raise click.UsageError(f"--variant {variant} contradicts --method {_UNIFORM}; give one of them")
    return "uniform"


def _options_of(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a method that were given; refuse those of another, and that its own is missing."""
    found = {name: value for name, value in given.items() if value is not None}
    for owner, (required, more) in _OPTIONS.items():
        for name in (*required, *more):
            if owner != method and name in found:
                flag = name.replace("_", "-")
                raise click.UsageError(f"--{flag} belongs to --method {owner}, not to --method {method}")
    required, _ = _OPTIONS[method]
    if not found.keys() & set(required):
        flags = " or ".join(f"'--{name}'" for name in required)
        raise click.UsageError(f"Missing option {flags}, which --method {method} needs.")
    if "filters" in found and ("match" in found or "match_by" in found):
        raise click.UsageError("--filters says how many go, --match and --match-by leave that to a ticket; give one")
    return found


def _criterion_options(pairs: tuple[tuple[str, Any], ...], on: str | None) -> dict[str, Any]:
    options = dict(pairs)
    if on is not None and options.setdefault("on", on) != on:
        raise click.UsageError(f"--on {on} contradicts --criterion-option on={options['on']}; give one of them")
    return options
