"""Filter tickets: the least important filters go, for real, until a network costs what another ticket does."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from torch import nn

from robustprune.cost import measure_block_costs, measure_cost
from robustprune.data import AnyData, as_data
from robustprune.errors import PruningError, PruningWarning
from robustprune.pruning import (
    Block,
    FilterScores,
    FilterVariant,
    find_blocks,
    remove_filters,
)
from robustprune.pruning.choice import check_filter_scores, filter_counts, filter_walk, least_important
from robustprune.tickets.cutting import derive_ticket, source_of
from robustprune.tickets.header import Match, MatchBy, Plan
from robustprune.tickets.ticket import Ticket

_COSTS: dict[MatchBy, str] = {"filters": "filters", "macs": "macs", "params": "parameters"}


def prune_filters(
    model: nn.Module | Ticket,
    scores: FilterScores,
    *,
    match: Ticket | None = None,
    match_by: MatchBy = "filters",
    filters: int | None = None,
    variant: FilterVariant = "global",
    data: AnyData | None = None,
) -> Ticket:
    """Remove the least important filters of a network for real: the baseline to a ticket without layers.

    Args:
        model: A network, or a ticket (whose data set and seed are kept).
        scores: From :func:`robustprune.score_filters` on that network and its
            :func:`~robustprune.pruning.prunable_convolutions`; what has no scores stays.
        match: The ticket to come close to. The plan records how close; a warning says so where that is not close.
        match_by: What has to be close: ``filters`` over all convolutions, ``macs`` or ``params``.
        filters: How many of the scored filters go, where nothing is matched.
        variant: ``global``, one ranking over all convolutions; or ``uniform``, the same share of each.
        data: The image set to remember; a ticket remembers its own.

    Raises:
        PruningError: Masked weights, both or neither of ``match`` and ``filters``, scores that do not fit, more filters
            than can go, or a ticket to match that is of another architecture or no smaller.
    """
    data = None if data is None else as_data(data, "train")
    source = source_of(model, data, scores.architecture)
    blocks = find_blocks(source.network)
    check_filter_scores(source.network, blocks, scores)
    if match is not None and filters is None:
        ours, theirs = match.architecture.model_dump(), source.architecture.model_dump()
        if ours != theirs:
            what = ", ".join(f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name])
            raise PruningError(f"the ticket to match and the network are not cut from the same one: {what}")
        steps = list(filter_walk(scores, variant))
        counts = _closest(source.network, blocks, steps, _cost_by(match.network, match_by), match_by)
    elif filters is not None and match is None:
        counts = filter_counts(scores, variant, filters)
    else:
        raise PruningError("say either which ticket to match or how many filters go")
    removed = least_important(scores, counts)
    network = remove_filters(source.network, removed, blocks=blocks)
    exhausted = all(counts[name] == len(values) - 1 for name, values in scores.items())
    plan = Plan(
        method="filter",
        unit=source.plan.unit,
        removed=source.plan.removed,
        removed_parts=source.plan.removed_parts,
        replaced=source.plan.replaced,
        removed_filters=_with_dense_numbers(source, removed),
        eligible=tuple(scores),
        criterion=scores.criterion,
        options=scores.options,
        seed=scores.seed,
        scoring_seconds=scores.seconds,
        variant=variant,
        match=_describe_match(network, match, match_by, exhausted=exhausted) if match is not None else None,
    )
    listed = {name: values.tolist() for name, values in scores.items()}
    return derive_ticket(source, network, plan, data, scores=listed)


def _with_dense_numbers(source: Ticket, removed: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Return all filters that are gone, earlier rounds' and ``removed``, in the dense network's numbering."""
    gone = dict(source.plan.removed_filters)
    for name, indices in removed.items():
        earlier = gone.get(name, ())
        filters = len(source.network.get_parameter(f"{name}.weight")) + len(earlier)
        left = [index for index in range(filters) if index not in earlier]
        gone[name] = tuple(sorted([*earlier, *(left[index] for index in indices)]))
    return gone


def _cost_by(network: nn.Module, by: MatchBy) -> int:
    """Return a network's filters over all convolutions, multiply-accumulates per image, or parameters."""
    if by not in _COSTS:
        raise PruningError(f"tickets cannot be matched by {by!r}; choose one of {', '.join(_COSTS)}")
    return measure_cost(network).to_dict()[_COSTS[by]]


def _closest(
    network: nn.Module, blocks: Sequence[Block], steps: Sequence[Mapping[str, int]], target: int, by: MatchBy
) -> Mapping[str, int]:
    """Return the step of a walk at which the network costs nearest to ``target``; of two as near the earlier one.

    A step is convolution → how many of its filters go; at most one convolution of a block.
    """
    full = _cost_by(network, by)
    if target >= full:
        raise PruningError(
            f"the network has {full:,} {by} and the ticket to match {target:,}; there is nothing to remove"
        )
    if not steps:
        raise PruningError("none of the network's convolutions has a filter to spare")
    prices = _prices(network, blocks, list(steps[0]), by)
    return min(steps, key=lambda counts: abs(full - target - sum(prices[name] * counts[name] for name in counts)))


def _describe_match(network: nn.Module, ticket: Ticket, by: MatchBy, *, exhausted: bool) -> Match:
    """Return how close a network came to a ticket; warn where its filter count, or all it had to give, fell short."""
    target, reached = _cost_by(ticket.network, by), _cost_by(network, by)
    gap = reached - target
    if (by == "filters" and gap) or (exhausted and gap > 0):
        warnings.warn(
            f"the ticket to match has {target:,} {by} and the closest that removing filters can come to is "
            f"{reached:,}, {abs(gap):,} {'more' if gap > 0 else 'fewer'}; the ticket records this as its match's gap",
            PruningWarning,
            stacklevel=3,
        )
    return Match(
        by=by, target=target, reached=reached, gap=gap, sha256=ticket.sha256, removed=tuple(ticket.plan.removed)
    )


def _prices(network: nn.Module, blocks: Sequence[Block], convolutions: Sequence[str], by: MatchBy) -> dict[str, int]:
    """Return what one filter of each convolution costs, with all that goes with it.

    Each layer of a block loses channels on one side only, so every filter of a convolution costs the same: one
    network without one filter of each tells the price of all.
    """
    modules = dict(network.named_modules())
    spare = [name for name in convolutions if modules[name].out_channels > 1]
    before = measure_block_costs(network, blocks, _COSTS[by])
    fewer = remove_filters(network, {name: [0] for name in spare}, blocks=blocks)
    after = measure_block_costs(fewer, blocks, _COSTS[by])
    prices = dict.fromkeys(convolutions, 0)
    for name in spare:
        home = next(block for block in before if name.startswith(f"{block}."))
        prices[name] = before[home] - after[home]
    return prices
