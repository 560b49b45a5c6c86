"""The CIFAR ResNets of He et al. 2016 (arXiv:1512.03385, section 4.2) with 1×1-convolution projections.

Depth 6n + 2: a 3×3 stem and three stages of n residual blocks with 16, 32 and 64 filters. Shortcuts that
change shape are 1×1 convolutions (option B): with parameter-free ones ResNet32 would have 1136 filters
instead of the 1232 that the layer-pruning paper counts.
"""

from __future__ import annotations

from torch import Tensor, nn

from robustprune.models.architecture import Architecture
from robustprune.models.normalization import Normalize
from robustprune.models.width import width_option


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


class CifarResNet(nn.Module):
    """A CIFAR ResNet from images in [0, 1] to logits; any channel count, any size from 8×8."""

    def __init__(self, architecture: Architecture, depth: int, width: int) -> None:
        """Make the network with freshly initialized weights (He et al. 2015, fan-out)."""
        super().__init__()
        blocks_per_stage = (depth - 2) // 6
        self.normalize = Normalize(architecture.mean, architecture.std)
        self.conv1 = nn.Conv2d(architecture.channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(width, width, 1, blocks_per_stage)
        self.layer2 = _stage(width, 2 * width, 2, blocks_per_stage)
        self.layer3 = _stage(2 * width, 4 * width, 2, blocks_per_stage)
        self.fc = nn.Linear(4 * width, architecture.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the penultimate features (N, 4·width) of images (N, C, H, W) in [0, 1]."""
        features = self.relu(self.bn1(self.conv1(self.normalize(images))))
        features = self.layer3(self.layer2(self.layer1(features)))
        return features.mean(dim=(2, 3))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, C, H, W) in [0, 1]."""
        return self.fc(self.forward_features(images))  # type: ignore[no-any-return]


def build_resnet(architecture: Architecture) -> CifarResNet:
    """Build ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56`` or ``resnet110``.

    Raises:
        ModelError: Options that it does not take.
    """
    depth = int(architecture.name.removeprefix("resnet"))
    return CifarResNet(architecture, depth, width_option(architecture))


def _stage(in_channels: int, channels: int, stride: int, blocks: int) -> nn.Sequential:
    first = ResidualBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(ResidualBlock(channels, channels, 1) for _ in range(blocks - 1)))
