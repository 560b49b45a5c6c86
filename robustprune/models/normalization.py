"""Normalization as the first layer of a network, so that every network takes images in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Subtracts the mean and divides by the standard deviation, per channel.

    Both are buffers: they travel with the weights, so a loaded network cannot be given another data set's
    constants by mistake.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Keep the constants, given per channel on the [0, 1] scale."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Normalize images (N, C, H, W) in [0, 1]."""
        return (images - self.mean) / self.std
