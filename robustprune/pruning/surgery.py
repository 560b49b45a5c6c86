"""Real removal: the block's module leaves the network, the names of all others stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from robustprune.errors import PruningError
from robustprune.models import copy_network
from robustprune.pruning.calls import leaves, mapped
from robustprune.pruning.residue import RemovedBlock, Residue
from robustprune.pruning.running import check_removal
from robustprune.runtime.arrays import Array


def remove_blocks(model: nn.Module, removed: Mapping[str, Residue], *, example: Array | None = None) -> nn.Module:
    """Return a copy of the model without the named blocks; kept weights and buffers are carried over.

    The copy has run without them, in evaluation and in training mode, and called nothing but what is in it.

    Args:
        model: Left as it is.
        removed: Block name → what is to remain of it.
        example: Images (N, C, H, W) to run a network on that does not know its own image shape.

    Raises:
        PruningError: A name that is no submodule of the model, or a block without which the network does not run, or
            that it still calls.
    """
    pruned = copy_network(model)
    gone = []
    for name in removed:
        try:
            gone.append(pruned.get_submodule(name))
        except AttributeError as error:
            raise PruningError(f"the network has no block {name!r} to remove") from error
    _replace(pruned, dict(zip(gone, map(RemovedBlock, removed.values()), strict=True)))
    try:
        check_removal(model, pruned, removed, gone, example)
    except PruningError as error:
        names = ", ".join(removed)
        which = f"block {names} cannot go" if len(removed) == 1 else f"blocks {names} cannot go together"
        raise PruningError(f"{which}: {error}") from error
    return pruned


def _replace(network: nn.Module, others: Mapping[nn.Module, nn.Module]) -> None:
    """Put others in the places of modules: under all registered names, and in lists and dicts that parents keep."""

    def other(value: Any) -> Any:
        return others[value].train(value.training) if isinstance(value, nn.Module) and value in others else value

    for module in list(network.modules()):
        for name, value in list(vars(module).items()):
            if any(isinstance(leaf, nn.Module) and leaf in others for _, leaf in leaves(value)):
                vars(module)[name] = mapped(other, value)
