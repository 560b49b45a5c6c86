"""Tickets cut out of a network: without whole blocks, for real, or with single weights masked, which saves nothing."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from robustprune.data import ImageData
from robustprune.errors import PruningWarning
from robustprune.models import copy_network
from robustprune.pruning import (
    BlockScores,
    Eligibility,
    Masks,
    apply_masks,
    check_eligibility,
    choose_blocks,
    eligible_blocks,
    find_blocks,
    find_masks,
    make_criterion,
    maskable_weights,
    remove_blocks,
)
from robustprune.pruning.surgery import idle_parameters
from robustprune.runtime.environment import describe_environment
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
    within = tuple(f"{name}." for name in removed)
    plan = Plan(
        method="layer",
        removed={**source.plan.removed, **removed},
        removed_filters={
            name: gone for name, gone in source.plan.removed_filters.items() if not name.startswith(within)
        },
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


def cut_out(
    source: Ticket,
    network: nn.Module,
    plan: Plan,
    data: ImageData | None,
    *,
    scores: Mapping[str, float | list[float]],
    masks: Masks,
) -> Ticket:
    """Return the untrained ticket that a network cut out of another one is.

    Warns:
        PruningWarning: Some of its parameters take no part in what it computes, so shares of parameters are of more
            than runs.
    """
    parameters = dict(network.named_parameters())
    if idle := idle_parameters(network, parameters):
        count, total = (sum(parameters[name].numel() for name in names) for names in (idle, parameters))
        warnings.warn(
            f"{count:,} of the network's {total:,} parameters take no part in what it computes, {idle[0]} among them: "
            "they are counted, but cost no multiply-accumulates",
            PruningWarning,
            stacklevel=3,
        )
    return Ticket(
        network=network,
        architecture=source.architecture,
        plan=plan,
        masks=masks,
        scores=dict(scores),
        seed=source.seed,
        earlier_training=[*source.earlier_training, *([source.training] if source.training else [])],
        data=source.data if source.data or data is None else dict(data.spec),
        provenance=describe_environment(),
    )


def rounds_of(plan: Plan) -> tuple[Plan, ...]:
    """Return the plans of all rounds up to this one, each without those before it."""
    return () if plan.method == "none" else (*plan.earlier, plan.model_copy(update={"earlier": ()}))
