"""`robustprune prune`: rank, remove or mask, write the ticket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    DataOptions,
    KeyValue,
    NetworkOptions,
    Setup,
    dataset_options,
    gathered,
    network_options,
    setup_options,
    was_given,
)
from robustprune.cli.paths import Source, Target
from robustprune.cli.prune_methods import DRAW, PRUNE, filter_figures, mask_figures
from robustprune.runtime.kinds import TICKET

if TYPE_CHECKING:
    from robustprune.tickets.ticket import Ticket

# The options of each method, of which one of the first group is required.
_OPTIONS = {
    "layer": (("blocks",), ("eligibility",)),
    "filter": (("match", "filters"), ("match_by", "variant")),
    "weight": (("sparsity",), ("rounds",)),
}
# What lotteries and sweeps call filters with --variant uniform.
_UNIFORM = "filter-uniform"


@dataclass(frozen=True)
class _Wanted:
    """What of a network is to go, and by which ranking; None is not given."""

    method: str
    criterion: str
    criterion_option: tuple[tuple[str, Any], ...]
    on: str | None
    blocks: int | None
    eligibility: str | None
    match: str | None
    filters: int | None
    match_by: str | None
    variant: str | None
    sparsity: float | None
    rounds: int | None

    @property
    def way(self) -> str:
        """The method, without how its filters are chosen."""
        return "filter" if self.method == _UNIFORM else self.method

    def given(self) -> dict[str, Any]:
        """Return the options of the method that were given; refuse those of another, and that its own is missing."""
        own = vars(self) | {"variant": self._variant()}
        owners = {name: owner for owner, names in _OPTIONS.items() for name in (*names[0], *names[1])}
        found = {name: own[name] for name in owners if own[name] is not None}
        for name in found:
            if owners[name] != self.way:
                flag = name.replace("_", "-")
                raise click.UsageError(f"--{flag} belongs to --method {owners[name]}, not to --method {self.way}")
        required, _ = _OPTIONS[self.way]
        if not found.keys() & set(required):
            flags = " or ".join(f"'--{name}'" for name in required)
            raise click.UsageError(f"Missing option {flags}, which --method {self.way} needs.")
        if "filters" in found and ("match" in found or "match_by" in found):
            raise click.UsageError(
                "--filters says how many go, --match and --match-by leave that to a ticket; give one"
            )
        return found

    def _variant(self) -> str | None:
        if self.method != _UNIFORM:
            return self.variant
        if self.variant not in (None, "uniform"):
            raise click.UsageError(f"--variant {self.variant} contradicts --method {_UNIFORM}; give one of them")
        return "uniform"

    def scoring(self) -> dict[str, Any]:
        """Return the options of the criterion."""
        options = dict(self.criterion_option)
        if self.on is not None and options.setdefault("on", self.on) != self.on:
            raise click.UsageError(
                f"--on {self.on} contradicts --criterion-option on={options['on']}; give one of them"
            )
        return options


prune_options = gathered(
    "wanted",
    _Wanted,
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
)


@commands.command()
@network_options
@dataset_options
@prune_options
@click.option("--out", type=Target(TICKET, dir_okay=False), required=True, help="File of the ticket.")
@setup_options
def prune(
    network: NetworkOptions, dataset: DataOptions, wanted: _Wanted, out: str, setup: Setup, as_json: bool
) -> None:
    """Score the blocks, filters or weights of a network, remove or mask the least important, write the ticket.

    With --match, the network starts from the weights that the ticket started from; data set, options of the model and
    --seed are the ticket's where they are not given.
    """
    from robustprune.cli.workbench import open_model, open_twin
    from robustprune.cost import measure_cost
    from robustprune.tickets.ticket import load_ticket

    method, criterion, how, scoring = wanted.way, wanted.criterion, wanted.given(), wanted.scoring()
    device = setup.begin()
    if "match" in how:
        how["match"] = match = load_ticket(how["match"], model_code=network.code)
        dense, data = open_twin(match, network, dataset, seed=setup.seed if was_given("seed") else None)
        seed = setup.seed if was_given("seed") else _scoring_seed(match)
    else:
        (dense, data), seed = open_model(network, dataset, seed=setup.seed), setup.seed
    dense.check_fits(data)
    dense.network.to(device)
    ticket = PRUNE[method](dense, data, criterion, how, {**scoring, "seed": seed})
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
    terminal.cost_table(after, before, ("before", "after"), "\n".join([caption, *terminal.pruning_notes(ticket)]))


def _scoring_seed(match: Ticket) -> int:
    """Return the seed that a ticket was scored with."""
    return match.seed if match.plan.seed is None else match.plan.seed
