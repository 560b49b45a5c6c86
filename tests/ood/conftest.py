"""Two small networks trained on digits, and what they make of digits and of other images."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from robustprune.data import ImageData, load_data
from robustprune.models import build_model
from robustprune.ood.extraction import Extractor
from robustprune.ood.outputs import Outputs


@dataclass(frozen=True, eq=False)
class Case:
    """A trained network and its outputs."""

    network: nn.Module
    extractor: Extractor
    train: Outputs
    held_out: Outputs
    inside: Outputs
    outside: Outputs


class Perceptron(nn.Module):
    """A network of another make: no convolution, a hidden layer with features below zero, normalized inside."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.SiLU(), nn.Linear(48, 24), nn.SiLU())
        self.out = nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.hidden((images - 0.3) / 0.37))  # type: ignore[no-any-return]


def train_briefly(network: nn.Module, data: ImageData, steps: int, rate: float) -> nn.Module:
    train = data.require("train")
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(train), (128,), generator=generator)
        optimizer.zero_grad()
        loss(network(train.take(chosen).float() / 255), train.labels[chosen]).backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


def build(name: str, data: ImageData) -> nn.Module:
    torch.manual_seed(0)
    if name == "resnet":
        return train_briefly(build_model("resnet20", data, width=4), data, 60, 1e-2)
    return train_briefly(Perceptron(), data, 300, 3e-3)


@pytest.fixture(scope="session", params=["resnet", "perceptron"])
def case(request: pytest.FixtureRequest, digits: ImageData) -> Case:
    network = build(request.param, digits)
    train, held_out, inside = (digits.require(name) for name in ("train", "val", "test"))
    ood_images = load_data("photo-patches", image_size=8, channels=1).require("test").images[:300]
    extractor = Extractor(network, inside.images[:8])
    return Case(
        network,
        extractor,
        extractor.run(train.images, train.labels),
        extractor.run(held_out.images, held_out.labels),
        extractor.run(inside.images, inside.labels),
        extractor.run(ood_images),
    )
