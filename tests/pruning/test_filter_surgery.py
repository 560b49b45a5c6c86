"""Removal of filters against an independent masking: what they feed set to zero where the next layer reads it."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from support import Shape, shaken
from torch import Tensor, nn

from robustprune.errors import PruningError
from robustprune.models import build_model
from robustprune.pruning import find_blocks, prunable_convolutions, remove_filters

# Network, image size, and the layers within a block that read the first convolution's channels.
CASES = [
    ("resnet32", 16, ["conv2"]),
    ("torchvision:resnet18", 32, ["conv2"]),
    ("torchvision:resnet50", 32, ["conv2"]),
    ("torchvision:mobilenet_v2", 32, ["conv.2"]),
    ("wrn-16-4", 16, ["conv2"]),
    ("timm:resnetv2_50", 32, ["conv2"]),
    ("timm:seresnet50", 32, ["conv2"]),
    ("timm:efficientnet_b0", 32, ["se"]),
]


def some_filters(network: nn.Module, convolutions: list[str], seed: int = 0) -> dict[str, list[int]]:
    """Return a third of each convolution's filters, in no order."""
    generator = np.random.default_rng(seed)
    widths = {name: len(network.get_parameter(f"{name}.weight")) for name in convolutions}
    return {name: generator.permutation(width)[: width // 3].tolist() for name, width in widths.items()}


def masked_logits(network: nn.Module, readers: dict[str, list[int]], images: Tensor) -> Tensor:
    def silence(channels: list[int], _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        features = inputs[0].clone()
        features[:, channels] = 0
        return features, *inputs[1:]

    handles = [
        network.get_submodule(name).register_forward_pre_hook(partial(silence, channels))
        for name, channels in readers.items()
    ]
    with torch.inference_mode():
        logits: Tensor = network(images)
    for handle in handles:
        handle.remove()
    return logits


@pytest.mark.quick_cases(2)
@pytest.mark.filterwarnings("ignore:.*keep all their filters")
@pytest.mark.parametrize(("name", "size", "readers"), CASES, ids=[case[0] for case in CASES])
def test_removing_equals_masking(name: str, size: int, readers: list[str]) -> None:
    network = shaken(build_model(name, Shape(image_size=(size, size)))).double()
    images = torch.rand(3, 3, size, size, dtype=torch.float64)
    found = prunable_convolutions(network)
    removed = some_filters(network, list(found.values()))
    by_reader = {f"{block}.{reader}": removed[first] for block, first in found.items() for reader in readers}
    pruned = remove_filters(network, removed)
    expected = masked_logits(network, by_reader, images)
    with torch.inference_mode():
        logits, dense = pruned(images), network(images)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    assert (expected - dense).abs().max() > 1e-5
    assert [n for n, _ in pruned.named_parameters()] == [n for n, _ in network.named_parameters()]
    for first, indices in removed.items():
        assert pruned.get_submodule(first).out_channels == network.get_submodule(first).out_channels - len(indices)


def test_what_is_kept_is_kept_bit_by_bit() -> None:
    network = shaken(build_model("resnet20", Shape(image_size=(8, 8))))
    network.train()
    network.layer1[0].bn1.eval()
    network.layer2[1].conv2.weight.requires_grad_(False)
    network.fc.bias.requires_grad_(False)
    removed = {"layer1.1.conv1": [3, 0, 15], "layer2.1.conv1": [31]}
    pruned = remove_filters(network, removed)
    before, after = network.state_dict(), pruned.state_dict()
    assert list(before) == list(after)
    for name, value in after.items():
        expected = before[name]
        for first, indices in removed.items():
            kept = [i for i in range(network.get_submodule(first).out_channels) if i not in indices]
            block = first.removesuffix("conv1")
            if name == f"{block}conv2.weight":
                expected = expected[:, kept]
            elif name.startswith((first, f"{block}bn1")) and expected.ndim:
                expected = expected[kept]
        assert value.dtype == expected.dtype
        assert torch.equal(value, expected), name
    # No trace in either: modes, what is trained, and the original's shapes are as they were.
    modes = {name: module.training for name, module in network.named_modules()}
    assert {name: module.training for name, module in pruned.named_modules()} == modes
    assert modes["layer1.0.bn1"] is False
    assert modes["layer1.0.bn2"] is True
    trained = {name: value.requires_grad for name, value in network.named_parameters()}
    assert {name: value.requires_grad for name, value in pruned.named_parameters()} == trained
    assert not trained["layer2.1.conv2.weight"]
    assert network.layer1[1].conv1.weight.shape == (16, 16, 3, 3)
    assert pruned.architecture == network.architecture
    assert pruned.initial_seed == network.initial_seed
    # It is a copy, which shares no memory.
    pruned.conv1.weight.detach().zero_()
    assert network.conv1.weight.abs().max() > 0


def test_generators_and_gradient_modes_are_left_alone() -> None:
    network = build_model("resnet20", Shape(image_size=(8, 8)), width=4)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            convolutions = list(prunable_convolutions(network).values())
            pruned = remove_filters(network, {name: [1] for name in convolutions})
        assert not any(value.is_inference() for value in pruned.state_dict().values())
        pruned(torch.zeros(2, 3, 8, 8)).sum().backward()  # so that it can be trained
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert all(value.grad is None for value in network.parameters())


def test_all_but_one_can_go() -> None:
    network = build_model("torchvision:mobilenet_v2", Shape())
    pruned = remove_filters(network, {"network.features.2.conv.0.0": range(95)})
    assert pruned.network.features[2].conv[1][0].weight.shape == (1, 1, 3, 3)
    assert pruned(torch.rand(2, 3, 32, 32)).isfinite().all()
    again = remove_filters(pruned, {"network.features.3.conv.0.0": [0]})
    assert again.network.features[3].conv[1][0].groups == 143


REFUSED = [
    ("resnet20", "layer1.1.conv1", [16], "filters 0 to 15; there is no filter 16"),
    ("resnet20", "layer1.1.conv1", [-1], "there is no filter -1"),
    ("resnet20", "layer1.1.conv1", [1, 1], "twice"),
    ("resnet20", "layer1.1.conv1", range(16), "all 16 filters.*at least one has to stay"),
    ("resnet20", "layer1.1.bn1", [0], "no convolution"),
    ("resnet20", "layer9.1.conv1", [0], "no convolution"),
    ("resnet20", "conv1", [0], "in no residual block"),
    ("resnet20", "layer1.1.conv2", [0], "coupled to those of .*, outside the block"),
    ("resnet20", "layer2.0.shortcut.0", [0], "coupled to those of .*, outside the block"),
    ("torchvision:convnext_tiny", "network.features.1.0.block.0", [0], "outside the block"),
    ("torchvision:resnext50_32x4d", "network.layer1.1.conv1", [0], r"layer1\.1\.conv2, a convolution in 32 groups"),
    ("timm:resnetv2_50x1_bit", "network.stages.0.blocks.1.conv1", [0], "normalization in 32 groups"),
    ("timm:nfnet_f0", "network.stages.1.1.conv1", [0], "ScaledStdConv2d with a parameter of its own"),
    ("timm:res2net50_26w_4s", "network.layer1.1.conv1", [0], "in another order, or on both sides"),
]


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(("name", "convolution", "indices", "match"), REFUSED)
def test_what_cannot_go(name: str, convolution: str, indices: list[int], match: str) -> None:
    network = build_model(name, Shape())
    with pytest.raises(PruningError, match=match) as caught:
        remove_filters(network, {convolution: indices})
    assert convolution in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("torchvision:resnext50_32x4d", "no filters of this network.*32 groups"),
        ("torchvision:convnext_tiny", "no filters of this network.*1 convolutions"),
        ("torchvision:vit_b_16", "no filters of this network.*0 convolutions"),
    ],
)
def test_networks_without_filters_to_spare(name: str, match: str) -> None:
    with pytest.raises(PruningError, match=match):
        prunable_convolutions(build_model(name, Shape()))


@pytest.mark.needs("timm")
def test_blocks_that_keep_their_filters_are_named() -> None:
    network = build_model("timm:efficientnet_b1", Shape())
    with pytest.warns(match=r"2 of 23 blocks keep all their filters: network\.blocks\.0\.0, network\.blocks\.0\.1"):
        found = prunable_convolutions(network)
    assert all(name == f"{block}.conv_pw" for block, name in found.items())
    assert len(found) == 21


class ShortcutFirst(nn.Module):
    """A block whose shortcut is registered and run before the branch, and gated by the branch's end."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(channels, width, 1, stride=stride) if stride > 1 else nn.Identity()
        self.second = nn.Conv2d(width + 1, width, 3, padding=1)
        self.first = nn.Conv2d(channels, width + 1, 3, stride=stride, padding=1)
        self.norm = nn.BatchNorm2d(width + 1)
        self.gate = nn.Conv2d(width, width, 1)
        self.unused = nn.Conv2d(channels, 2, 1)

    def forward(self, features: Tensor) -> Tensor:
        self.unused(features)
        shortcut = self.shortcut(features)
        branch = self.second(self.norm(self.first(features)).relu())
        return shortcut + branch * self.gate(branch.mean(dim=(2, 3), keepdim=True)).sigmoid()


def test_the_shortcut_is_never_the_first_convolution() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), ShortcutFirst(4, 4, 1), ShortcutFirst(4, 6, 2), ShortcutFirst(6, 6, 1), nn.Flatten(1)
    ).eval()
    images = torch.rand(2, 3, 10, 10)
    found = prunable_convolutions(network, example=images)
    assert found == {"1": "1.first", "2": "2.first", "3": "3.first"}
    pruned = remove_filters(network, {"2.first": [0, 4]}, example=images)
    expected = masked_logits(network, {"2.second": [0, 4]}, images)
    torch.testing.assert_close(pruned(images), expected, rtol=0, atol=1e-6)
    with pytest.raises(PruningError, match=r"2\.unused cannot go: .*nothing depends on it"):
        remove_filters(network, {"2.unused": [0]}, example=images)


@pytest.mark.quick_cases(1)
@pytest.mark.parametrize(("name", "total", "filters"), [("resnet32", 1232, 560), ("resnet56", 2128, 1008)])
def test_removable_filters_of_the_papers_networks(name: str, total: int, filters: int) -> None:
    network = build_model(name, Shape(image_size=(8, 8)))
    found = prunable_convolutions(network)
    assert len(found) == len(find_blocks(network)) == (15 if name == "resnet32" else 27)
    assert sum(network.get_submodule(convolution).out_channels for convolution in found.values()) == filters
    smallest = remove_filters(network, {c: range(network.get_submodule(c).out_channels - 1) for c in found.values()})
    left = sum(m.out_channels for m in smallest.modules() if isinstance(m, nn.Conv2d))
    # ResNet56: 1008 filters in first convolutions, of which one of each of 27 stays.
    assert total - left == filters - len(found)
