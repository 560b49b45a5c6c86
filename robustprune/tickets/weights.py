"""Single weights: those that are worth least are masked, which saves no computation."""

from __future__ import annotations

import time
from typing import Any

from torch import nn

from robustprune.data import ImageData
from robustprune.models import copy_network
from robustprune.pruning import apply_masks, find_masks, make_criterion
from robustprune.tickets.cutting import cut_out, rounds_of
from robustprune.tickets.header import Plan
from robustprune.tickets.ticket import Ticket


def prune_weights(
    model: nn.Module | Ticket,
    data: ImageData,
    criterion: str,
    *,
    sparsity: float,
    rounds: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Ticket:
    """Mask the least important single weights of a network and return the ticket, as large and as slow as before.

    The ranking is global, over the weights of all convolutions and linear layers; in several rounds the masked
    network is scored anew, which is why this takes a criterion where :func:`robustprune.prune_layers` takes scores.

    Args:
        model: A network, or a ticket (whose data set and seed are kept); left as it was.
        data: The image set; criteria sample its un-augmented training split.
        criterion: ``magnitude``, ``snip``, ``grasp``, ``synflow``, ``random`` or another that scores weights.
        sparsity: The share of all weights that is masked, within (0, 1).
        rounds: How many; by default 100 for ``synflow``, else 1. The density falls exponentially.
        seed: Decides the criterion's sample.
        options: The criterion's options.

    Raises:
        PruningError: A sparsity that cannot be, or a criterion that does not score weights.
    """
    source = model if isinstance(model, Ticket) else Ticket.from_model(model, data)
    chosen = make_criterion(criterion, **options)
    rounds = chosen.weight_rounds if rounds is None else rounds
    start = time.perf_counter()
    masks = find_masks(
        source.network, data, criterion, sparsity=sparsity, rounds=rounds, seed=seed, masks=source.masks, **options
    )
    seconds = time.perf_counter() - start
    network = copy_network(source.network)
    apply_masks(network, masks)
    plan = Plan(
        method="weight",
        removed=source.plan.removed,
        removed_filters=source.plan.removed_filters,
        sparsity=sparsity,
        rounds=rounds,
        criterion=criterion,
        options=chosen.model_dump(),
        seed=seed,
        scoring_seconds=seconds,
        earlier=rounds_of(source.plan),
    )
    return cut_out(source, network, plan, data, scores={}, masks=masks)
