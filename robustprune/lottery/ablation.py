"""What a ticket owes to what: the checks of pruning at initialization, each a control that lacks one thing.

A ticket is compared with others that have lost as many blocks. Its criterion chose which, so the choice is put against
random ones, with as many blocks of each stage or without regard to it, and against the other end of the ranking (Su et
al. 2020, "Sanity-checking pruning methods"). It has initial weights of its own, so they are put against the same ones
in another order, and against new ones (Frankle et al. 2021, "Pruning neural networks at initialization: why are we
missing the mark?").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robustprune.comparison import DENSE
from robustprune.data import AnyData, as_data
from robustprune.errors import PruningError
from robustprune.lottery.ablation_results import AblatedTicket, AblationResults
from robustprune.lottery.runs import dense_run, describe_data, run_networks
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Work
from robustprune.tickets.requests import Pruning
from robustprune.training import Recipe

CONTROLS: Mapping[str, Mapping[str, Any]] = {
    "random per stage": {"choice": "random-per-stage"},
    "random": {"criterion": "random", "options": {}},
    "inverted": {"choice": "highest"},
    "shuffled": {"rewind": "shuffled"},
    "re-initialized": {"rewind": "random"},
}
"""Name → what a control has otherwise than the ticket, as fields of :class:`robustprune.Pruning`."""


def ablate(
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
) -> AblationResults:
    """Train tickets, the controls of each, and the dense network, to find out where the tickets' accuracy comes from.

    ``ablate("out/", data, [algorithm_2("grasp", p=2), algorithm_2("snip", p=2)], seeds=range(10)).judge()``.

    Controls that tickets share are trained once, and so are networks that turn out to be the same. The folder is that
    of a sweep, as for :func:`robustprune.run_lottery`, whose the other arguments and errors are.

    Args:
        folder: For everything that comes out.
        data: The image set, with training and test images; the same for every seed.
        tickets: What to ablate: tickets without blocks, with their initial weights.
        recipe: How all networks are trained.
        model: Name of a network.
        model_options: What its builder takes.
        seeds: Each decides initial weights, scores, random choices and order of training.
        device: Where to compute; by default on the processor, where networks are built.
        country: ISO 3166 code of the grid whose carbon intensity counts; None measures no energy.
        work: Its progress is told of each stage.

    Raises:
        PruningError: No seed or ticket is named, or a ticket that is a control itself, or no layer ticket.
    """
    data = as_data(data, "train")
    wanted = _each_once([tickets] if isinstance(tickets, Pruning) else tickets)
    for ticket in wanted:
        _check(ticket)
    dense = dense_run(describe_data(data), Recipe.of(recipe), model, model_options, device, country)
    chances = _each_once([_control(ticket, "random") for ticket in wanted])
    networks = {DENSE: dense.pruning, **_named(chances)}
    ablated = []
    for name, ticket in _named(wanted).items():
        controls = {control: _control(ticket, control) for control in CONTROLS}
        names = {control: f"{name} {control}" for control in CONTROLS}
        names["random"] = next(known for known, each in networks.items() if each == controls["random"])
        networks |= {name: ticket, **{names[control]: each for control, each in controls.items()}}
        ablated.append(AblatedTicket(name, ticket, names))
    found = run_networks("ablation", dense, list(networks.values()), seeds, data, folder, work)
    records = dict(zip(networks, found, strict=True))
    return AblationResults(model, data.name, dense.recipe.epochs, records, tuple(ablated))


def _check(ticket: Pruning) -> None:
    """Refuse what has no controls."""
    problem = None
    if ticket.check().method != "layer":
        problem = (
            f"the method is {ticket.method!r}; an ablation is one of tickets without blocks, of the method 'layer'"
        )
    elif ticket.criterion == "random":
        problem = "random choices are a control of every criterion; name another one"
    elif ticket.choice != "lowest" or str(ticket.rewind) not in ("0", "0%"):
        problem = "choice and rewind are what controls differ in; leave them out"
    elif ticket.way:
        problem = "its controls take as many blocks in one shot; leave budget, rounds and blocks_per_round out"
    if problem:
        raise PruningError(f"this ticket cannot be ablated: {problem}")


def _control(ticket: Pruning, name: str) -> Pruning:
    return ticket.model_copy(update=CONTROLS[name])


def _each_once(tickets: Sequence[Pruning]) -> list[Pruning]:
    return [ticket for place, ticket in enumerate(tickets) if ticket not in tickets[:place]]


def _named(tickets: Sequence[Pruning]) -> dict[str, Pruning]:
    """Return tickets by the shortest names that tell them apart: ``grasp``, ``grasp 2``, or all that was asked for."""

    def fully(ticket: Pruning) -> str:
        options = [f"{name}={value}" for name, value in ticket.options.items()]
        found = "at initialization" if ticket.at_init else "after training"
        return " ".join([f"{ticket.criterion} {ticket.blocks}", *options, ticket.eligibility, found])

    forms: list[Callable[[Pruning], str]] = [lambda each: str(each.criterion)]
    forms += [lambda each: f"{each.criterion} {each.blocks}", fully]
    named = ({form(ticket): ticket for ticket in tickets} for form in forms)
    return next(found for found in named if len(found) == len(tickets))
