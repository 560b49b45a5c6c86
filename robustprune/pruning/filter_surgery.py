"""Real removal of filters: convolutions get narrower, and so does whatever reads them; all names stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from robustprune.errors import PruningError
from robustprune.models import copy_network
from robustprune.pruning.blocks import Block, find_blocks
from robustprune.pruning.filter_graph import FilterGraph
from robustprune.pruning.running import check_runs
from robustprune.runtime.arrays import Array


def remove_filters(
    model: nn.Module,
    removed: Mapping[str, Sequence[int]],
    *,
    blocks: Sequence[Block] | None = None,
    example: Array | None = None,
) -> nn.Module:
    """Return a copy of the model without the given filters; kept weights and buffers are carried over.

    Args:
        model: Left as it is.
        removed: Convolution → indices of its filters, in its present numbering.
        blocks: The network's blocks, if they are known: filters go only where nothing outside a block sees them.
        example: Images (N, C, H, W) to trace a network with that does not know its own image shape.

    Raises:
        PruningError: A name that is no convolution in a block, indices that are out of range, given twice or all
            there are, or channels that are coupled to more than the block.
    """
    for name, indices in removed.items():
        _check_indices(model, name, indices)
    if not any(removed.values()):
        return copy_network(model)
    known = find_blocks(model, example) if blocks is None else blocks
    graph = FilterGraph(model, example)
    for name, indices in removed.items():
        block = next((block.name for block in known if name.startswith(f"{block.name}.")), None)
        if block is None or name not in graph.convolutions:
            raise PruningError(f"filters of {name} cannot go: it is in no residual block, or nothing depends on it")
        problem = graph.obstacle(name, block, indices)
        if problem:
            raise PruningError(f"filters of {name} cannot go: {problem}")
        if indices:
            graph.cut(name, indices)
    _check_runs(model, graph.network, example)
    return graph.network


def _check_indices(model: nn.Module, name: str, indices: Sequence[int]) -> None:
    module = dict(model.named_modules()).get(name)
    if not isinstance(module, nn.modules.conv._ConvNd):
        raise PruningError(f"{name!r} is no convolution of the network, so it has no filters to remove")
    wrong = [index for index in indices if not 0 <= index < module.out_channels]
    if wrong:
        raise PruningError(f"{name} has filters 0 to {module.out_channels - 1}; there is no filter {wrong[0]}")
    if len(set(indices)) < len(indices):
        raise PruningError(f"the filters of {name} that are to go name one of them twice")
    if len(indices) == module.out_channels:
        raise PruningError(f"all {module.out_channels} filters of {name} are to go; at least one has to stay")


def _check_runs(model: nn.Module, pruned: nn.Module, example: Array | None) -> None:
    try:
        check_runs(model, pruned, example=example)
    except PruningError as error:
        raise PruningError(f"these filters cannot go: {error}") from error
