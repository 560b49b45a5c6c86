"""Networks as users have them, small: for 3×32×32 images of three classes. A file of the command line's, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision import models

from robustprune.models.libraries import import_quietly


class Block(nn.Module):
    """A residual block of one's own, with a convolution that only the block sees."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width + 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(width + 2)
        self.second = nn.Conv2d(width + 2, width, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        return (maps + self.second(self.norm(self.first(maps)).relu())).relu()


class Own(nn.Module):
    """A residual network of one's own, with an argument more than images."""

    def __init__(self, depth: int = 4, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, 3)

    def forward(self, images: Tensor, scale: float = 1.0) -> Tensor:
        return scale * self.head(self.blocks(self.stem(images).relu()).mean(dim=(2, 3)))


def own() -> nn.Module:
    return Own()


def resnet() -> nn.Module:
    return models.ResNet(models.resnet.BasicBlock, [2, 1, 1, 1], num_classes=3)


def convnext() -> nn.Module:
    timm = import_quietly("timm", "this test")
    return timm.create_model("convnext_atto", num_classes=3, depths=(1, 1, 2, 1), dims=(8, 16, 24, 32))


def vit() -> nn.Module:
    sizes = {"patch_size": 16, "num_layers": 3, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    network = models.VisionTransformer(image_size=32, num_classes=3, **sizes)
    nn.init.normal_(network.heads.head.weight, std=0.1)  # torchvision's are zero, and all logits with them
    return network


NETWORKS = {"own": own, "resnet": resnet, "convnext": convnext, "vit": vit}


def make(name: str) -> nn.Module:
    """Return a network as somebody may have it: in training, but for a layer, with weights frozen and a hook."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    network.train()
    next(module for module in network.modules() if "Norm" in type(module).__name__).eval()
    next(network.parameters()).requires_grad_(False)
    network.register_forward_hook(lambda _module, _inputs, outputs: outputs)
    return network
