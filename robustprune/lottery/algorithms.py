"""Algorithms 1 and 2 of *When Layers Play the Lottery, all Tickets Win at Initialization* (arXiv:2301.10835).

A dense network has weights θ₀ at initialization and θᵢ after i of the n epochs of its training. A criterion gives each
of its blocks a score; the p blocks of the lowest scores are removed. What is left, a ticket, wins if it is as accurate
as the dense network once it is trained (eq. 1).

What either algorithm does stands in the stages of a sweep (:mod:`robustprune.sweep.stages`), which are named beside
each step; this page says which of them a lottery wants, and what it reads from their outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustprune.data import AnyData, as_data
from robustprune.lottery.results import LotteryResults, LotteryRow
from robustprune.lottery.runs import dense_run, describe_data, run_networks
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Work
from robustprune.tickets.requests import Pruning
from robustprune.tickets.rewinding import RewindPoint, parse_rewind_point
from robustprune.training import Recipe


def algorithm_1(criterion: str, p: int, i: int | str = 0, **further: Any) -> Pruning:
    """Ask for a ticket of the trained network: the lottery-ticket hypothesis with layers.

    1. Train the dense network from θ₀ for n epochs, keeping θᵢ of the epochs i (``dense``, ``weights``).
    2. Score each block of the trained network, θₙ, by the criterion (``score``).
    3. Remove the p blocks of the lowest scores (``prune``).
    4. Set what is kept back to θᵢ, running statistics included, and train it for the n − i epochs that are left, the
       schedule resumed at i (``train``).

    Args:
        criterion: What scores blocks.
        p: How many blocks go.
        i: Epochs of the dense training, a share of them (``"25%"``), or ``random``: new weights instead of θᵢ.
        further: Other fields of :class:`robustprune.tickets.requests.Pruning`, or options of the criterion.
    """
    return Pruning(criterion=criterion, blocks=p, at_init=False, rewind=i, **further)


def algorithm_2(criterion: str, p: int, **further: Any) -> Pruning:
    """Ask for a ticket of the initialized network, which takes no dense training to find.

    1. Score each block of the dense network at initialization, θ₀, by the criterion (``score``).
    2. Remove the p blocks of the lowest scores (``prune``).
    3. Train what is kept, from θ₀, for n epochs (``train``).

    The arguments are those of :func:`algorithm_1`.
    """
    return Pruning(criterion=criterion, blocks=p, at_init=True, **further)


def run_lottery(
    folder: str | Path,
    data: AnyData,
    tickets: Pruning | Sequence[Pruning],
    recipe: str | Recipe = "quick",
    *,
    model: str = "resnet32",
    model_options: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0,),
    device: Device = None,
    country: str | None = "USA",
    work: Work = Work(),
) -> LotteryResults:
    """Find tickets of a network, train them, and compare their test accuracy with the dense network's.

    ``run_lottery("out/", data, [algorithm_1("hrank", p=1, i=i) for i in (0, 25)], Recipe("quick", epochs=40))``.

    The dense network of a seed is trained once, for every criterion, density and rewinding point, and so is every
    ticket that several criteria find. The folder is that of a sweep: a call that was interrupted, or one that asks for
    more, does only what is missing there, and ``robustprune status``, ``query`` and ``report`` read it.

    Args:
        folder: For everything that comes out.
        data: The image set, with training and test images; the same for every seed.
        tickets: What to find, from :func:`algorithm_1` and :func:`algorithm_2`.
        recipe: How dense networks and tickets are trained.
        model: Name of a network, see :func:`robustprune.build_model`; ``file:PATH:NAME`` for one of your own, which is
            built anew for each seed, and by whoever reads the folder later.
        model_options: What its builder takes.
        seeds: Each decides initial weights, scores and order of training of a dense network and its tickets.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default on the
            processor, where networks are built.
        country: ISO 3166 code of the grid whose carbon intensity counts; None measures no energy.
        work: Its progress is told of each stage, and how much of it is done.

    Raises:
        ModelError: There is no such network.
        SweepError: A ticket cannot be: more blocks than can go, an option that its criterion does not take; or the
            folder cannot be written.
        PruningError: No seed or ticket is named, or a ticket has not what its method needs.
        TrainingError: Training diverges.
    """
    data = as_data(data, "train")
    wanted = [tickets] if isinstance(tickets, Pruning) else list(tickets)
    dense = dense_run(describe_data(data), Recipe.of(recipe), model, model_options, device, country)
    asked = _each_once(wanted, dense.recipe.epochs)
    networks = [dense.pruning, *(ticket for ticket, _ in asked)]
    reference, *found = run_networks("lottery", dense, networks, seeds, data, folder, work)
    rows = tuple(
        LotteryRow(ticket, point, reference, records) for (ticket, point), records in zip(asked, found, strict=True)
    )
    return LotteryResults(model, data.name, dense.recipe.epochs, reference, rows)


def _each_once(tickets: Sequence[Pruning], epochs: int) -> list[tuple[Pruning, RewindPoint]]:
    """Return the tickets, with the points that they are rewound to; 25% of 20 epochs and 5 are the same."""
    found: list[tuple[Pruning, RewindPoint]] = []
    for ticket in tickets:
        point = parse_rewind_point(ticket.check().rewind, epochs)
        same = ticket.model_copy(update={"rewind": point.origin})
        if (same, point) not in found:
            found.append((same, point))
    return found
