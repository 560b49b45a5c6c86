from __future__ import annotations

import pytest
import torch
from support import Shape
from torch import nn

from robustprune.errors import ModelError, RobustPruneError
from robustprune.models import build_model
from robustprune.pruning import find_blocks


def closed_form(depth: int, widening: int, classes: int = 10) -> int:
    """Count the parameters from table 1 of the paper: stem, three stages, batch norm and linear layer."""
    blocks, total, width = (depth - 4) // 6, 9 * 3 * 16, 16
    for channels in (16 * widening, 32 * widening, 64 * widening):
        projection = width * channels if width != channels else 0
        total += 2 * width + 9 * width * channels + 2 * channels + 9 * channels**2 + projection
        total += (blocks - 1) * (4 * channels + 18 * channels**2)
        width = channels
    return total + 2 * width + width * classes + classes


# Millions of parameters as published: tables 4 and 5 of the paper.
@pytest.mark.parametrize(("name", "millions"), [("16-4", 2.75), ("28-10", 36.5), ("40-2", 2.2), ("40-4", 8.9)])
def test_parameters_are_the_published_ones(name: str, millions: float) -> None:
    depth, widening = map(int, name.split("-"))
    found = sum(p.numel() for p in build_model(f"wrn-{name}", Shape()).parameters())
    assert found == closed_form(depth, widening)
    assert found / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(("channels", "size"), [(1, (8, 8)), (3, (32, 32)), (2, (17, 40))])
def test_any_channels_and_size(channels: int, size: tuple[int, int]) -> None:
    network = build_model("wrn-16-4", Shape(channels=channels, image_size=size, num_classes=7), width=2)
    images = torch.rand(3, channels, *size)
    features = network.forward_features(images)
    assert features.shape == (3, 32)
    torch.testing.assert_close(network(images), features @ network.fc.weight.T + network.fc.bias)


def test_forward_is_that_of_the_paper() -> None:
    # figure 1 (c) and the authors' code, written out with functions instead of modules
    network = build_model("wrn:10-2", Shape(), width=4)
    images = torch.rand(2, 3, 32, 32)
    features = network.conv1((images - 0.4) / 0.2)
    for stage, stride in ((network.layer1, 1), (network.layer2, 2), (network.layer3, 2)):
        (block,) = stage
        activated = block.bn1(features).clamp(min=0)
        hidden = nn.functional.conv2d(activated, block.conv1.weight, stride=stride, padding=1)
        hidden = nn.functional.conv2d(block.bn2(hidden).clamp(min=0), block.conv2.weight, padding=1)
        features = hidden + nn.functional.conv2d(activated, block.shortcut.weight, stride=stride)
    expected = network.fc(network.bn(features).clamp(min=0).mean((2, 3)))
    torch.testing.assert_close(network(images), expected)


def test_first_block_of_a_stage_projects_and_the_others_leave_the_identity() -> None:
    blocks = find_blocks(build_model("wrn-28-10", Shape(image_size=(8, 8)), width=2))
    assert [block.stage_size for block in blocks] == [4] * 12
    assert [block.residue for block in blocks] == [None, "identity", "identity", "identity"] * 3


def test_without_widening_the_first_block_can_go_too() -> None:
    blocks = find_blocks(build_model("wrn:16-1", Shape()))
    assert [block.residue for block in blocks] == ["identity", "identity", None, "identity", None, "identity"]


def test_shortcut_does_not_see_the_activation() -> None:
    # An in-place activation in the branch would change what the shortcut carries.
    block = build_model("wrn-16-4", Shape(), width=2).layer1[1]
    nn.init.zeros_(block.conv2.weight)
    features = torch.randn(2, 8, 8, 8)
    assert torch.equal(block(features.clone()), features)


@pytest.mark.parametrize("name", ["wrn:27-10", "wrn:4-1", "wrn:28", "wrn", "wrn:28-0", "wrn:28-10-1"])
def test_impossible_names_are_explained(name: str) -> None:
    with pytest.raises(ModelError, match=r"depth of 6n \+ 4"):
        build_model(name, Shape())


def test_unregistered_name_suggests() -> None:
    with pytest.raises(RobustPruneError, match="Did you mean 'wrn-28-10'"):
        build_model("wrn-28-12", Shape())


def test_options_are_checked() -> None:
    with pytest.raises(ModelError, match="takes only 'width'"):
        build_model("wrn-16-4", Shape(), dropout=0.3)
