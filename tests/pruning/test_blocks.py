from __future__ import annotations

import copy

import pytest
import torch
from support import Shape
from torch import Tensor, nn

from robustprune.errors import PruningError
from robustprune.models import build_model
from robustprune.pruning import find_blocks


class PreActivation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.conv(self.norm(features).relu())


class PostActivation(PreActivation):
    def forward(self, features: Tensor) -> Tensor:
        return (features + self.norm(self.conv(features))).relu()


class Leaky(PreActivation):
    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.leaky_relu(features + self.norm(self.conv(features)), 0.01)


class Halved(PreActivation):
    def forward(self, features: Tensor) -> Tensor:
        return 0.5 * features + self.conv(features)


class Outer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = PreActivation(channels)
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.conv(self.inner(features))


class Wrapped(PreActivation):
    """A block most of whose weights are its own, as FastViT's around its token mixer."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.inner = PreActivation(channels)
        self.wide = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.back = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        features = self.inner(features)
        return features + self.back(self.wide(features))


class Twice(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = PreActivation(channels)

    def forward(self, features: Tensor) -> Tensor:
        return self.block(self.block(features))


IMAGES = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5


def found(*modules: nn.Module) -> dict[str, str | None]:
    network = nn.Sequential(*modules).eval()
    return {block.name: block.residue for block in find_blocks(network, IMAGES)}


def test_pre_activation_block_leaves_the_identity() -> None:
    assert found(nn.Conv2d(4, 4, 1), PreActivation(4)) == {"1": "identity"}


def test_final_activation_stays_unless_it_changes_nothing() -> None:
    # What reaches block 1 has both signs, so its ReLU matters; block 2 gets what a ReLU has let through.
    assert found(nn.Conv2d(4, 4, 1), PostActivation(4), PostActivation(4)) == {"1": "relu", "2": "identity"}


def test_activations_gates_and_scaled_shortcuts_are_no_blocks() -> None:
    assert found(nn.PReLU(4), nn.BatchNorm2d(4), Halved(4), PreActivation(4)) == {"3": "identity"}


def test_leaky_activations_in_a_row_are_no_relu() -> None:
    assert found(nn.Sequential(*(Leaky(4) for _ in range(5))), PreActivation(4)) == {"1": "identity"}


def test_the_innermost_of_nested_blocks_is_found() -> None:
    assert found(Outer(4)) == {"0.inner": "identity"}


def test_residual_detail_of_a_block_is_not_the_block() -> None:
    assert found(Wrapped(4), Wrapped(4)) == {"0": "identity", "1": "identity"}


def test_stage_of_such_blocks_is_not_one_block() -> None:
    assert found(nn.Sequential(Wrapped(4), Wrapped(4))) == {"0.0": "identity", "0.1": "identity"}


def test_block_run_twice_goes_only_as_a_whole() -> None:
    assert found(PreActivation(4), Twice(4)) == {"0": "identity", "1": "identity"}


def test_activations_too_small_to_see_are_no_identity() -> None:
    tiny = nn.Conv2d(4, 4, 3, padding=1)
    with torch.no_grad():
        for parameter in tiny.parameters():
            parameter.mul_(1e-12)
    assert found(tiny, nn.Conv2d(4, 4, 1), PreActivation(4)) == {"2": "identity"}


@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("name", ["torchvision:vgg11", "torchvision:alexnet"])
def test_plain_chain_gets_the_reason(name: str) -> None:
    with pytest.raises(PruningError, match=r"no block of this torchvision.*shortcut"):
        find_blocks(build_model(name, Shape(image_size=(64, 64))))


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(
    ("name", "blocks", "removable"),
    [
        ("resnet32", 15, 13),
        ("resnet56", 27, 25),
        # The first block of a torchvision stage projects unless the stem has the stage's width already.
        ("torchvision:resnet18", 8, 5),
        ("torchvision:resnet50", 16, 12),
        ("torchvision:convnext_tiny", 18, 18),
        ("torchvision:mobilenet_v2", 15, 10),
        ("torchvision:efficientnet_b0", 14, 9),
        ("torchvision:regnet_y_400mf", 15, 12),
        ("torchvision:swin_t", 12, 12),
        ("torchvision:vit_b_16", 12, 12),
    ],
)
def test_families(name: str, blocks: int, removable: int) -> None:
    result = find_blocks(build_model(name, Shape()))
    assert len(result) == blocks
    assert sum(block.residue is not None for block in result) == removable


def test_stages_of_resnet32() -> None:
    result = find_blocks(build_model("resnet32", Shape(channels=1, image_size=(8, 8))))
    assert [block.name for block in result] == [f"layer{stage}.{n}" for stage in (1, 2, 3) for n in range(5)]
    assert [block.stage for block in result] == [0] * 5 + [1] * 5 + [2] * 5
    assert [block.position for block in result] == [0, 1, 2, 3, 4] * 3
    assert {block.name for block in result if block.residue is None} == {"layer2.0", "layer3.0"}


def test_nothing_is_left_behind() -> None:
    network = build_model("resnet20", Shape()).train()
    before, generator = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    find_blocks(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert torch.equal(torch.get_rng_state(), generator)
