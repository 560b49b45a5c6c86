"""Filters: those that are worth least go, for real, until a network costs what another ticket does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.models import copy_network
from robustprune.pruning import (
    Block,
    FilterScores,
    FilterVariant,
    Masks,
    check_filter_scores,
    filter_counts,
    filter_walk,
    find_blocks,
    least_important,
    remove_filters,
)
from robustprune.tickets.cutting import cut_out, rounds_of
from robustprune.tickets.header import MatchBy, Plan
from robustprune.tickets.match import closest, cost_by, describe_match
from robustprune.tickets.ticket import Ticket


def prune_filters(
    model: nn.Module | Ticket,
    scores: FilterScores,
    *,
    match: Ticket | None = None,
    match_by: MatchBy = "filters",
    filters: int | None = None,
    variant: FilterVariant = "global",
    data: ImageData | None = None,
) -> Ticket:
    """Remove the least important filters of a network for real: the baseline to a ticket without layers.

    Args:
        model: A network, or a ticket (whose data set and seed are kept).
        scores: From :func:`robustprune.score_filters` on that network and its
            :func:`~robustprune.pruning.first_convolutions`; what has no scores stays.
        match: The ticket to come close to. The plan records how close; a warning says so where that is not close.
        match_by: What has to be close: ``filters`` over all convolutions, ``macs`` or ``params``.
        filters: How many of the scored filters go, where nothing is matched.
        variant: ``global``, one ranking over all convolutions; or ``uniform``, the same share of each.
        data: The image set to remember; a ticket remembers its own.

    Raises:
        PruningError: Both or neither of ``match`` and ``filters``, scores that do not fit, more filters than can
            go, or a ticket to match that is of another architecture or no smaller.
    """
    source = model if isinstance(model, Ticket) else Ticket.from_model(model, data)
    blocks = find_blocks(source.network)
    check_filter_scores(source.network, blocks, scores)
    if match is not None and filters is None:
        if match.architecture != source.architecture:
            raise PruningError(
                f"the ticket to match and the network are not cut from the same one: {_differences(match, source)}"
            )
        steps = filter_walk(scores, variant)
        counts = closest(source.network, blocks, steps, cost_by(match.network, match_by), match_by)
    elif filters is not None and match is None:
        counts = filter_counts(scores, variant, filters)
    else:
        raise PruningError("say either which ticket to match or how many filters go")
    removed = least_important(scores, counts)
    network = remove_filters(source.network, removed, blocks=blocks)
    exhausted = all(counts[name] == len(values) - 1 for name, values in scores.items())
    plan = Plan(
        method="filter",
        removed=source.plan.removed,
        removed_filters=_with_dense_numbers(source, removed),
        eligible=tuple(scores),
        criterion=scores.criterion,
        options=scores.options,
        seed=scores.seed,
        scoring_seconds=scores.seconds,
        variant=variant,
        match=describe_match(network, match, match_by, exhausted=exhausted) if match is not None else None,
        earlier=rounds_of(source.plan),
    )
    listed = {name: values.tolist() for name, values in scores.items()}
    return cut_out(source, network, plan, data, scores=listed, masks=_cut_masks(source, removed, blocks))


def _cut_masks(source: Ticket, removed: Mapping[str, Sequence[int]], blocks: Sequence[Block]) -> Masks:
    """Return the masks of a ticket without the filters that go, cut as weights of its network are."""
    if not source.masks:
        return {}
    carrier = copy_network(source.network)
    with torch.no_grad():
        for name, mask in source.masks.items():
            carrier.get_parameter(name).copy_(mask)
    left = remove_filters(carrier, removed, blocks=blocks)
    return {name: left.get_parameter(name).detach().cpu() != 0 for name in source.masks}


def _with_dense_numbers(source: Ticket, removed: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Return all filters that are gone, earlier rounds' and ``removed``, in the dense network's numbering."""
    gone = dict(source.plan.removed_filters)
    for name, indices in removed.items():
        earlier = gone.get(name, ())
        filters = len(source.network.get_parameter(f"{name}.weight")) + len(earlier)
        left = [index for index in range(filters) if index not in earlier]
        gone[name] = tuple(sorted([*earlier, *(left[index] for index in indices)]))
    return gone


def _differences(first: Ticket, second: Ticket) -> str:
    ours, theirs = first.architecture.model_dump(), second.architecture.model_dump()
    return ", ".join(f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name])
