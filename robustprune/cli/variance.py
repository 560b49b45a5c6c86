"""`robustprune variance`: what accuracy varies with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.attack_options import ATTACKS_OPTION, EPS_OPTION
from robustprune.cli.lottery import lottery_out
from robustprune.cli.options import (
    DataOptions,
    NetworkOptions,
    Setup,
    gathered,
    new_dataset_options,
    new_network_options,
    setup_options,
)
from robustprune.cli.recipe_options import recipe_options
from robustprune.cli.sweep import announcing

if TYPE_CHECKING:
    from robustprune.attacks.requests import Attacks
    from robustprune.lottery import VarianceSources
    from robustprune.tickets.requests import Pruning


def _counts(**given: int) -> dict[str, int]:
    return {name.removesuffix("_seeds"): count for name, count in given.items()}


def _ticket(criterion: str | None, blocks: int) -> Pruning | None:
    from robustprune.tickets.requests import Pruning

    return Pruning(criterion=criterion, blocks=blocks) if criterion else None


def _attacks(attacks: tuple[str, ...], eps: tuple[str, ...]) -> Attacks | None:
    from robustprune.attacks.requests import Attacks

    return Attacks(attacks, **({"epsilons": eps} if eps else {})) if attacks else None


def _count(flag: str, text: str) -> Callable[[Any], Any]:
    return click.option(flag, type=click.IntRange(min=1), default=5, help=text)


_ticket_options = gathered(
    "ticket",
    _ticket,
    click.option(
        "--criterion", help="Criterion whose layer tickets are trained.  [default: none, train dense networks]"
    ),
    click.option(
        "--blocks", type=click.IntRange(min=1), default=1, help="With --criterion: number of blocks to remove."
    ),
    panel="Pruning",
)
_count_options = gathered(
    "counts",
    _counts,
    _count("--initialization-seeds", "Number of seeds of the initial weights; 1 keeps them fixed."),
    _count("--order-seeds", "Number of seeds of the order of training images."),
    _count("--split-seeds", "Number of seeds of the validation split."),
    _count("--attack-seeds", "Number of seeds of the random starts of attacks."),
    panel="Sources of variance",
)


@commands.command(
    examples=["--model resnet20 --dataset digits --attack pgd --out variance"],
)
@new_network_options
@new_dataset_options
@_ticket_options
@recipe_options()
@_count_options
@gathered("attacks", _attacks, ATTACKS_OPTION, EPS_OPTION, panel="Attacks")
@lottery_out
@setup_options
def variance(
    network: NetworkOptions, dataset: DataOptions, out: str, setup: Setup, as_json: bool, **asked: Any
) -> None:
    """Measure how accuracy varies with initial weights, order of training images, validation split and attack starts.

    For each of these sources, networks are trained that differ in it alone; further ones differ in all of them.
    """
    from robustprune.lottery import find_variance
    from robustprune.runtime.work import Work
    from robustprune.sweep.settings import DataSettings

    if network.is_ticket:
        raise click.UsageError("networks are trained anew: --model takes a name, not a ticket")
    counts = {name: count for name, count in asked.pop("counts").items() if asked["attacks"] or name != "attack"}
    data = DataSettings(**{"name": dataset.name or "digits", **dataset.given})
    device = setup.begin()
    with terminal.progress_bar() as bar:
        found = find_variance(
            out,
            data,
            model=network.name,
            model_options=network.options,
            seeds={name: range(setup.seed, setup.seed + count) for name, count in counts.items()},
            device=device,
            work=Work(progress=announcing(bar)),
            **asked,
        )
    if as_json:
        terminal.print_json({**found.to_dict(), "out": out})
    else:
        _draw(found, out)


def _draw(found: VarianceSources, out: str) -> None:
    for figure in found.figures:
        terminal.paragraph(found.sentence(figure))
        note = f"Standard deviations in percentage points, on the same test images. Networks and records in {out}"
        terminal.table(f"{figure}, {found.model} on {found.dataset}", *found.table(figure), note)
    for warning in found.warnings:
        terminal.say(f"Warning: {warning}")
