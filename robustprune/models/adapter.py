"""What gives any network what every network here has: [0, 1] images in, penultimate features out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.errors import ModelError
from robustprune.models.returned import pick_logits


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


class AdaptedNetwork(nn.Module):
    """A classifier from elsewhere behind an optional normalization layer."""

    def __init__(self, network: nn.Module, normalize: Normalize | None) -> None:
        """Wrap a network; ``normalize`` None where it does its own normalization."""
        super().__init__()
        self.normalize = normalize if normalize is not None else nn.Identity()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, C, H, W) in [0, 1].

        In training some classifiers return a tuple of logits and what auxiliary classifiers say (Szegedy et al. 2015,
        arXiv:1409.4842, section 5), of which the first counts here; others return an object that has them.
        """
        logits: Tensor = pick_logits(self.outputs(images))
        return logits

    def outputs(self, images: Tensor) -> Any:
        """Return whatever the network itself returns."""
        return self.network(self.normalize(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return what the last fully connected layer, in order of definition, receives: (N, features)."""
        layers = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
        if not layers:
            raise ModelError(
                f"{type(self.network).__name__} has no fully connected layer, so it has no penultimate features; "
                "only classifiers that end in nn.Linear are supported here"
            )
        caught: list[Tensor] = []
        handle = layers[-1].register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
        try:
            self.forward(images)
        finally:
            handle.remove()
        return caught[-1]
