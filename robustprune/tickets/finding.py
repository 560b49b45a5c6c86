"""Finding a ticket: what its blocks or filters are worth, which go, and where the weights of the others come from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import nn

from robustprune.data import ImageData
from robustprune.errors import PruningWarning
from robustprune.pruning import (
    BlockScores,
    FilterScores,
    choose_blocks,
    find_blocks,
    first_convolutions,
    score_blocks,
    score_filters,
)
from robustprune.tickets.cutting import prune_layers
from robustprune.tickets.draws import Draw
from robustprune.tickets.matching import prune_filters
from robustprune.tickets.rewinding import RewindPoint, reinitialize, rewind
from robustprune.tickets.ticket import Ticket


def score(dense: Ticket, data: ImageData, draw: Draw, seed: int) -> BlockScores | FilterScores:
    """Return what the criterion of a draw finds its blocks, or its filters, to be worth."""
    if draw.method == "layer":
        return score_blocks(dense.network, data, draw.criterion, seed=seed, **draw.options)
    layers = list(first_convolutions(dense.network, find_blocks(dense.network)).values())
    return score_filters(dense.network, layers, data, draw.criterion, seed=seed, **draw.options)


def cut(
    dense: Ticket,
    scores: BlockScores | FilterScores,
    draw: Draw,
    match: Ticket | None = None,
) -> Ticket:
    """Return the ticket of a draw, with the weights that it was scored with.

    Args:
        dense: What it is cut out of.
        scores: From :func:`score`.
        draw: What goes.
        match: The layer ticket of the same draw, where filters go: as many as it lost.
    """
    if isinstance(scores, BlockScores):
        return prune_layers(dense, scores, blocks=draw.blocks, eligibility=draw.eligibility)
    variant = "uniform" if draw.method == "filter-uniform" else "global"
    return prune_filters(dense, scores, match=match, match_by=draw.match_by, variant=variant)  # type: ignore[arg-type]


def set_back(found: Ticket, point: RewindPoint, dense: Ticket) -> Ticket:
    """Return a ticket with the weights that it is trained from: those of ``dense``, as it was then, or new ones."""
    return reinitialize(found) if point.random else rewind(found, dense, point.epoch)


def check_network(network: nn.Module, draws: Sequence[Draw]) -> None:
    """Find out now, not after the dense training, what can not go."""
    found = find_blocks(network)
    for draw in draws:
        choose_blocks(found, {block.name: 0.0 for block in found}, draw.blocks, draw.eligibility)
    if any(draw.method != "layer" for draw in draws):
        with warnings.catch_warnings(action="ignore", category=PruningWarning):  # said when filters are scored
            first_convolutions(network, found)
