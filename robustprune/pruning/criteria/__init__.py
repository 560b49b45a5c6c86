"""What blocks are worth: one criterion a file, each from a formula and its paper.

A criterion is a subclass of :class:`Criterion`: a pydantic model whose fields are its options and whose methods
score blocks, filters and weights; higher means keep. Name one as ``mine.py:Mine``, the class of a file, register it
with ``@CRITERIA.register("name")``, or install it through the entry-point group ``robustprune.criteria``. What it
scores is a copy of the network, on batches of training images. Criteria that are joined, ``grasp+cka``, rank together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, PrivateAttr
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.models import copy_network
from robustprune.pruning.blocks import Block
from robustprune.registry import Registry, read_tables
from robustprune.runtime.work import steps

__all__ = ["CRITERIA", "Criterion"]

CRITERIA = Registry("criterion", "robustprune.criteria", read_tables("pruning/criteria")["PLUGINS"])

BatchNormMode = Literal["batch", "running"]

Batches = Sequence[tuple[Tensor, Tensor]]
"""Images (n, C, H, W) in [0, 1] and labels (n,)."""


class Criterion(BaseModel, ABC):
    """An importance, higher = keep; its fields are its options.

    Every criterion scores blocks. One that has no meaning for single filters, weights or whole tickets says why in
    ``no_filter_scores``, ``no_weight_scores`` or ``no_ticket_scores`` and leaves the method as it is here. The model is
    never changed: what has to be is done to a copy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    no_filter_scores: ClassVar[str] = "it is defined for whole blocks only"
    no_weight_scores: ClassVar[str] = "it judges what comes out of a layer, not the weights in it"
    no_ticket_scores: ClassVar[str] = "it is defined for single blocks only"
    weight_rounds: ClassVar[int] = 1  # of scoring and masking single weights, unless said otherwise

    _progress: Callable[[float, float], None] | None = PrivateAttr(default=None)

    def telling(self, progress: Callable[[float, float], None] | None) -> Self:
        """Return the criterion, which tells how much of its work is done, and how much there is."""
        found = self.model_copy()
        found._progress = progress
        return found

    @property
    def takes(self) -> str:
        """What it takes at a time, in words for whoever waits; empty where there is nothing to say."""
        return ""

    def settled(self, name: str, model: nn.Module, data: ImageData, seed: int) -> Self:
        """Return the criterion, called ``name``, with what depends on the network and the machine decided."""
        return self

    def steps(self, total: int) -> Callable[[], None]:
        """Return what is called after each step of the work, of which there are ``total``."""
        return steps(self._progress, total)

    @abstractmethod
    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return {block name: importance}."""

    def filter_scores(self, model: nn.Module, layers: Sequence[str], data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return {layer: importance of each filter (filters,)} for the convolutions called ``layers``.

        Raises:
            PruningError: The criterion has no meaning for filters.
        """
        raise PruningError(f"{type(self).__name__} does not score filters: {self.no_filter_scores}")

    def weight_scores(self, model: nn.Module, data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return {parameter: importance of each weight} for all convolutions and linear layers, in their shapes.

        Raises:
            PruningError: The criterion has no meaning for weights.
        """
        raise PruningError(f"{type(self).__name__} does not score weights: {self.no_weight_scores}")

    def ticket_scores(self, model: nn.Module, data: ImageData, seed: int) -> Callable[[nn.Module], float]:
        """Return a function from what is left of a network to what this ticket is worth; higher = better.

        Raises:
            PruningError: The criterion has no meaning for whole tickets.
        """
        raise PruningError(f"{type(self).__name__} does not score whole tickets: {self.no_ticket_scores}")


def scoring_copy(model: nn.Module, bn_mode: BatchNormMode) -> nn.Module:
    """Return a deep copy to score: dropout off, batch normalization as asked, gradients on.

    A network in half precision or bfloat16 is scored in single precision, as gradients and ranks drown in their
    rounding, and one laid out channels last in the usual order, as other kernels round otherwise.
    """
    network = copy_network(model)
    network.eval()
    network.to(memory_format=torch.contiguous_format)
    if any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in (*network.parameters(), *network.buffers())):
        network.float()
    for parameter in network.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
        parameter.grad = None
    if bn_mode == "batch":
        for module in network.modules():
            if normalizes_batches(module):
                module.train()
    return network


def first_tensor(network: nn.Module) -> Tensor:
    """Return a tensor of the network's floating-point type, on its device."""
    tensors = [tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()]
    return tensors[0] if tensors else torch.zeros(())


def normalizes_batches(module: nn.Module) -> bool:
    """Whether a module is a batch normalization, also where it is scripted and only the name of its class is left."""
    scripted = str(getattr(module, "original_name", ""))
    return isinstance(module, nn.modules.batchnorm._BatchNorm) or scripted.startswith("BatchNorm")
