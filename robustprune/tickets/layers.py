"""Whole layers: the blocks that are worth least go, for real."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from robustprune.data import ImageData
from robustprune.pruning import (
    BlockScores,
    Eligibility,
    Masks,
    check_eligibility,
    choose_blocks,
    eligible_blocks,
    find_blocks,
    maskable_weights,
    remove_blocks,
)
from robustprune.tickets.cutting import cut_out, rounds_of
from robustprune.tickets.header import Plan
from robustprune.tickets.ticket import Ticket


def prune_layers(
    model: nn.Module | Ticket,
    scores: BlockScores,
    *,
    blocks: int,
    eligibility: Eligibility = "authors",
    data: ImageData | None = None,
) -> Ticket:
    """Remove the least important blocks of a network for real and return the ticket.

    Args:
        model: A network, or a ticket (whose data set and seed are kept).
        scores: From :func:`robustprune.score_blocks` on that network.
        blocks: How many go.
        eligibility: Which may go: ``authors``, ``strict`` or ``identity``.
        data: The image set to remember; a ticket remembers its own.

    Raises:
        PruningError: More blocks than can go, or scores that do not fit.
    """
    source = model if isinstance(model, Ticket) else Ticket.from_model(model, data)
    found = find_blocks(source.network)
    rule = check_eligibility(eligibility)
    removed = {
        block.name: block.residue for block in choose_blocks(found, scores, blocks, rule) if block.residue is not None
    }
    plan = Plan(
        method="layer",
        removed={**source.plan.removed, **removed},
        removed_filters=_outside(removed, source.plan.removed_filters),
        eligible=tuple(block.name for block in eligible_blocks(found, rule)),
        eligibility=rule,
        criterion=scores.criterion,
        options=scores.options,
        seed=scores.seed,
        scoring_seconds=scores.seconds,
        earlier=rounds_of(source.plan),
    )
    network = remove_blocks(source.network, removed)
    return cut_out(source, network, plan, data, scores=scores, masks=_masks_left(source, network))


def _masks_left(source: Ticket, network: nn.Module) -> Masks:
    """Return the masks of what is left; a weight that a removed block shared is named after another layer now."""
    if not source.masks:
        return {}
    weights = dict(source.network.named_parameters(remove_duplicate=False))
    masks = {weights[name]: mask for name, mask in source.masks.items()}
    return {name: masks[weights[name]] for name in maskable_weights(network)}


def _outside(removed: Iterable[str], filters: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the filters that are in none of the removed blocks."""
    blocks = tuple(f"{name}." for name in removed)
    return {name: indices for name, indices in filters.items() if not name.startswith(blocks)}
