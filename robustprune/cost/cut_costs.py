"""What a network costs without some of its blocks, as the networks that are left cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from robustprune.cost.counts import measure_block_macs, measure_cost
from robustprune.cost.memory import measure_memory
from robustprune.cost.timing import measure_latencies, ratio_spread
from robustprune.pruning import Block, Subset, remove_blocks
from robustprune.runtime.arrays import Array

_SECONDS = 0.5  # for which a network's latency is measured, beside the whole one's


def _of_network(name: str) -> Callable[[nn.Module, Array | None], float]:
    return lambda network, example: float(getattr(measure_cost(network, example), name))


def _of_memory(name: str) -> Callable[[nn.Module, Array | None], float]:
    return lambda network, example: float(getattr(measure_memory(network, example=example), name))


_COUNTED = {name: _of_network(name) for name in ("macs", "parameters", "filters")}
"""Each block has its share of these whatever else goes."""
_MEASURED = {f"{name}_memory": _of_memory(name) for name in ("training", "inference")}
LATENCY = "latency"
CUT_COSTS = (*_COUNTED, *_MEASURED, LATENCY)
"""Costs of a network: multiply-accumulates per image, parameters, filters; bytes of training and of inference with
batches of 128, see :class:`robustprune.cost.Memory`; milliseconds of a forward pass of one image."""


def measure_block_costs(
    network: nn.Module, blocks: Sequence[Block], cost: str, example: Array | None = None
) -> dict[str, int]:
    """Return the ``macs`` of each block for one image, or its ``parameters`` or ``filters``, by name."""
    if cost == "macs":
        return measure_block_macs(network, blocks, example)
    costs = {}
    for block in blocks:
        own = [module for name in block.modules for module in network.get_submodule(name).modules()]
        filters = (layer.out_channels for layer in own if isinstance(layer, nn.modules.conv._ConvNd))
        parameters = {weight: weight.numel() for module in own for weight in module.parameters(recurse=False)}.values()
        costs[block.name] = sum(filters if cost == "filters" else parameters)
    return costs


class CutCosts:
    """What a network costs without sets of its blocks.

    MACs, parameters and filters are those of the network less those of each block. Memory and latency do not add up:
    they are measured of the network without the whole set, once for each.

    Attributes:
        cost: Which, of :data:`CUT_COSTS`.
        whole: What the network costs with all its blocks.
        prices: Block → how much less the network costs without it alone.
    """

    def __init__(self, network: nn.Module, blocks: Sequence[Block], cost: str, example: Array | None = None) -> None:
        """Measure the network, and what each of its blocks costs."""
        self.cost, self._network, self._example = cost, network, example
        self._leaves = {block.name: block.leaves for block in blocks if block.residue is not None}
        self._known: dict[Subset, float] = {}
        self.whole = self._measure(())
        self._known[()] = self.whole
        self.prices = self._prices([block for block in blocks if block.residue is not None])

    def _prices(self, blocks: Sequence[Block]) -> dict[str, float]:
        if self.cost == "parameters":  # those of a block alone, as others may share some of them
            return {block.name: block.parameters for block in blocks}
        if self.cost in _COUNTED:
            return dict(measure_block_costs(self._network, blocks, self.cost, self._example))
        return {block.name: self.whole - self._measured((block.name,)) for block in blocks}

    def __call__(self, removed: Subset) -> float:
        """Return what the network costs without blocks, in the cost's own unit."""
        if self.cost in _COUNTED:
            return self.whole - sum(self.prices[name] for name in removed)
        return self._measured(removed)

    def _measured(self, removed: Subset) -> float:
        if removed not in self._known:
            self._known[removed] = self._measure(removed)
        return self._known[removed]

    def _measure(self, removed: Subset) -> float:
        left = self._network
        if removed:
            gone = {name: residue for block in removed for name, residue in self._leaves[block].items()}
            left = remove_blocks(left, gone, example=self._example)
        if self.cost != LATENCY:
            return ({**_COUNTED, **_MEASURED})[self.cost](left, self._example)
        return self._time(left, bool(removed))

    def _time(self, left: nn.Module, is_cut: bool) -> float:
        """Return milliseconds; of a network that is cut, by the ratio to the whole one, which runs in turn with it."""
        how: dict[str, Any] = {"seconds": _SECONDS, "example": self._example}
        if not is_cut:
            return measure_latencies([left], **how)[0].spread.median
        whole, own = measure_latencies([self._network, left], **how)
        return self.whole * ratio_spread(own.milliseconds, whole.milliseconds).median
