"""Criteria that score single weights: a filter or a block is worth what its weights are worth together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.pruning.blocks import Block, weight_layers
from robustprune.pruning.criteria.criterion import Criterion

Saliency = dict[str, Tensor]
"""Parameter name → importance of each weight, in the shape of the parameter."""

Reduction = Literal["sum", "mean"]


class WeightCriterion(Criterion):
    """A criterion that is defined weight by weight."""

    reduction: Reduction = Field(
        default="sum",
        description="over the weights of a block or filter; mean makes the widest stage the victim whatever the data",
    )

    @abstractmethod
    def weight_scores(self, model: nn.Module, data: ImageData, seed: int) -> Saliency:
        """Return the importance of every convolution and linear weight; the model is left as it was."""

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return the sum, or mean, over the convolution and linear weights of each block."""
        return reduce_to_blocks(self.weight_scores(model, data, seed), blocks, self.reduction)

    def filter_scores(self, model: nn.Module, layers: Sequence[str], data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return the sum, or mean, over the weights of each filter."""
        saliency = self.weight_scores(model, data, seed)
        return {layer: per_filter(saliency[f"{layer}.weight"], self.reduction) for layer in layers}


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the convolution and linear weights of a whole network by name."""
    return dict(weight_layers(network))


def reduce_to_blocks(saliency: Mapping[str, Tensor], blocks: Sequence[Block], reduction: Reduction) -> dict[str, float]:
    """Return the sum, or mean, of the saliencies of each block's convolution and linear weights."""
    scores: dict[str, float] = {}
    for block in blocks:
        own = [value for name, value in saliency.items() if name.startswith(f"{block.name}.")]
        total = sum(float(value.sum(dtype=torch.float64)) for value in own)
        scores[block.name] = total / sum(value.numel() for value in own) if reduction == "mean" else total
    return scores


def per_filter(weights: Tensor, reduction: Reduction) -> Tensor:
    """Return the sum, or mean, over the weights of each filter: (filters, …) to (filters,), in float64."""
    flat = weights.double().flatten(1)
    return flat.mean(dim=1) if reduction == "mean" else flat.sum(dim=1)
