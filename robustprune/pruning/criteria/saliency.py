"""Criteria that score single weights: a filter or a block is worth what its weights are worth together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.models import evaluation_mode
from robustprune.pruning.blocks import Block, weight_layers
from robustprune.pruning.criteria.criterion import Criterion

Saliency = dict[str, Tensor]
"""Name of a weight → importance of each of its numbers, in its shape; one tensor for a weight of several names."""

Reduction = Literal["sum", "mean"]


class WeightCriterion(Criterion):
    """A criterion that is defined weight by weight."""

    reduction: Reduction = Field(
        default="sum",
        description="over the weights of a block or filter; mean makes the widest stage the victim whatever the data",
    )

    @abstractmethod
    def saliency(self, model: nn.Module, data: ImageData, seed: int) -> Saliency:
        """Return the importance of every convolution and linear weight that takes part; the model is left as it was."""

    def weight_scores(self, model: nn.Module, data: ImageData, seed: int) -> Saliency:
        """Return the importance of every convolution and linear weight, 0 where it takes no part in the output."""
        found = self.saliency(model, data, seed)
        return {
            name: found[name] if name in found else torch.zeros_like(weight, requires_grad=False)
            for name, weight in all_weights(model).items()
        }

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return the sum, or mean, over the convolution and linear weights of each block."""
        return reduce_to_blocks(self.saliency(model, data, seed), blocks, self.reduction)

    def filter_scores(self, model: nn.Module, layers: Sequence[str], data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return the sum, or mean, over the weights of each filter."""
        saliency = self.saliency(model, data, seed)
        for layer in layers:
            if f"{layer}.weight" not in saliency:
                raise _unreached(f"the filters of {layer}")
        return {layer: per_filter(by_filter(saliency, f"{layer}.weight", model), self.reduction) for layer in layers}


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the convolution and linear weights of a whole network by name."""
    return dict(weight_layers(network))


def all_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the convolution and linear weights of a model by name, read in evaluation mode.

    To read a computed one can change the model otherwise: spectral normalization goes on with its power iteration.
    """
    with evaluation_mode(model):
        return weights_of(model)


def per_weight(slopes: Saliency, weights: Mapping[str, Tensor], score: Callable[[Tensor, Tensor], Tensor]) -> Saliency:
    """Return ``score(weight, slope)`` for every slope, computed once for a weight of several names."""
    found: dict[int, Tensor] = {}
    for name, slope in slopes.items():
        if id(weights[name]) not in found:
            found[id(weights[name])] = score(weights[name].detach(), slope)
    return {name: found[id(weights[name])] for name in slopes}


def weights_within(saliency: Mapping[str, Tensor], block: Block) -> Saliency:
    """Return the saliencies of a block's convolution and linear weights, each once.

    Raises:
        PruningError: There are none: no gradient reaches the block.
    """
    own = {id(value): (name, value) for name, value in saliency.items() if name.startswith(f"{block.name}.")}
    if not own:
        raise _unreached(f"block {block.name}")
    return dict(own.values())


def reduce_to_blocks(saliency: Mapping[str, Tensor], blocks: Sequence[Block], reduction: Reduction) -> dict[str, float]:
    """Return the sum, or mean, of the saliencies of each block's convolution and linear weights."""
    scores: dict[str, float] = {}
    for block in blocks:
        own = weights_within(saliency, block).values()
        total = sum(float(value.sum(dtype=torch.float64)) for value in own)
        scores[block.name] = total / sum(value.numel() for value in own) if reduction == "mean" else total
    return scores


def by_filter(saliency: Mapping[str, Tensor], name: str, network: nn.Module) -> Tensor:
    """Return the saliency of a weight as (filters, …); transposed convolutions have theirs as (inputs, filters, …)."""
    layer, weights = network.get_submodule(name.rpartition(".")[0]), saliency[name]
    if not getattr(layer, "transposed", False):
        return weights
    assert isinstance(layer, nn.modules.conv._ConvTransposeNd)
    return weights.view(layer.groups, -1, *weights.shape[1:]).transpose(1, 2).flatten(0, 1)


def per_filter(weights: Tensor, reduction: Reduction) -> Tensor:
    """Return the sum, or mean, over the weights of each filter: (filters, …) to (filters,), in float64."""
    flat = weights.double().flatten(1)
    return flat.mean(dim=1) if reduction == "mean" else flat.sum(dim=1)


def _unreached(what: str) -> PruningError:
    return PruningError(
        f"no gradient reaches {what}: the forward pass runs it under torch.no_grad or detaches what it returns, or its "
        "layers are hidden in a scripted or exported module; use kl, expected_abs or pls, which need no gradient"
    )
