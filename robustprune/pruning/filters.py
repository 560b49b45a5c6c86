"""Which filters can be pruned on their own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from robustprune.errors import PruningError
from robustprune.pruning.blocks import Block


def first_convolutions(model: nn.Module, blocks: Sequence[Block]) -> dict[str, str]:
    """Return the name of each block's first convolution, by block name.

    Its filters can go, as only the block itself sees them; the last convolution's have to match the shortcut.

    Raises:
        PruningError: A block has fewer than two convolutions.
    """
    found = {}
    for block in blocks:
        convolutions = [
            name
            for name, module in model.get_submodule(block.name).named_modules()
            if isinstance(module, nn.modules.conv._ConvNd)
        ]
        if len(convolutions) < 2:
            raise PruningError(
                f"block {block.name} has {len(convolutions)} convolutions; filters can be pruned only where a second "
                "convolution reads them"
            )
        found[block.name] = f"{block.name}.{convolutions[0]}"
    return found
