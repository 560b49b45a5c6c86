"""Criteria of activations against numpy: singular values, absolute means, and NIPALS written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustprune.data import ImageData, InMemorySplit
from robustprune.errors import PruningError
from robustprune.models import build_model
from robustprune.pruning import find_blocks, make_criterion, prunable_convolutions, score_blocks, score_filters
from robustprune.pruning.criteria.hrank import matrix_ranks

EVERY = 10_000  # more samples than few_digits has images: all of them are used, in their own order

Features = dict[str, np.ndarray[Any, Any]]


def features_at(model: nn.Module, modules: dict[str, str], data: ImageData) -> Features:
    """Return {name: output (N, C, H, W) of its module} over the whole training split."""
    caught: dict[str, Tensor] = {}

    def catch(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: caught.update({name: output.clone()})

    handles = [model.get_submodule(module).register_forward_hook(catch(name)) for name, module in modules.items()]
    with torch.no_grad():
        model(data.require("train").images / 255)
    for handle in handles:
        handle.remove()
    return {name: value.numpy() for name, value in caught.items()}


def rank_share(maps: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    values = np.linalg.svd(maps.astype(np.float64), compute_uv=False)
    return (values > 1e-5 * values.max(axis=-1, keepdims=True)).sum(axis=-1).mean(axis=0) / max(maps.shape[2:])


def nipals_importance(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], components: int) -> np.ndarray[Any, Any]:
    """VIP by the textbook algorithm, the dominant direction of each component from an eigenproblem."""
    x, y = (x - x.mean(axis=0)), (y - y.mean(axis=0))
    x, y = (part / np.where(part.std(axis=0) == 0, 1, part.std(axis=0)) for part in (x, y))
    numerator, total = np.zeros(x.shape[1]), 0.0
    for _ in range(components):
        cross = x.T @ y
        weight = cross @ np.linalg.eigh(cross.T @ cross)[1][:, -1]
        weight /= np.linalg.norm(weight)
        scores = x @ weight
        loading = y.T @ scores / (scores @ scores)
        explained = (scores @ scores) * (loading @ loading)
        x = x - np.outer(scores, x.T @ scores / (scores @ scores))
        y = y - np.outer(scores, loading)
        numerator += explained * weight**2
        total += explained
    return np.sqrt(x.shape[1] * numerator / total)


def joint_importance(features: Features, labels: Tensor) -> Features:
    pooled = {name: maps.astype(np.float64).mean(axis=(2, 3)) for name, maps in features.items()}
    one_hot = (labels.numpy()[:, None] == np.unique(labels.numpy())).astype(float)
    found = nipals_importance(np.concatenate(list(pooled.values()), axis=1), one_hot, 2)
    ends = np.cumsum([values.shape[1] for values in pooled.values()])
    return dict(zip(pooled, np.split(found, ends[:-1]), strict=True))


def expected(criterion: str, features: Features, labels: Tensor) -> Features:
    if criterion == "pls":
        return joint_importance(features, labels)
    by_filter = rank_share if criterion == "hrank" else lambda maps: np.abs(maps).mean(axis=(0, 2, 3))
    return {name: by_filter(maps) for name, maps in features.items()}


# Before the activation all maps of 8×8 digits and smaller have full rank.
@pytest.mark.quick_cases(5)
@pytest.mark.filterwarnings("ignore:criterion hrank scored all")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("criterion", ["hrank", "expected_abs", "pls"])
@pytest.mark.parametrize("site", ["output", "branch"])
def test_blocks_against_numpy(few_digits: ImageData, criterion: str, seed: int, site: str) -> None:
    model = build_model("resnet20", few_digits, seed=seed, width=4)
    names = [block.name for block in find_blocks(model) if block.residue]
    at = {name: name if site == "output" else f"{name}.bn2" for name in names}
    oracle = expected(criterion, features_at(model, at, few_digits), few_digits.require("train").labels)
    found = score_blocks(model, few_digits, criterion, samples=EVERY, site=site)
    assert list(found) == names
    assert found == pytest.approx({name: float(value.mean()) for name, value in oracle.items()}, rel=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("criterion", ["hrank", "expected_abs", "pls"])
def test_filters_are_judged_behind_normalization_and_activation(
    few_digits: ImageData, criterion: str, seed: int
) -> None:
    model = build_model("resnet20", few_digits, seed=seed, width=4)
    layers = list(prunable_convolutions(model, find_blocks(model)).values())
    assert len(layers) == 9
    at = {layer: layer.replace("conv1", "bn1") for layer in layers}
    activated = {layer: np.maximum(maps, 0) for layer, maps in features_at(model, at, few_digits).items()}
    oracle = expected(criterion, activated, few_digits.require("train").labels)
    found = score_filters(model, layers, few_digits, criterion, samples=EVERY)
    assert list(found) == layers
    for layer in layers:
        np.testing.assert_allclose(found[layer].numpy(), oracle[layer], rtol=1e-4)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_ranks_of_products_of_known_rank(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    for rank in range(min(shape) + 1):
        left, right = (torch.randn(50, side, rank, generator=generator) for side in shape)
        assert matrix_ranks(left @ right.mT, 1e-5).tolist() == [rank] * 50


def test_singular_values_on_either_side_of_the_tolerance() -> None:
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())[0]
    just = [torch.diag(torch.tensor([1.0, 1.0, small], dtype=torch.float64)) for small in (1.05e-3, 0.95e-3)]
    assert matrix_ranks(torch.stack([turn @ each @ turn.T for each in just]), 1e-3).tolist() == [3, 2]


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("criterion", ["hrank", "expected_abs", "pls", "kl"])
def test_batches_do_not_change_scores(few_digits: ImageData, criterion: str) -> None:
    model = build_model("resnet20", few_digits, width=4)
    whole, parts = (score_blocks(model, few_digits, criterion, samples=60, batch_size=size) for size in (60, 25))
    assert parts == pytest.approx(dict(whole), rel=1e-3, abs=1e-9)


def test_batch_statistics_are_those_of_the_batch(few_digits: ImageData) -> None:
    model = build_model("resnet20", few_digits, width=4)
    found = score_filters(model, ["layer1.1.conv1"], few_digits, "expected_abs", bn_mode="batch", samples=50)
    # Standardized and roughly normal: E|relu(z)| = 1/√(2π) whatever the filter.
    assert found["layer1.1.conv1"].numpy() == pytest.approx(1 / np.sqrt(2 * np.pi), rel=0.15)


class Mixing(nn.Module):
    """A residual block over the last dimension: of tokens (N, T, D) or channels-last maps (N, H, W, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.mix(self.norm(features))


class Mixer(nn.Module):
    def __init__(self, tokens: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 2, stride=2)
        self.blocks = nn.Sequential(Mixing(6), Mixing(6))
        self.head = nn.Linear(6, 10)
        self.tokens = tokens

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images).movedim(1, -1)
        features = self.blocks(features.flatten(1, 2) if self.tokens else features)
        return self.head(features.flatten(1, -2).mean(dim=1))


