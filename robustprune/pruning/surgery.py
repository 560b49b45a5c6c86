"""Real removal: the block's module leaves the network, the names of all others stay."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustprune.errors import PruningError

Residue = Literal["identity", "relu"]
"""What is left of a removed block: nothing, or its final activation."""


class RemovedBlock(nn.Module):
    """The gap a removed block leaves: no parameters, no operations but perhaps the final activation.

    It keeps the place, so that ``layer2.3`` is the same block before and after ``layer2.2`` is gone, and
    rewinding can copy weights by name.
    """

    def __init__(self, residue: Residue = "identity") -> None:
        """Leave nothing ("identity") or the activation ("relu")."""
        super().__init__()
        self.residue = residue

    def forward(self, features: Tensor, *_args: Any, **_keywords: Any) -> Tensor:
        """Pass the features on; what else the block was called with has no use any more."""
        return torch.relu(features) if self.residue == "relu" else features

    def extra_repr(self) -> str:
        """Return the residue, for printing."""
        return self.residue


def remove_blocks(model: nn.Module, removed: Mapping[str, Residue]) -> nn.Module:
    """Return a copy of the model without the named blocks; kept weights and buffers are carried over.

    Args:
        model: Left as it is.
        removed: Block name → what is to remain of it.

    Raises:
        PruningError: A name that is no submodule of the model.
    """
    pruned = copy.deepcopy(model)
    for name, residue in removed.items():
        parent_name, _, attribute = name.rpartition(".")
        try:
            parent = pruned.get_submodule(parent_name)
            parent.get_submodule(attribute)
        except AttributeError as error:
            raise PruningError(f"the network has no block {name!r} to remove") from error
        setattr(parent, attribute, RemovedBlock(residue))
    return pruned
