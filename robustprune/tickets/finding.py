"""Finding a ticket: what its blocks or filters are worth, which go, and where the weights of the others come from."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from robustprune.data import ImageData
from robustprune.errors import PruningError, PruningWarning
from robustprune.pruning import (
    BlockScores,
    Criterion,
    FilterScores,
    FilterVariant,
    choose_blocks,
    find_blocks,
    make_criterion,
    named_blocks,
    prunable_convolutions,
    score_blocks,
    score_filters,
)
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Work
from robustprune.tickets.cutting import prune_layers
from robustprune.tickets.matching import prune_filters
from robustprune.tickets.requests import Pruning
from robustprune.tickets.ticket import Ticket


def score(
    dense: Ticket, data: ImageData, asked: Pruning, seed: int, device: Device = None, work: Work = Work()
) -> BlockScores | FilterScores:
    """Return what the criterion finds the blocks of a network, or its filters, to be worth."""
    criterion, how = str(asked.criterion), {"seed": seed, "device": device, "work": work, **asked.options}
    if asked.method == "layer":
        return score_blocks(dense.network, data, criterion, unit=asked.unit, **how)
    layers = list(prunable_convolutions(dense.network, find_blocks(dense.network)).values())
    return score_filters(dense.network, layers, data, criterion, **how)


def cut(
    dense: Ticket, scores: BlockScores | FilterScores | None, asked: Pruning, match: Ticket | None = None
) -> Ticket:
    """Return the ticket that is asked for, with the weights of the dense network; None scores blocks that are named.

    ``match`` is the layer ticket of the same criterion and blocks, where filters go: as many as it lost.
    """
    if not isinstance(scores, FilterScores):
        how: dict[str, Any] = {"eligibility": asked.eligibility, "choice": asked.choice, "unit": asked.unit}
        return prune_layers(dense, scores, blocks=asked.blocks or 0, **how)
    variant: FilterVariant = "uniform" if asked.method == "filter-uniform" else "global"
    return prune_filters(dense, scores, match=match, match_by=asked.match_by, variant=variant)


def check_possible(network: nn.Module, asked: Pruning) -> None:
    """Find out now, not after the dense training, what cannot go."""
    criterion = make_criterion(asked.criterion, **asked.options) if asked.criterion else None
    if asked.method == "weight":
        return
    found = find_blocks(network, unit=asked.unit)
    if isinstance(asked.blocks, tuple):
        named_blocks(found, asked.blocks)
    else:
        choose_blocks(found, {block.name: 0.0 for block in found}, asked.blocks or 0, asked.eligibility)
    if asked.method == "layer" or criterion is None:
        return
    if type(criterion).filter_scores is Criterion.filter_scores:
        raise PruningError(f"{asked.criterion} does not score filters: {criterion.no_filter_scores}; cut layers")
    with warnings.catch_warnings(action="ignore", category=PruningWarning):  # said when filters are scored
        prunable_convolutions(network, found)
