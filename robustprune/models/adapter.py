"""What gives any network what every network here has: [0, 1] images in, penultimate features out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.errors import ModelError
from robustprune.models.forward import model_device, model_type
from robustprune.models.returned import pick_logits

_FURTHEST = 2.0  # from 0 on the [0, 1] scale that a mean or deviation can be


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
        """Return the logits (N, num_classes), or the one of a binary classifier, of images (N, C, H, W) in [0, 1].

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


def normalized(model: nn.Module, mean: float | Sequence[float], std: float | Sequence[float]) -> nn.Module:
    """Return a network that takes images in [0, 1], as all here do, and normalizes them before the one given.

    ``rp.normalized(model, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))``. The model is in it, not a copy, in the mode
    it is in; the constants are buffers, of its type and on its device, and are saved with the weights.

    Args:
        model: Maps normalized images (N, C, H, W) to logits.
        mean: By channel, or one for all, on the [0, 1] scale.
        std: Likewise, above 0.

    Raises:
        ModelError: The model is no module, or the constants are no normalization.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"a network to normalize for is an nn.Module, got {type(model).__name__}")
    try:
        centre, spread = (torch.as_tensor(each, dtype=torch.float64).flatten().tolist() for each in (mean, std))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"mean={mean!r} and std={std!r} are not numbers, one a channel") from error
    check_constants(centre, spread)
    constants = Normalize(centre, spread).to(model_device(model), model_type(model))
    network = AdaptedNetwork(model, constants)
    network.training = constants.training = model.training
    return network


def check_constants(mean: Sequence[float], std: Sequence[float]) -> None:
    """Check what images are normalized with, by channel on the [0, 1] scale.

    Raises:
        ModelError: They are not as many, not finite, or a deviation is not above 0; or they are on the scale of 255.
    """
    if len(mean) != len(std) or not mean:
        raise ModelError(f"{len(mean)} means and {len(std)} deviations are not as many, one a channel")
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ModelError("means and deviations must be finite, and deviations above 0")
    if max(map(abs, mean)) > _FURTHEST or max(std) > _FURTHEST:
        raise ModelError("means and deviations are on the [0, 1] scale of images; divide those of 0 to 255 by 255")
