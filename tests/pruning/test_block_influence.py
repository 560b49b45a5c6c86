"""Block influence on networks that turn features by known angles, and against cosines by loops."""

from __future__ import annotations

from math import cos, hypot, pi, sin, sqrt

import numpy as np
import pytest
import torch
from small_networks import few_images, small_network
from torch import Tensor, nn

from robustprune.data import ImageData, InMemorySplit
from robustprune.pruning import Block, find_blocks, make_criterion
from robustprune.pruning.criteria.block_influence import turned

ANGLES = (0.0, pi / 6, pi / 2, pi)


class Turning(nn.Module):
    """x + (R − I)·x, R a turn of two features."""

    def __init__(self, angle: float, factor: float = 1.0, leaves_the_sum: bool = False) -> None:
        super().__init__()
        self.branch = nn.Linear(2, 2, bias=False)
        turn = factor * torch.tensor([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
        with torch.no_grad():
            self.branch.weight.copy_(turn - torch.eye(2))
        self.leaves_the_sum = leaves_the_sum

    def forward(self, features: Tensor) -> Tensor:
        return self.branch(features) if self.leaves_the_sum else features + self.branch(features)


class Summing(nn.Module):
    """Adds its input to what its branch returns."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.inner = branch

    def forward(self, features: Tensor) -> Tensor:
        return features + self.inner(features)


def pixels(*values: tuple[int, int]) -> ImageData:
    """Images of two pixels."""
    images = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 2)
    split = InMemorySplit(images, torch.arange(len(values)) % 2)
    return ImageData("pixels", ("a", "b"), (0.0,), (1.0,), False, split)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_turns_by_known_angles(factor: float) -> None:
    network = nn.Sequential(nn.Flatten(), *(Turning(angle, factor) for angle in ANGLES))
    blocks = [Block(str(place + 1), place, 0, place, 4, 4, "identity") for place in range(4)]
    found = make_criterion("bi").score(network, blocks, pixels((255, 10), (3, 200), (7, 7)), 0)
    assert list(found.values()) == pytest.approx([1 - cos(angle) for angle in ANGLES], abs=1e-6)


def test_a_parent_that_adds_the_input() -> None:
    network = nn.Sequential(nn.Flatten(), Summing(Turning(pi / 6, leaves_the_sum=True)))
    found = make_criterion("bi").score(network, [Block("1.inner", 0, 0, 0, 1, 4, "zero")], pixels((9, 10), (3, 2)), 0)
    assert found == pytest.approx({"1.inner": 1 - sqrt(3) / 2}, abs=1e-6)


def test_features_without_a_direction() -> None:
    before = torch.tensor([[[0.0, 1.0, 0.0, 3.0], [0.0, 2.0, 0.0, 4.0]]])
    after = torch.tensor([[[0.0, 0.0, 5.0, 6.0], [0.0, 0.0, 1.0, 8.0]]])
    assert turned(before, after).tolist() == [[0.0, 1.0, 1.0, 0.0]]
    assert turned(before, torch.full_like(before, torch.nan)).isnan().any()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["maps", "tokens"])
def test_cosines_by_loops(few_digits: ImageData, kind: str, seed: int) -> None:
    data, network = few_images(few_digits), small_network(kind, few_digits, seed)
    expected = {}
    with torch.no_grad():
        stream = network.stem(data.require("train").images / 255)
        stream = stream.relu() if kind == "maps" else stream.flatten(2).mT
        for place, block in enumerate(network.blocks):
            before, stream = stream, block(stream)
            # One row of features for each position of each image.
            rows = [each.flatten(2).mT if kind == "maps" else each for each in (before, stream)]
            pairs = zip(*(each.flatten(0, 1).tolist() for each in rows), strict=True)
            expected[f"blocks.{place}"] = float(np.mean([one_minus_cosine(x, y) for x, y in pairs]))
    blocks = find_blocks(network, data.require("train").images[:2] / 255)
    assert make_criterion("bi", batch_size=16).score(network, blocks, data, 0) == pytest.approx(expected, rel=1e-4)


def one_minus_cosine(x: list[float], y: list[float]) -> float:
    if not any(x) or not any(y):
        return float(any(x) or any(y))
    return 1 - sum(one * other for one, other in zip(x, y, strict=True)) / (hypot(*x) * hypot(*y))
