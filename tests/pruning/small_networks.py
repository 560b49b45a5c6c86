"""Two small networks with three blocks, of feature maps and of tokens, and the same without one of the blocks."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from scored_networks import Block, OddNetwork
from support import shaken
from torch import Tensor, nn

from robustprune.data import ImageData, InMemorySplit
from robustprune.models.architecture import Architecture

COUNT = 30
"""Images that there are, all of which are sampled."""


class TokenBlock(nn.Module):
    """x + W₂ relu(W₁ norm(x)) on tokens (N, T, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.mix1, self.mix2 = nn.Linear(6, 24), nn.Linear(24, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.mix2(nn.functional.relu(self.mix1(self.norm(tokens))))


class TokenNetwork(nn.Module):
    """A mixer of four patches of 4×4 pixels."""

    def __init__(self, data: ImageData) -> None:
        super().__init__()
        self.architecture = Architecture.for_data("tokens", data)
        self.stem = nn.Conv2d(1, 6, 4, stride=4)
        self.blocks = nn.Sequential(TokenBlock(), TokenBlock(), TokenBlock())
        self.head = nn.Linear(6, data.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images).flatten(2).mT).mean(dim=1))


NETWORKS = {"maps": lambda data: OddNetwork(data, Block), "tokens": TokenNetwork}


def small_network(kind: str, data: ImageData, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = shaken(NETWORKS[kind](data)).eval()
    with torch.no_grad():  # logits and branches of some size, no two of them alike
        for place, block in enumerate(network.blocks):
            for weight in block.parameters():
                weight.mul_(1 + place / 2)
    return network


def without(network: nn.Module, place: int) -> nn.Module:
    """The network without a block, of which nothing is left but its input."""
    left = copy.deepcopy(network)
    left.blocks = nn.Sequential(*(block for other, block in enumerate(left.blocks) if other != place))
    return left


def few_images(data: ImageData, network: nn.Module | None = None) -> ImageData:
    """A set of few images; labelled by a network, all of whose classes it makes about as likely, where one is given."""
    split = data.require("train")
    images, labels = split.images[:COUNT], split.labels[:COUNT]
    if network is not None:
        with torch.no_grad():
            network.head.bias -= network(images / 255).mean(dim=0)
            labels = network(images / 255).argmax(dim=1)
    part = InMemorySplit(images, labels)
    return replace(data, train=part)