@pytest.mark.parametrize("tokens", [True, False])
def test_tokens_and_channels_last(few_digits: ImageData, tokens: bool) -> None:
    model = Mixer(tokens).eval()
    blocks = find_blocks(model, torch.rand(2, 1, 8, 8))
    raw = features_at(model, {block.name: block.name for block in blocks}, few_digits)
    channels_first = {name: np.moveaxis(value.reshape(len(value), 4, 4, 6), -1, 1) for name, value in raw.items()}
    for criterion in ("expected_abs", "pls"):
        oracle = expected(criterion, channels_first, few_digits.require("train").labels)
        found = make_criterion(criterion, samples=EVERY).score(model, blocks, few_digits, 0)
        assert found == pytest.approx({name: float(value.mean()) for name, value in oracle.items()}, rel=1e-4)
    with pytest.raises(PruningError, match=r"hrank needs feature maps.*tokens or channels-last"):
        make_criterion("hrank").score(model, blocks, few_digits, 0)


def foreign(images: Tensor, labels: Tensor) -> ImageData:
    return ImageData("foreign", tuple("0123456789"), (0.5,), (0.3,), False, InMemorySplit(images, labels))


def test_what_cannot_be_fitted_is_refused(few_digits: ImageData) -> None:
    model = build_model("resnet20", few_digits, width=4)
    with pytest.raises(PruningError, match="use components=11"):
        score_blocks(model, few_digits, "pls", samples=12, components=20)
    split = few_digits.require("train")
    ones = split.labels == 1
    with pytest.raises(PruningError, match="all of one class"):
        score_blocks(model, foreign(split.images[ones], split.labels[ones]), "pls")
    with pytest.raises(PruningError, match="the same on all images"):
        score_blocks(model, foreign(torch.zeros_like(split.images), split.labels), "pls")


def test_the_sample_is_seeded_and_holds_every_class(few_digits: ImageData) -> None:
    model = build_model("resnet20", few_digits, width=4)
    first, again, other = (score_blocks(model, few_digits, "expected_abs", samples=40, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert score_blocks(model, few_digits, "expected_abs", samples=2)  # raised to one image of each class


class Gated(nn.BatchNorm2d):
    """A normalization with its activation inside, as timm has them."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop = nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(features)))


@pytest.mark.parametrize(
    "tail", [[], [nn.BatchNorm2d(3)], [nn.BatchNorm2d(3), nn.ReLU6()], [Gated(3)], [nn.Tanh()]], ids=str
)
def test_what_follows_a_convolution(few_digits: ImageData, tail: list[nn.Module]) -> None:
    maps = nn.Sequential(nn.Conv2d(1, 3, 3), *tail)
    model = nn.Sequential(maps, nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10)).eval()
    found = make_criterion("expected_abs", samples=EVERY).filter_scores(model, ["0.0"], few_digits, 0)["0.0"]
    with torch.no_grad():
        oracle = maps(few_digits.require("train").images / 255).abs().mean(dim=(0, 2, 3))
    torch.testing.assert_close(found.float(), oracle)
