"""Stand-ins and helpers that several tests share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn


@dataclass(frozen=True)
class Shape:
    """The part of an image set that shapes a network."""

    channels: int = 3
    image_size: tuple[int, int] = (32, 32)
    num_classes: int = 10

    @property
    def mean(self) -> tuple[float, ...]:
        return (0.4,) * self.channels

    @property
    def std(self) -> tuple[float, ...]:
        return (0.2,) * self.channels


def shaken(network: nn.Module) -> nn.Module:
    """Move every parameter and running statistic, so that neither blocks nor normalization are the identity."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point() and "normalize" not in name:
                noise = torch.rand(value.shape, generator=generator)
                value.add_(0.05 * noise if "running_var" in name else 0.05 * (noise - 0.5))
    return network


TWO_STAGES = """
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, features):
        return features + self.linear(features.relu())

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem, self.between, self.head = nn.Linear(64, 8), nn.Linear(8, 6), nn.Linear(6, num_classes)
        self.stages = nn.ModuleList(nn.Sequential(*(Block(width) for _ in range(3))) for width in (8, 6))

    def forward(self, images):
        features = self.stages[0](self.stem(images.flatten(1)))
        return self.head(self.stages[1](self.between(features)))
"""
"""The file of a network ``Net`` of digits: two stages of three blocks, quick to train."""

TINY = ("--model", "resnet20:width=4")
"""A network for the command line that is quick to build."""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)  # the whole of stdout, or it is no JSON


Run = Callable[..., Outcome]


def check_failure(outcome: Outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert "should not happen" not in outcome.err
    if code == 1:
        assert outcome.err.startswith("Error: ")
        assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err


LINEAR_BLOCKS = """
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, features):
        return features + nn.functional.relu(self.linear(features))

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.blocks = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Block(), Block(), Block())
        self.head = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.head(self.blocks(images))
"""
"""A user's file with a residual network for digits that has no convolution."""

HOSTILE = "<script>alert(1)</script>"
"""What somebody may call a data set."""
