"""Small residual networks whose blocks are unlike ResNet's, on images as wide as they have channels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from robustprune.data import ImageData
from robustprune.models.architecture import Architecture

WIDTH = 8  # channels, and height and width of the digits


def branch(width: int = WIDTH, inner: int | None = None) -> nn.Sequential:
    inner = inner or width
    return nn.Sequential(
        nn.Conv2d(width, inner, 3, padding=1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, width, 3, padding=1),
    )


class Block(nn.Module):
    """A post-activation residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = branch()

    def forward(self, features: Tensor) -> Tensor:
        return (features + self.branch(features)).relu()


class OddNetwork(nn.Module):
    def __init__(self, data: ImageData, block: Callable[[], nn.Module], channels_last: bool = False) -> None:
        super().__init__()
        self.architecture = Architecture.for_data("odd", data)
        self.stem = nn.Conv2d(data.channels, WIDTH, 3, padding=1)
        self.blocks = nn.Sequential(*(block() for _ in range(3)))
        self.head = nn.Linear(WIDTH, data.num_classes)
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images).relu()
        features = self.blocks(features.movedim(1, -1) if self.channels_last else features)
        return self.head(features.mean(dim=(1, 2) if self.channels_last else (2, 3)))


def odd_network(data: ImageData, block: Callable[[], nn.Module] = Block, **options: Any) -> OddNetwork:
    torch.manual_seed(0)
    network = OddNetwork(data, block, **options)
    with torch.no_grad():  # so that no two blocks, and no normalization and its absence, are alike
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.running_var.uniform_(0.5, 1.5)
    return network


# Weights that are computed.


class Tanh(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.tanh()


class Rounded(nn.Module):
    """Fake quantization: rounded to sixteenths, gradients straight through."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight + ((16 * weight).round() / 16 - weight).detach()


class OnAccess(nn.Conv2d):
    """w = tanh(v) by a property."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.raw = nn.Parameter(self._parameters.pop("weight").detach().clone())

    @property
    def weight(self) -> Tensor:
        return self.raw.tanh()

    @weight.setter
    def weight(self, value: Tensor) -> None:
        self._parameters["weight"] = value


class InForward(nn.Conv2d):
    """w = tanh(v) in the forward pass."""

    def forward(self, features: Tensor) -> Tensor:
        return self._conv_forward(features, self.weight.tanh(), self.bias)


class Standardized(nn.Conv2d):
    """Each filter with mean 0 and variance 1 in the forward pass."""

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.conv2d(
            features, weight=standardized(self.weight), bias=self.bias, stride=self.stride, padding=self.padding
        )


def standardized(weight: Tensor) -> Tensor:
    flat = weight.flatten(1)
    return ((flat - flat.mean(1, keepdim=True)) / (flat.var(1, keepdim=True) + 1e-5).sqrt()).view_as(weight)


def changed(change: Callable[[nn.Conv2d], nn.Module]) -> Callable[[], nn.Module]:
    """Return what makes blocks whose convolutions are changed."""

    def make() -> nn.Module:
        block = Block()
        for place in (0, 3):
            block.branch[place] = change(block.branch[place])
        return block

    return make


def as_class(kind: type[nn.Conv2d]) -> Callable[[nn.Conv2d], nn.Module]:
    def change(layer: nn.Conv2d) -> nn.Module:
        made = kind(WIDTH, WIDTH, 3, padding=1, bias=layer.bias is not None)
        with torch.no_grad():
            getattr(made, "raw", made.weight).copy_(layer.weight)
            if layer.bias is not None:
                made.bias.copy_(layer.bias)
        return made

    return change


def parametrized(transformation: type[nn.Module]) -> Callable[[nn.Conv2d], nn.Module]:
    def change(layer: nn.Conv2d) -> nn.Module:
        parametrize.register_parametrization(layer, "weight", transformation())
        return layer

    return change


def older(apply: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Conv2d], nn.Module]:
    def change(layer: nn.Conv2d) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            layer = apply(layer)
        layer(torch.rand(1, WIDTH, WIDTH, WIDTH))  # which leaves a weight with a graph in it
        return layer

    return change


