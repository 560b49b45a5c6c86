"""Residual networks for small images: those of He et al. for CIFAR, and pre-activation wide ones.

He et al. 2016 (arXiv:1512.03385, section 4.2), depth 6n + 2: a 3×3 stem and three stages of n residual blocks with 16,
32 and 64 filters. Shortcuts that change shape are 1×1 convolutions (option B): with parameter-free ones ResNet32 would
have 1136 filters instead of the 1232 that the layer-pruning paper counts.

Zagoruyko and Komodakis 2016 (arXiv:1605.07146, table 1, block B(3,3)), depth 6n + 4: stages of 16k, 32k and 64k
filters, k the widening factor. Where the shape changes, the shortcut is a 1×1 convolution of the *activated* features,
as in the authors' code; every other block is x + f(x) with nothing after the sum, so it can go without a trace.
"""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from robustprune.errors import ModelError
from robustprune.models.adapter import Normalize
from robustprune.models.architecture import Architecture


class ResidualBlock(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x)))))), the shortcut a 1×1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Make a block from ``in_channels`` to ``channels`` feature maps."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H/stride, W/stride)."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features)))))
        residual += self.shortcut(features)
        return self.relu(residual)  # type: ignore[no-any-return]


class PreActivationBlock(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x)))))), the shortcut a 1×1 convolution of relu(bn(x)) where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Make a block from ``in_channels`` to ``channels`` feature maps."""
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H/stride, W/stride)."""
        activated = self.relu(self.bn1(features))
        shortcut = features if self.shortcut is None else self.shortcut(activated)
        residual: Tensor = self.conv2(self.relu(self.bn2(self.conv1(activated))))
        return residual + shortcut


class CifarResNet(nn.Module):
    """A CIFAR ResNet from images in [0, 1] to logits; any channel count, any size from 8×8."""

    def __init__(self, architecture: Architecture, depth: int, width: int) -> None:
        """Make the network with freshly initialized weights (He et al. 2015, fan-out)."""
        super().__init__()
        blocks = (depth - 2) // 6
        self.normalize = Normalize(architecture.mean, architecture.std)
        self.conv1 = nn.Conv2d(architecture.channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(ResidualBlock, width, width, 1, blocks)
        self.layer2 = _stage(ResidualBlock, width, 2 * width, 2, blocks)
        self.layer3 = _stage(ResidualBlock, 2 * width, 4 * width, 2, blocks)
        self.fc = nn.Linear(4 * width, architecture.num_classes)
        _initialize_convolutions(self)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the penultimate features (N, 4·width) of images (N, C, H, W) in [0, 1]."""
        features = self.relu(self.bn1(self.conv1(self.normalize(images))))
        features = self.layer3(self.layer2(self.layer1(features)))
        return features.mean(dim=(2, 3))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, C, H, W) in [0, 1]."""
        return self.fc(self.forward_features(images))  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """A wide ResNet from images in [0, 1] to logits; any channel count, any size from 8×8."""

    def __init__(self, architecture: Architecture, depth: int, widening: int, width: int) -> None:
        """Make the network with freshly initialized weights (He et al. 2015, fan-out)."""
        super().__init__()
        blocks = (depth - 4) // 6
        first, second, third = (width * widening * 2**stage for stage in range(3))
        self.normalize = Normalize(architecture.mean, architecture.std)
        self.conv1 = nn.Conv2d(architecture.channels, width, 3, padding=1, bias=False)
        self.layer1 = _stage(PreActivationBlock, width, first, 1, blocks)
        self.layer2 = _stage(PreActivationBlock, first, second, 2, blocks)
        self.layer3 = _stage(PreActivationBlock, second, third, 2, blocks)
        self.bn = nn.BatchNorm2d(third)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(third, architecture.num_classes)
        nn.init.zeros_(self.fc.bias)
        _initialize_convolutions(self)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the penultimate features (N, 4·widening·width) of images (N, C, H, W) in [0, 1]."""
        features = self.conv1(self.normalize(images))
        features = self.relu(self.bn(self.layer3(self.layer2(self.layer1(features)))))
        return features.mean(dim=(2, 3))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, C, H, W) in [0, 1]."""
        return self.fc(self.forward_features(images))  # type: ignore[no-any-return]


def _stage(
    block: type[ResidualBlock | PreActivationBlock], in_channels: int, channels: int, stride: int, blocks: int
) -> nn.Sequential:
    return nn.Sequential(
        block(in_channels, channels, stride), *(block(channels, channels, 1) for _ in range(blocks - 1))
    )


def _initialize_convolutions(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def build_resnet(architecture: Architecture) -> CifarResNet:
    """Build ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56`` or ``resnet110``."""
    depth = int(architecture.name.removeprefix("resnet"))
    return CifarResNet(architecture, depth, _width(architecture))


def build_wide_resnet(architecture: Architecture) -> WideResNet:
    """Build ``wrn-DEPTH-WIDENING``, a pre-activation wide ResNet; any depth 6n + 4 as ``wrn:DEPTH-WIDENING``."""
    match = re.fullmatch(r"wrn[-:](\d{1,3})-(\d{1,2})", architecture.name)
    depth, widening = (int(number) for number in match.groups()) if match else (0, 0)
    if depth < 10 or depth % 6 != 4 or widening < 1:
        raise ModelError(
            f"{architecture.name!r} is no wide ResNet: write wrn:DEPTH-WIDENING with a depth of 6n + 4 (10, 16, 22, "
            "28, …) and a widening factor from 1, e.g. wrn:22-8"
        )
    return WideResNet(architecture, depth, widening, _width(architecture))


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: int = Field(default=16, ge=1, le=1024)


def _width(architecture: Architecture) -> int:
    """Return the filters of the stem that an architecture asks for, 16 by default."""
    return architecture.options_as(_Options, "it takes only 'width', a whole number from 1 to 1024").width
