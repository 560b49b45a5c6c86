"""Finding a ticket: what its blocks or filters are worth, which go, and where the weights of the others come from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from robustprune.cost.cut_costs import LATENCY
from robustprune.data import ImageData
from robustprune.errors import PruningError, PruningWarning
from robustprune.pruning import (
    Block,
    BlockScores,
    Criterion,
    FilterScores,
    FilterVariant,
    TicketScores,
    choose_blocks,
    find_blocks,
    make_criterion,
    named_blocks,
    prunable_convolutions,
    score_blocks,
    score_filters,
    score_tickets,
)
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Work
from robustprune.tickets.budgeted import CutBudget, read_cut_budget
from robustprune.tickets.cutting import prune_layers
from robustprune.tickets.joint import cheaper_cut
from robustprune.tickets.matching import prune_filters
from robustprune.tickets.requests import Pruning
from robustprune.tickets.ticket import Ticket


def score(
    dense: Ticket, data: ImageData, asked: Pruning, seed: int, device: Device = None, work: Work = Work()
) -> BlockScores | TicketScores | FilterScores:
    """Return what the criterion finds the blocks of a network, its tickets, or its filters, to be worth."""
    criterion, how = str(asked.criterion), {"seed": seed, "device": device, "work": work, **asked.options}
    if asked.method == "layer":
        rank = score_blocks if asked.objective == "blocks" else score_tickets
        return rank(dense.network, data, criterion, unit=asked.unit, **how)
    layers = list(prunable_convolutions(dense.network, find_blocks(dense.network)).values())
    return score_filters(dense.network, layers, data, criterion, **how)


def cut(
    dense: Ticket,
    scores: BlockScores | TicketScores | FilterScores | None,
    asked: Pruning,
    match: Ticket | None = None,
) -> Ticket:
    """Return the ticket that is asked for, with the weights of the dense network; None scores blocks that are named.

    ``match`` is the layer ticket of the same criterion and blocks, where filters go: as many as it lost.
    """
    if not isinstance(scores, FilterScores):
        how: dict[str, Any] = {"eligibility": asked.eligibility, "choice": asked.choice, "unit": asked.unit}
        if asked.budget is not None:
            return prune_layers(dense, scores, budget=asked.budget, search=asked.search, **how)
        return prune_layers(dense, scores, blocks=asked.blocks or 0, **how)
    variant: FilterVariant = "uniform" if asked.method == "filter-uniform" else "global"
    return prune_filters(dense, scores, match=match, match_by=asked.match_by, variant=variant)


def cut_in_rounds(
    dense: Ticket, data: ImageData, asked: Pruning, seed: int, device: Device = None, work: Work = Work()
) -> Ticket:
    """Return the layer or joint ticket that is left after rounds of scoring and removing, without training between."""
    ticket = dense
    for count in asked.schedule or (asked.blocks,):
        one = asked.model_copy(update={"blocks": count, **({"method": "layer"} if asked.method == "joint" else {})})
        left = cut(ticket, score(ticket, data, one, seed, device, work), one)
        if asked.method == "joint":
            other = asked.model_copy(update={"method": "filter"})
            filters = cut(ticket, score(ticket, data, other, seed, device, work), other, left)
            how: dict[str, Any] = {"seed": seed, "device": device, "work": work}
            left = cheaper_cut(ticket, (left, filters), data, asked.decide_by, **how)
        ticket = left
    return ticket


def check_possible(network: nn.Module, asked: Pruning) -> None:
    """Find out now, not after the dense training, what cannot go."""
    criterion = make_criterion(asked.criterion, **asked.options) if asked.criterion else None
    if asked.method == "weight":
        return
    by_ticket = asked.criterion if asked.objective == "ticket" else None
    by_ticket = asked.decide_by if asked.method == "joint" else by_ticket
    kind = Criterion if by_ticket is None else type(make_criterion(by_ticket))
    if by_ticket is not None and kind.ticket_scores is Criterion.ticket_scores:
        other = "" if asked.method == "joint" else ", or the objective blocks"
        raise PruningError(
            f"{by_ticket} does not score whole tickets: {kind.no_ticket_scores}; use naswot, jacobian, true_drop, kl, "
            f"cka or a gradient criterion{other}"
        )
    found = find_blocks(network, unit=asked.unit)
    if isinstance(asked.blocks, tuple):
        named_blocks(found, asked.blocks)
    elif asked.budget is not None:
        _check_budget(network, found, asked)
    else:
        choose_blocks(found, {block.name: 0.0 for block in found}, asked.blocks or 0, asked.eligibility)
    if asked.method == "layer" or criterion is None:
        return
    if type(criterion).filter_scores is Criterion.filter_scores:
        raise PruningError(f"{asked.criterion} does not score filters: {criterion.no_filter_scores}; cut layers")
    with warnings.catch_warnings(action="ignore", category=PruningWarning):  # said when filters are scored
        prunable_convolutions(network, found)


def _check_budget(network: nn.Module, found: Sequence[Block], asked: Pruning) -> None:
    """Find out whether a budget can be met; of a latency, which it takes seconds to measure, only once it is to be."""
    budget = str(asked.budget)
    if read_cut_budget(budget).cost != LATENCY:
        CutBudget(network, found, budget, asked.eligibility)