COMPUTED: Mapping[str, Callable[[nn.Conv2d], nn.Module]] = {
    "spectral": parametrizations.spectral_norm,
    "weight norm": parametrizations.weight_norm,
    "orthogonal": parametrizations.orthogonal,
    "tanh": parametrized(Tanh),
    "rounded": parametrized(Rounded),
    "older spectral": older(torch.nn.utils.spectral_norm),
    "older weight norm": older(torch.nn.utils.weight_norm),
    "older mask": lambda layer: prune.random_unstructured(layer, "weight", 0.3),
    "property": as_class(OnAccess),
    "in forward": as_class(InForward),
    "standardized": as_class(Standardized),
}


# Blocks of other forms.


class Checkpointed(Block):
    def forward(self, features: Tensor) -> Tensor:
        return (features + checkpoint(self.branch, features, use_reentrant=True)).relu()


class CheckpointedOtherwise(Block):
    def forward(self, features: Tensor) -> Tensor:
        return (features + checkpoint(self.branch, features, use_reentrant=False)).relu()


class CheckpointedInParts(Block):
    def forward(self, features: Tensor) -> Tensor:
        return (features + checkpoint_sequential(self.branch, 2, features, use_reentrant=True)).relu()


class Concatenating(nn.Module):
    """Two convolutions of unequal width side by side; neither is as wide as the block."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(WIDTH, 3, 3, padding=1)
        self.right = nn.Conv2d(WIDTH, WIDTH - 3, 1)

    def forward(self, features: Tensor) -> Tensor:
        return features + torch.cat([self.left(features), self.right(features)], dim=1)


class Reversible(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = branch(WIDTH // 2), branch(WIDTH // 2, WIDTH)

    def forward(self, features: Tensor) -> Tensor:
        first, second = features.chunk(2, dim=1)
        first = first + self.f(second)
        return torch.cat([first, second + self.g(first)], dim=1)


class TwoInputs(nn.Module):
    """A convolution and, last, a linear layer of another width that scales what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.gate = nn.Linear(WIDTH, 1)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Tensor:
        condition = features.mean(dim=(2, 3)) if condition is None else condition
        return features + self.mix(features) * self.gate(condition)[:, :, None, None]


class Permuting(nn.Module):
    """Channels last within the block alone, as in ConvNeXt, with a branch all but closed."""

    def __init__(self) -> None:
        super().__init__()
        self.spread = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.scale = nn.Parameter(torch.full((WIDTH,), 1e-6))

    def forward(self, features: Tensor) -> Tensor:
        mixed = self.scale * self.mix(self.norm(self.spread(features).movedim(1, -1)))
        return features + mixed.movedim(-1, 1)


class PostNormalized(nn.Module):
    """Channels last within and without, normalized after the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.norm(self.mix(features))


class Closed(Block):
    """A branch that adds nothing at initialization, its last layer being zero."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.branch[3].weight)
        nn.init.zeros_(self.branch[3].bias)


def tied(data: ImageData) -> OddNetwork:
    """A network whose blocks have one weight between them."""
    network = odd_network(data)
    for block in network.blocks:
        block.branch[0].weight = network.blocks[0].branch[0].weight
    return network


def shared(data: ImageData) -> OddNetwork:
    """A network whose last two blocks have one and the same branch."""
    network = odd_network(data)
    network.blocks[2].branch = network.blocks[1].branch
    return network


FORMS: Mapping[str, Callable[[ImageData], OddNetwork]] = {
    "plain": odd_network,
    **{name: lambda data, change=change: odd_network(data, changed(change)) for name, change in COMPUTED.items()},
    "checkpoints": lambda data: odd_network(data, Checkpointed),
    "other checkpoints": lambda data: odd_network(data, CheckpointedOtherwise),
    "checkpoints in parts": lambda data: odd_network(data, CheckpointedInParts),
    "tied": tied,
    "shared": shared,
    "concatenating": lambda data: odd_network(data, Concatenating),
    "reversible": lambda data: odd_network(data, Reversible),
    "two inputs": lambda data: odd_network(data, TwoInputs),
    "permuting": lambda data: odd_network(data, Permuting),
    "post-normalized": lambda data: odd_network(data, PostNormalized, channels_last=True),
    "closed": lambda data: odd_network(data, Closed),
}
