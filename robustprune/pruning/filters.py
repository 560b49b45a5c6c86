"""Which filters can be pruned on their own: those of the first convolution on each block's main branch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import nn

from robustprune.errors import PruningError, PruningWarning
from robustprune.pruning.blocks import Block, find_blocks
from robustprune.pruning.filter_graph import FilterGraph
from robustprune.runtime.arrays import Array


def first_convolutions(
    model: nn.Module, blocks: Sequence[Block] | None = None, example: Array | None = None
) -> dict[str, str]:
    """Return the name of each block's first convolution, by block name, where its filters can go.

    First is the one that runs first, but for convolutions on the shortcut: no layer of the block reads those. Its
    filters can go, as only the block itself sees them; the last convolution's have to match the shortcut. Blocks
    without a convolution that could be cut, such as ConvNeXt's, are left out, and a warning names them.

    Args:
        model: A network, left as it was.
        blocks: Its blocks, if they are known. Stage-first ones, which cannot go themselves, count too.
        example: Images (N, C, H, W) to trace a network with that does not know its own image shape.

    Raises:
        PruningError: No block has such a convolution.
    """
    blocks = find_blocks(model, example) if blocks is None else blocks
    graph = FilterGraph(model, example)
    found: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for block in blocks:
        inside = [name for name in graph.convolutions if name.startswith(f"{block.name}.")]
        first = next((name for name in inside if graph.is_read_within(name, block.name)), None)
        if first is None or len(inside) < 2:
            left_out[block.name] = f"of its {len(inside)} convolutions none is read by another one"
        elif problem := graph.obstacle(first, block.name):
            left_out[block.name] = f"{first}: {problem}"
        else:
            found[block.name] = first
    if not found:
        reasons = "; ".join(f"{name} ({why})" for name, why in list(left_out.items())[:1])
        raise PruningError(
            f"no filters of this network can go on their own: none of its {len(blocks)} blocks begins with a "
            f"convolution that only the block itself sees, e.g. {reasons}"
        )
    if left_out:
        names = ", ".join(left_out)
        warnings.warn(
            f"{len(left_out)} of {len(blocks)} blocks keep all their filters: {names}; e.g. "
            f"{next(iter(left_out))}: {next(iter(left_out.values()))}",
            PruningWarning,
            stacklevel=2,
        )
    return found
