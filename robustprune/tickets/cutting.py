"""Tickets cut out of a network: without whole blocks, for real, or with single weights masked, which saves nothing."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from robustprune.data import AnyData, ImageData, as_data
from robustprune.errors import PruningError
from robustprune.models import Architecture, copy_network
from robustprune.pruning import (
    BlockScores,
    Choice,
    Eligibility,
    Masks,
    TicketScores,
    Unit,
    apply_masks,
    check_eligibility,
    check_unit,
    choose_blocks,
    eligible_blocks,
    find_blocks,
    find_masks,
    make_criterion,
    named_blocks,
    named_criterion,
    remove_blocks,
    spell_search,
)
from robustprune.pruning.scoring import settle_options
from robustprune.runtime.devices import Device
from robustprune.runtime.environment import describe_environment
from robustprune.runtime.work import Work
from robustprune.tickets.budgeted import choose_within, read_cut_budget
from robustprune.tickets.header import Plan
from robustprune.tickets.ticket import Ticket


def prune_layers(
    model: nn.Module | Ticket,
    scores: BlockScores | TicketScores | None = None,
    *,
    blocks: int | Collection[str] | None = None,
    budget: str | None = None,
    search: str = "greedy",
    eligibility: Eligibility = "paper",
    choice: Choice = "lowest",
    unit: Unit | None = None,
    data: AnyData | None = None,
) -> Ticket:
    """Remove the least important blocks of a network for real, or those that are named, and return the ticket.

    ``prune_layers(model, scores, blocks=4)``, ``prune_layers(model, blocks=["layer1.1"])``, or
    ``prune_layers(model, scores, budget="macs<=60%", search="beam:width=16")``.

    Args:
        model: A network, left as it is, or a ticket (whose data set and seed are kept).
        scores: From :func:`robustprune.score_blocks` on that network; None where blocks are named. With a budget also
            from :func:`robustprune.score_tickets`.
        blocks: How many go; or the names of those that do, which may be any that :func:`robustprune.find_blocks` finds
            removable.
        budget: In place of ``blocks``, what the ticket may cost at most: ``macs<=60%`` of the network's,
            ``parameters<=200000``; also ``filters``, ``training_memory`` and ``inference_memory`` (bytes, with batches
            of 128), or ``latency`` (ms for one image, measured on this machine's processor or where the network is).
        search: With a budget, which blocks go. ``greedy``: those of the lowest scores, until the budget is met.
            ``beam``, ``evolution``, ``exhaustive``: of the sets that can go together and meet it, that whose summed
            scores are lowest, or whose ticket scores highest, as far as the search comes upon it.
        eligibility: Which may go, of those that are ranked: ``paper``, ``strict`` or ``identity``.
        choice: ``lowest``, or a control: ``highest``, the most important ones; ``random-per-stage``, as many of each
            stage as ``lowest`` takes, at random by the scores' seed.
        unit: What named blocks are: ``block``, the default, or ``attention`` or ``mlp``, branches of such. Scores know
            what was scored.
        data: The image set to remember; a ticket remembers its own.

    Raises:
        PruningError: More blocks than can go, a name of none that can, scores that do not fit, or a budget that is met
            anyway, or cannot be.
    """
    data = None if data is None else as_data(data, "train")
    if scores is not None and unit not in (None, scores.unit):
        raise PruningError(f"the scores are of the unit {scores.unit!r}, not {unit!r}; score the unit that is to go")
    unit = check_unit((unit or "block") if scores is None else scores.unit)
    source = source_of(model, data, None if scores is None else scores.architecture)
    found = find_blocks(source.network, unit=unit)
    ranked: dict[str, Any] = {}
    rule = check_eligibility(eligibility)
    if budget is not None and blocks is None and scores is not None:
        how: dict[str, Any] = {"search": search, "eligibility": rule, "choice": choice}
        chosen = choose_within(source.network, found, scores, budget, **how)
        ranked = {"budget": str(read_cut_budget(budget)), "search": spell_search(search)}
        ranked |= {"objective": "ticket" if isinstance(scores, TicketScores) else "blocks"}
    elif isinstance(blocks, int) and budget is None and isinstance(scores, BlockScores):
        chosen = choose_blocks(found, scores, blocks, rule, choice=choice, seed=scores.seed)
    elif blocks is not None and not isinstance(blocks, int) and budget is None and scores is None:
        rule, chosen = "identity", named_blocks(found, blocks)
    else:
        raise PruningError(
            "blocks go by a number and their scores, by a budget and scores, or by their names and no scores: "
            "prune_layers(model, scores, blocks=4), prune_layers(model, scores, budget='macs<=60%'), or "
            "prune_layers(model, blocks=['layer1.1'])"
        )
    if scores is not None:
        ranked |= {name: getattr(scores, name) for name in ("criterion", "options", "seed")}
        ranked |= {"choice": choice, "scoring_seconds": scores.seconds}
    removed = {name: residue for block in chosen for name, residue in block.leaves.items()}
    within, own = tuple(f"{name}." for name in removed), {block.name for block in chosen}
    before = source.plan.model_copy(
        update={
            name: {part: gone for part, gone in getattr(source.plan, name).items() if not part.startswith(within)}
            for name in ("removed", "removed_parts", "replaced", "removed_filters")
        }
    )
    plan = Plan(
        method="layer",
        unit=unit,
        removed={**before.removed, **{name: residue for name, residue in removed.items() if name in own}},
        removed_parts={**before.removed_parts, **{name: gone for name, gone in removed.items() if name not in own}},
        replaced=before.replaced,
        removed_filters=before.removed_filters,
        eligible=tuple(block.name for block in eligible_blocks(found, rule)),
        eligibility=rule,
        **ranked,
    )
    kept = scores if isinstance(scores, BlockScores) else {}
    ticket = derive_ticket(source, remove_blocks(source.network, removed), plan, data, scores=kept)
    is_dense = not (source.plan.removed or source.plan.removed_filters)
    ticket.dense_blocks = source.dense_blocks or (found if is_dense or source.architecture.is_module else ())
    return ticket


def source_of(model: nn.Module | Ticket, data: ImageData | None, scored: Architecture | None = None) -> Ticket:
    """Return the ticket to cut blocks or filters out of, that of a network if need be.

    What images a module takes is known from the image set, else from the architecture that was scored.
    """
    source = model if isinstance(model, Ticket) else Ticket.from_model(model, scored if data is None else data)
    if source.masks:
        raise PruningError(
            "single weights of this ticket are masked, and its blocks and filters stay; remove those first, and then "
            "mask the weights that are left"
        )
    return source


def prune_weights(
    model: nn.Module | Ticket,
    data: AnyData,
    criterion: str,
    *,
    sparsity: float,
    rounds: int | None = None,
    seed: int = 0,
    device: Device = None,
    work: Work = Work(),
    **options: Any,
) -> Ticket:
    """Mask the least important single weights of a network and return the ticket, as large and as slow as before.

    The ranking is global, over the weights of all convolutions and linear layers; in several rounds the masked
    network is scored anew, which is why this takes a criterion where :func:`robustprune.prune_layers` takes scores.

    Args:
        model: A network, or a ticket (whose data set and seed are kept); left as it was.
        data: The image set, or training images as for :func:`robustprune.as_data`; criteria sample its un-augmented
            training split.
        criterion: ``magnitude``, ``snip``, ``grasp``, ``synflow``, ``random`` or another that scores weights.
        sparsity: The share of all weights that is masked, within (0, 1).
        rounds: How many; by default 100 for ``synflow``, else 1. The density falls exponentially.
        seed: Decides the criterion's sample.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        work: Its progress is told of batches and rounds.
        options: The criterion's options.

    Raises:
        PruningError: A sparsity that cannot be, or a criterion that does not score weights.
    """
    criterion, options = named_criterion(criterion, options)
    data = as_data(data, "train")
    source = model if isinstance(model, Ticket) else Ticket.from_model(model, data)
    rounds = make_criterion(criterion, **options).weight_rounds if rounds is None else rounds
    start = time.perf_counter()
    options = settle_options(source.network, data, criterion, options, seed)
    how: dict[str, Any] = {"rounds": rounds, "seed": seed, "device": device, "work": work, **options}
    masks = find_masks(source.network, data, criterion, sparsity=sparsity, masks=source.masks, **how)
    seconds = time.perf_counter() - start
    network = copy_network(source.network)
    apply_masks(network, masks)
    plan = Plan(
        method="weight",
        unit=source.plan.unit,
        removed=source.plan.removed,
        removed_parts=source.plan.removed_parts,
        replaced=source.plan.replaced,
        removed_filters=source.plan.removed_filters,
        sparsity=sparsity,
        rounds=rounds,
        criterion=criterion,
        options=options,
        seed=seed,
        scoring_seconds=seconds,
    )
    return derive_ticket(source, network, plan, data, scores={}, masks=masks)


def derive_ticket(
    source: Ticket,
    network: nn.Module,
    plan: Plan,
    data: ImageData | None,
    *,
    scores: Mapping[str, float | list[float]],
    masks: Masks | None = None,
) -> Ticket:
    """Return the untrained ticket that a network cut out of another one is, with the plans of all rounds before."""
    before = source.plan
    earlier = () if before.method == "none" else (*before.earlier, before.model_copy(update={"earlier": ()}))
    return Ticket(
        network=network,
        architecture=source.architecture,
        plan=plan.model_copy(update={"earlier": earlier}),
        masks=masks or {},
        scores=dict(scores),
        seed=source.seed,
        earlier_training=[*source.earlier_training, *([source.training] if source.training else [])],
        data=source.data if source.data or data is None else dict(data.spec),
        provenance=describe_environment(),
    )
