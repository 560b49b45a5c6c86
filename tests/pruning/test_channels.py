"""Where channels are is told by what layers do: blocks of known layouts on images of any size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_networks import FORMS, WIDTH, odd_network
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.pruning import Block, make_criterion, score_blocks, score_filters
from robustprune.pruning.criteria.activations import block_sites


class Around(nn.Module):
    """A shortcut around a function of features (N, C, H, W), which arrive and leave with channels at ``dim``."""

    def __init__(self, dim: int, layers: nn.Module, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.dim, self.layers, self.function = dim, layers, function

    def forward(self, features: Tensor) -> Tensor:
        usual = features.movedim(self.dim, 1)
        return features + self.function(self.layers, usual).movedim(1, self.dim)


def at_the_end(layers: nn.Module, features: Tensor) -> Tensor:
    return layers(features.movedim(1, -1)).movedim(-1, 1)


def side_by_side(layers: nn.ModuleList, features: Tensor) -> Tensor:
    return torch.cat([layer(features) for layer in layers], dim=1)


def scaled(layers: nn.ModuleList, features: Tensor) -> Tensor:
    gate = layers[1](features.mean(dim=(2, 3)))[:, :, None, None]
    return layers[0](features) * gate.sigmoid()


def over_channels(layers: nn.Module, features: Tensor) -> Tensor:
    """Efficient channel attention: a convolution along the channels, last."""
    gate = layers[1](features.mean(dim=(2, 3))[:, None])[:, 0]
    return layers[0](features) * gate[:, :, None, None].sigmoid()


def along_places(layers: nn.ModuleList, features: Tensor) -> Tensor:
    """An MLP-Mixer: first a linear layer over the positions, then one over the channels."""
    mixed = layers[0](features.flatten(2)).view_as(features)
    return mixed + at_the_end(layers[1], mixed)


def conv(inputs: int, filters: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, filters, size, padding=size // 2)


LAYOUTS: dict[str, tuple[Callable[[int, int], nn.Module], Callable[[nn.Module, Tensor], Tensor]]] = {
    "convolutions": (lambda c, _: nn.Sequential(conv(c, 2 * c), nn.ReLU(), conv(2 * c, c)), lambda f, x: f(x)),
    "grouped": (lambda c, _: nn.Conv2d(c, c, 3, padding=1, groups=c), lambda f, x: f(x)),
    "transposed": (lambda c, _: nn.ConvTranspose2d(c, c, 3, padding=1), lambda f, x: f(x)),
    "linear": (lambda c, _: nn.Sequential(nn.LayerNorm(c), nn.Linear(c, c)), at_the_end),
    "normalized last": (lambda c, _: nn.Sequential(nn.Linear(c, c), nn.LayerNorm(c)), at_the_end),
    "beside": (lambda c, _: nn.ModuleList([conv(c, 1), conv(c, c - 1, 1)]), side_by_side),
    "gated": (lambda c, _: nn.ModuleList([conv(c, c), nn.Linear(c, c)]), scaled),
    "one gate": (lambda c, _: nn.ModuleList([conv(c, c), nn.Linear(c, 1)]), scaled),
    "gated along channels": (lambda c, _: nn.ModuleList([conv(c, c), nn.Conv1d(1, 1, 3, padding=1)]), over_channels),
    "mixed": (lambda c, n: nn.ModuleList([nn.Linear(n, n), nn.Linear(c, c)]), along_places),
}


@settings(max_examples=20)
@given(
    channels=st.integers(3, 6),
    height=st.integers(2, 6),
    width=st.integers(2, 6),
    dim=st.sampled_from([1, 3]),
    closed=st.booleans(),
)
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_channels_are_told_from_positions(
    layout: str, channels: int, height: int, width: int, dim: int, closed: bool
) -> None:
    torch.manual_seed(0)
    make, function = LAYOUTS[layout]
    block = Around(dim, make(channels, height * width), function)
    if closed:  # as of zero-initialized branches
        for parameter in block.parameters():
            nn.init.zeros_(parameter)
    found = Block("0", depth=0, stage=0, position=0, stage_size=1, parameters=0, residue="identity")
    features = torch.rand(2, channels, height, width).movedim(1, dim)
    for images in (features, features.contiguous()):
        site = block_sites(nn.Sequential(block).eval(), [found], images, "output")["0"]
        assert (site.channel_dim, site.shape) == (dim, tuple(features.shape))


@pytest.mark.parametrize(
    ("module", "shape"), [(nn.Conv1d(6, 6, 3, padding=1), (2, 6, 6)), (nn.Linear(6, 6), (2, 6, 6))]
)
def test_sequences_as_long_as_wide(module: nn.Module, shape: tuple[int, ...]) -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = module

        def forward(self, features: Tensor) -> Tensor:
            return features + self.layer(features)

    block = Block("0", depth=0, stage=0, position=0, stage_size=1, parameters=0, residue="identity")
    sites = block_sites(nn.Sequential(Sequence()), [block], torch.rand(2, 6, 6), "output")
    assert sites["0"].channel_dim == (1 if isinstance(module, nn.Conv1d) else 2)


@pytest.mark.parametrize("form", ["concatenating", "reversible", "two inputs"])
def test_importance_in_projection_of_channels_not_columns(few_digits: ImageData, form: str) -> None:
    """Turning every image by 90° and every kernel with it moves columns to rows, and leaves channels where they are."""
    network, turned = FORMS[form](few_digits).eval(), FORMS[form](few_digits).eval()
    with torch.no_grad():
        for module in turned.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(module.weight.rot90(dims=(2, 3)))
    split = few_digits.require("train")
    images = type(split)(split.images.rot90(dims=(2, 3)).contiguous(), split.labels)
    others = ImageData("turned", few_digits.classes, few_digits.mean, few_digits.std, False, images)
    for criterion in ("pls", "expected_abs", "hrank"):
        found = score_blocks(network, few_digits, criterion)
        assert score_blocks(turned, others, criterion) == pytest.approx(dict(found), rel=1e-3)


def test_the_branch_of_a_permuting_block_is_its_last_layer(few_digits: ImageData) -> None:
    network = FORMS["permuting"](few_digits).eval()
    caught: list[Tensor] = []
    handle = network.blocks[1].mix.register_forward_hook(lambda _m, _i, output: caught.append(output))
    with torch.no_grad():
        network(few_digits.require("train").images / 255)
    handle.remove()
    found = score_blocks(network, few_digits, "expected_abs", site="branch", samples=10_000)
    assert found["blocks.1"] == pytest.approx(float(caught[0].abs().mean()), rel=1e-4)


@pytest.mark.parametrize("permuted", [False, True])
def test_only_what_is_given_a_filters_maps_follows_it(few_digits: ImageData, permuted: bool) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.maps = nn.Conv2d(1, WIDTH, 3, padding=1)
            self.norm = nn.LayerNorm(WIDTH) if permuted else nn.BatchNorm2d(WIDTH)
            self.head = nn.Linear(WIDTH, 10)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.maps(images)
            maps = self.norm(maps.movedim(1, -1)).movedim(-1, 1) if permuted else self.norm(maps)
            return self.head(maps.mean(dim=(2, 3)))

    network = Network().eval()
    images = few_digits.require("train").images / 255
    with torch.no_grad():
        maps = network.maps(images) if permuted else network.norm(network.maps(images))
    found = make_criterion("expected_abs", samples=10_000).filter_scores(network, ["maps"], few_digits, 0)["maps"]
    np.testing.assert_allclose(found, maps.abs().mean(dim=(0, 2, 3)), rtol=1e-4)


def test_filters_that_no_call_shows(few_digits: ImageData) -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

        def forward(self, features: Tensor) -> Tensor:
            return features + nn.functional.conv2d(features, self.mix.weight, self.mix.bias, padding=1)

    network = odd_network(few_digits, Hidden)
    with pytest.raises(PruningError, match=r"never calls blocks\.0\.mix as a module"):
        score_filters(network, ["blocks.0.mix"], few_digits, "expected_abs")
    with pytest.raises(PruningError, match=r"blocks\.0 returns \(8, 8, 8\), and no convolution"):
        score_blocks(network, few_digits, "expected_abs")
    assert score_filters(network, ["blocks.0.mix"], few_digits, "snip")["blocks.0.mix"].all()
