"""What the gradient criteria share: the scored copy, its batches, and sums over blocks."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.data.splits import stratified_per_class
from robustprune.pruning.blocks import Block, weight_layers

Saliency = dict[str, Tensor]
"""Parameter name → importance of each weight, in the shape of the parameter."""


class GradientOptions(BaseModel):
    """Options of the criteria that score single weights from gradients and sum them per block."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reduction: Literal["sum", "mean"] = Field(
        default="sum",
        description="over the weights of a block; mean makes the widest stage the victim whatever the data",
    )
    bn_mode: Literal["batch", "running"] = Field(
        default="batch", description="batch normalization by the batch's statistics or the running ones"
    )
    samples_per_class: Annotated[int, Field(ge=1)] = Field(
        default=10, description="un-augmented training images of each class"
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(default=128, description="images per forward pass")


def scoring_copy(model: nn.Module, bn_mode: Literal["batch", "running"]) -> nn.Module:
    """Return a deep copy to score: dropout off, batch normalization as asked, gradients on."""
    network = copy.deepcopy(model).eval().requires_grad_(True)
    network.zero_grad(set_to_none=True)
    if bn_mode == "batch":
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
    return network


def scoring_batches(
    data: ImageData, options: GradientOptions, seed: int, like: nn.Module
) -> list[tuple[Tensor, Tensor]]:
    """Return a stratified sample of the training split as batches (images in [0, 1], labels).

    The batches are of nearly equal size, so that no tiny last one distorts batch statistics. Images take the
    type and device of the network's parameters.
    """
    split = data.require("train")
    indices = stratified_per_class(split.labels, options.samples_per_class, seed)
    parameter = next(like.parameters())
    chunks = indices.tensor_split(max(1, -(-len(indices) // options.batch_size)))
    return [
        (
            split.take(chunk).to(parameter.device, parameter.dtype) / 255,
            split.labels[chunk.to(split.labels.device)].to(parameter.device),
        )
        for chunk in chunks
    ]


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the convolution and linear weights of a whole network by name."""
    return dict(weight_layers(network))


def loss_shares(
    network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]], temperature: float = 1.0
) -> Iterator[Tensor]:
    """Yield each batch's share of the mean cross-entropy over all batches, with its graph."""
    total = sum(len(labels) for _, labels in batches)
    for images, labels in batches:
        loss = nn.functional.cross_entropy(network(images) / temperature, labels, reduction="sum")
        yield loss / total


def gradients(loss: Tensor, weights: Mapping[str, Tensor], *, create_graph: bool = False) -> Saliency:
    """Return ∂loss/∂weight by name; zero where a weight has no part in the loss."""
    found = torch.autograd.grad(
        loss, list(weights.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return dict(zip(weights, found, strict=True))


def summed(parts: Iterator[Saliency]) -> Saliency:
    """Return the sum of saliencies over batches, weight by weight."""
    total: Saliency = {}
    for part in parts:
        total = {name: total[name] + value if name in total else value for name, value in part.items()}
    return total


def reduce_to_blocks(
    saliency: Mapping[str, Tensor], blocks: Sequence[Block], reduction: Literal["sum", "mean"]
) -> dict[str, float]:
    """Return the sum, or mean, of the saliencies of each block's convolution and linear weights."""
    scores: dict[str, float] = {}
    for block in blocks:
        own = [value for name, value in saliency.items() if name.startswith(f"{block.name}.")]
        total = sum(float(value.sum(dtype=torch.float64)) for value in own)
        scores[block.name] = total / sum(value.numel() for value in own) if reduction == "mean" else total
    return scores
