from __future__ import annotations

import pytest
import torch
from support import Shape
from torch import nn

from robustprune.errors import ModelError, RobustPruneError
from robustprune.models import build_model


@pytest.mark.parametrize(("name", "filters"), [("resnet20", 784), ("resnet32", 1232), ("resnet56", 2128)])
def test_filters_are_those_of_projection_shortcuts(name: str, filters: int) -> None:
    # 16 in the stem, 2n·(16 + 32 + 64) in n blocks a stage, 32 + 64 in the two projections.
    network = build_model(name, Shape())
    assert sum(module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)) == filters


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_depth_counts_convolutions_and_the_linear_layer(depth: int) -> None:
    network = build_model(f"resnet{depth}", Shape())
    main_path = [
        name for name, module in network.named_modules() if isinstance(module, nn.Conv2d) and "shortcut" not in name
    ]
    assert len(main_path) + 1 == depth


@pytest.mark.parametrize(("channels", "size"), [(1, (8, 8)), (3, (32, 32)), (2, (17, 40))])
def test_any_channels_and_size(channels: int, size: tuple[int, int]) -> None:
    shape = Shape(channels=channels, image_size=size, num_classes=7)
    network = build_model("resnet20", shape, width=4)
    images = torch.rand(3, channels, *size)
    features = network.forward_features(images)
    assert features.shape == (3, 16)
    torch.testing.assert_close(network(images), features @ network.fc.weight.T + network.fc.bias)


def test_normalization_is_inside() -> None:
    shape = Shape()
    network = build_model("resnet20", shape)
    images = torch.rand(2, 3, 32, 32)
    normalized = (images - 0.4) / 0.2
    inside, network.normalize = network.normalize, nn.Identity()
    by_hand = network(normalized)
    network.normalize = inside
    torch.testing.assert_close(network(images), by_hand)


def test_seed_decides_the_weights_and_no_generator_moves() -> None:
    state = torch.get_rng_state()
    first, again, other = (build_model("resnet20", Shape(), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


@pytest.mark.parametrize("options", [{"width": 0}, {"width": "wide"}, {"depth": 3}])
def test_wrong_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=next(iter(options))):
        build_model("resnet20", Shape(), **options)


def test_unknown_name_suggests() -> None:
    with pytest.raises(RobustPruneError, match="Did you mean 'resnet32'"):
        build_model("resnet33", Shape())


def test_too_small_images() -> None:
    with pytest.raises(ModelError, match=r"image_size.*greater than or equal to 8"):
        build_model("resnet20", Shape(image_size=(4, 4)))
