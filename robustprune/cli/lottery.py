"""`robustprune lottery`: find tickets, rewind them, train them, compare them with the dense network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    DataOptions,
    NetworkOptions,
    Setup,
    decide_by_option,
    eligibility_option,
    gathered,
    given_criteria,
    list_option,
    names_option,
    new_dataset_options,
    new_network_options,
    read_counts,
    setup_options,
    was_given,
)
from robustprune.cli.recipe_options import country_options, recipe_options
from robustprune.cli.sweep import OUT_OF_SWEEPS, announcing

if TYPE_CHECKING:
    from robustprune.lottery import LotteryResults
    from robustprune.tickets.requests import Pruning
    from robustprune.training import Recipe

T = TypeVar("T")


def find_tickets(
    criteria: Sequence[str],
    blocks: Sequence[str],
    rewind: Sequence[str] = ("0",),
    methods: Sequence[str] = ("layer",),
    decide_by: str | None = None,
    **shared: Any,
) -> list[Pruning]:
    """Return a ticket for every combination of criterion, method, number of blocks and rewinding point."""
    from robustprune.runtime.requests import as_list
    from robustprune.tickets.requests import Pruning

    # How many go follows from rounds that say it all, unless it is said besides.
    by_rounds = shared.get("rounds") and shared.get("blocks_per_round") and not was_given("blocks")
    counts = (None,) if by_rounds else read_counts("--blocks", blocks)
    own = {"joint": {"decide_by": decide_by}} if decide_by else {}
    if own and "joint" not in as_list(methods):
        raise click.UsageError("--decide-by chooses between blocks and filters; it belongs to --method joint")
    return [
        Pruning(method, criterion=criterion, blocks=count, rewind=point, **shared, **own.get(method, {}))
        for criterion, method, count, point in product(
            given_criteria(criteria), as_list(methods), counts, as_list(rewind)
        )
    ]


CRITERION_OPTIONS = (
    names_option(
        "--criterion",
        "criteria",
        default=("grasp",),
        help="Importance criteria with their options: grasp,hrank:samples=320. See `robustprune list criteria`.",
    ),
    list_option("--blocks", metavar="NUMBER,…", default=("1",), help="Numbers of blocks to remove: 1,3,5."),
    click.option(
        "--at-init/--after-training",
        default=True,
        help="Score the dense network at initialization (the paper's algorithm 2) or after its training (algorithm 1).",
    ),
    eligibility_option,
)
"""Of commands that find tickets by criteria, for :func:`find_tickets`."""

ticket_options = gathered(
    "tickets",
    find_tickets,
    *CRITERION_OPTIONS,
    list_option(
        "--rewind",
        metavar="EPOCH,…",
        default=("0",),
        help="Weights that a ticket starts from: 0, the initial ones; random, new ones; shuffled, the initial ones in "
        "another order within each tensor; or, with --after-training, those of the dense network after this many "
        "epochs (25) or this share of its training (25%), or none: the trained ones, which are fine-tuned.",
    ),
    list_option(
        "--method",
        "methods",
        metavar="METHOD,…",
        default=("layer",),
        help="What tickets lose: blocks (layer); filters, ranked over the whole network (filter) or at the same "
        "share of "
        "each convolution (filter-uniform); in each round blocks or filters, whichever costs less (joint).",
    ),
    decide_by_option,
    click.option(
        "--match-by",
        type=click.Choice(["filters", "macs", "params"]),
        default="filters",
        help="filter, filter-uniform, joint: what is matched to the layer ticket: the number of filters, as in the "
        "paper, MACs or parameters.",
    ),
    click.option(
        "--rounds",
        type=click.IntRange(min=1),
        help="Score and remove in so many rounds; each removes the same share of --blocks, or --blocks-per-round.  "
        "[default: 1]",
    ),
    click.option(
        "--blocks-per-round",
        type=click.IntRange(min=1),
        help="Blocks to remove in each round, until --blocks are gone.",
    ),
    click.option(
        "--fine-tune-epochs",
        type=click.IntRange(min=0),
        default=0,
        help="Train what is left for so many epochs between two rounds; the ticket is then set back as --rewind says.",
    ),
    panel="Pruning",
)

seeds_option = click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    help="Number of seeds, counted from --seed. From three on, intervals cover other seeds too.",
)
lottery_out = click.option(
    "--out", type=OUT_OF_SWEEPS, required=True, help="Folder of results; what is finished there is not repeated."
)


@commands.command(
    examples=["--model resnet20 --dataset digits --criterion grasp --blocks 1,2 --seeds 3 --out lottery"],
)
@new_network_options
@new_dataset_options
@ticket_options
@recipe_options()
@country_options
@seeds_option
@lottery_out
@setup_options
def lottery(
    network: NetworkOptions,
    dataset: DataOptions,
    tickets: list[Pruning],
    recipe: Recipe,
    country: str | None,
    seeds: int,
    out: str,
    setup: Setup,
    as_json: bool,
) -> None:
    """Find tickets as Jordao et al. (2023) do, train them, and compare their accuracy with the dense network's.

    Blocks are scored at initialization, before any training (algorithm 2 there); with --after-training in the trained
    network, whose weights are then rewound (algorithm 1). The tickets in --out are files for `evaluate` to attack,
    corrupt and test for OOD detection. A second call does only what is new.
    """
    from robustprune.lottery import run_lottery

    if network.is_ticket:
        raise click.UsageError("a lottery begins with fresh weights: --model takes a name, not a ticket")
    asked = {"folder": out, "tickets": tickets, "recipe": recipe, "country": country}
    results = over_seeds(run_lottery, network, dataset, setup, seeds, **asked)
    if as_json:
        terminal.print_json({**results.to_dict(), "out": out})
    else:
        _draw(results, out)


def over_seeds(
    train: Callable[..., T], network: NetworkOptions, dataset: DataOptions, setup: Setup, seeds: int, **asked: Any
) -> T:
    """Return what comes of training networks of so many seeds: ``train`` is `run_lottery`, or takes what that takes."""
    from robustprune.cli.workbench import open_data
    from robustprune.runtime.work import Work

    device = setup.begin()
    # The same images whatever the seeds: they differ in weights and order of training.
    data = open_data(dataset)
    with terminal.progress_bar() as bar:
        return train(
            data=data,
            model=network.name,
            model_options=network.options,
            seeds=range(setup.seed, setup.seed + seeds),
            device=device,
            work=Work(progress=announcing(bar)),
            **asked,
        )


def _draw(results: LotteryResults, out: str) -> None:
    accuracies = [record.clean.accuracy for record in results.dense.values()]
    n = next(iter(results.dense.values())).n
    spread = (
        "mean and Student's 95 % interval over the seeds"
        if len(accuracies) > 1
        else f"one seed, so there is no interval; one test image more is {100 / n:.2f}"
    )
    # What the table does not say: when tickets were found, and from which weights they were trained.
    origin = "found at initialization" if results.rows[0].ticket.at_init else "found after the dense training"
    points = {row.point.label for row in results.rows}
    if len(points) == 1:
        origin += f", trained from {points.pop()}"
    columns, rows = results.table()
    terminal.table(
        f"{results.model} on {results.dataset}: accuracy of tickets less the dense network's, in percentage points",
        columns,
        rows,
        f"Tickets {origin}; {spread}. Dense: {', '.join(terminal.percent(value) for value in accuracies)} of "
        f"{n} test images after {results.epochs} epochs. Tickets and records in {out}",
    )
