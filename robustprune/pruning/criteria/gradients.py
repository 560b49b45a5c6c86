"""What the gradient criteria share: options, batches, losses and their gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.pruning.criteria.saliency import Saliency, WeightCriterion
from robustprune.pruning.criteria.sample import Batches, BatchNormMode, as_batches, images_per_class


class GradientCriterion(WeightCriterion):
    """A criterion that scores weights by gradients of the loss on a stratified sample of training images."""

    bn_mode: BatchNormMode = Field(
        default="batch", description="batch normalization by the batch's statistics or the running ones"
    )
    samples_per_class: Annotated[int, Field(ge=1)] = Field(
        default=10, description="un-augmented training images of each class"
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(default=128, description="images per forward pass")

    def batches(self, network: nn.Module, data: ImageData, seed: int) -> Batches:
        """Return the images and labels to score ``network`` on."""
        indices = images_per_class(data, self.samples_per_class, seed)
        return as_batches(data, indices, self.batch_size, network)


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
