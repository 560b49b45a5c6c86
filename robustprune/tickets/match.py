"""How many filters have to go for a network to cost what a ticket costs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from robustprune.cost import measure_block_macs, measure_cost
from robustprune.errors import PruningError, PruningWarning
from robustprune.pruning import Block, remove_filters
from robustprune.tickets.header import Match, MatchBy
from robustprune.tickets.ticket import Ticket

_COSTS: dict[MatchBy, str] = {"filters": "filters", "macs": "macs", "params": "parameters"}


def cost_by(network: nn.Module, by: MatchBy) -> int:
    """Return a network's filters over all convolutions, multiply-accumulates per image, or parameters.

    Raises:
        PruningError: There is nothing of that name to match by.
    """
    if by not in _COSTS:
        raise PruningError(f"tickets cannot be matched by {by!r}; choose one of {', '.join(_COSTS)}")
    return measure_cost(network).to_dict()[_COSTS[by]]


def closest(
    network: nn.Module, blocks: Sequence[Block], steps: Iterable[Mapping[str, int]], target: int, by: MatchBy
) -> Mapping[str, int]:
    """Return the step of a walk at which the network costs nearest to ``target``; of two as near the earlier one.

    Args:
        network: A network, left as it was.
        blocks: Its blocks.
        steps: Convolution → how many of its filters go; at most one convolution of a block.
        target: The cost to come near to.
        by: Which cost.

    Raises:
        PruningError: The network costs no more than the target, or nothing of it can go.
    """
    full = cost_by(network, by)
    if target >= full:
        raise PruningError(
            f"the network has {full:,} {by} and the ticket to match {target:,}; there is nothing to remove"
        )
    steps = list(steps)
    if not steps:
        raise PruningError("none of the network's convolutions has a filter to spare")
    prices = _prices(network, blocks, list(steps[0]), by)
    return min(steps, key=lambda counts: abs(full - target - sum(prices[name] * counts[name] for name in counts)))


def describe_match(network: nn.Module, ticket: Ticket, by: MatchBy, *, exhausted: bool) -> Match:
    """Return how close a network came to a ticket, and warn where its filter count, or all it had to give, fell short.

    Args:
        network: The network without its filters.
        ticket: The ticket it was to match.
        by: What by.
        exhausted: Whether nothing more could have gone.
    """
    target, reached = cost_by(ticket.network, by), cost_by(network, by)
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
    before = _block_costs(network, blocks, by)
    after = _block_costs(remove_filters(network, {name: [0] for name in spare}, blocks=blocks), blocks, by)
    home = {name: block for name in spare for block in before if name.startswith(f"{block}.")}
    return {name: before[home[name]] - after[home[name]] if name in home else 0 for name in convolutions}


def _block_costs(network: nn.Module, blocks: Sequence[Block], by: MatchBy) -> dict[str, int]:
    if by == "macs":
        return measure_block_macs(network, blocks)
    modules = {block.name: network.get_submodule(block.name) for block in blocks}
    if by == "params":
        return {name: sum(weight.numel() for weight in block.parameters()) for name, block in modules.items()}
    return {
        name: sum(layer.out_channels for layer in block.modules() if isinstance(layer, nn.modules.conv._ConvNd))
        for name, block in modules.items()
    }
