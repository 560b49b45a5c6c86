"""`robustprune ablate`: where a ticket's accuracy comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.compare import read_tolerances, tolerance_option
from robustprune.cli.lottery import CRITERION_OPTIONS, find_tickets, lottery_out, over_seeds, seeds_option
from robustprune.cli.options import (
    DataOptions,
    NetworkOptions,
    Setup,
    gathered,
    new_dataset_options,
    new_network_options,
    setup_options,
)
from robustprune.cli.recipe_options import country_options, recipe_options

if TYPE_CHECKING:
    from robustprune.lottery import AblationVerdicts
    from robustprune.tickets.requests import Pruning
    from robustprune.training import Recipe

_LEGEND = """\
Accuracy in percent, mean over the seeds; differences in pp, paired by seed.
p: Holm's correction for all rows of all tables; verdicts are not corrected."""


@commands.command(examples=["--model resnet20 --dataset digits --criterion grasp --blocks 2 --seeds 10 --out ablation"])
@new_network_options
@new_dataset_options
@gathered("tickets", find_tickets, *CRITERION_OPTIONS, panel="Pruning")
@recipe_options()
@country_options
@seeds_option
@lottery_out
@tolerance_option
@setup_options
def ablate(
    network: NetworkOptions,
    dataset: DataOptions,
    tickets: list[Pruning],
    recipe: Recipe,
    country: str | None,
    seeds: int,
    out: str,
    tolerance: tuple[str, ...],
    setup: Setup,
    as_json: bool,
) -> None:
    """Compare the tickets of a criterion with random, inverted, shuffled and re-initialized controls.

    Controls: random per stage (random blocks, as many in each stage as the criterion removes); random (random blocks
    anywhere); inverted (the blocks of the highest scores); shuffled (the ticket, its initial weights shuffled within
    each tensor of its blocks); re-initialized (the ticket with new initial weights).
    """
    from robustprune.lottery import ablate

    if network.is_ticket:
        raise click.UsageError("an ablation begins with fresh weights: --model takes a name, not a ticket")
    xi = read_tolerances(tolerance)
    asked = {"folder": out, "tickets": tickets, "recipe": recipe, "country": country}
    found = over_seeds(ablate, network, dataset, setup, seeds, **asked).judge(xi)
    if as_json:
        terminal.print_json({**found.to_dict(), "out": out})
    else:
        _draw(found, out)


def _draw(found: AblationVerdicts, out: str) -> None:
    results = found.results
    n = next(iter(results.records["dense"].values())).n
    for ticket in results.tickets:
        for sentence in found.sentences(ticket):
            terminal.paragraph(sentence)
        legend = [_LEGEND, f"ξ: {found.comparison.tolerance_text}.", *found.notes(ticket)]
        terminal.table(found.title(ticket), *found.table(ticket), "\n".join(legend))
    for limitation in found.limitations:
        terminal.say(f"Limitation: {limitation}")
    terminal.say(
        f"{results.model} on {results.dataset}: {n} test images, {results.epochs} epochs. Tickets and records in {out}"
    )
