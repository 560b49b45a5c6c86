"""Criteria that compare a network with and without each block, against their definitions written out."""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import log

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import LinearRegression
from small_networks import COUNT, few_images, small_network, without
from torch import Tensor, nn

import robustprune as rp
from robustprune.data import ImageData, InMemorySplit
from robustprune.errors import PruningError
from robustprune.models import build_model
from robustprune.pruning import Block, find_blocks, make_criterion, score_blocks

Array = np.ndarray
KINDS = ("maps", "tokens")


def score(criterion: str, network: nn.Module, data: ImageData, **options: object) -> list[float]:
    """The scores of three blocks, in order."""
    images = data.require("train").images[:2] / 255
    found = make_criterion(criterion, **options).score(network, find_blocks(network, images), data, 0)
    assert list(found) == ["blocks.0", "blocks.1", "blocks.2"]
    return list(found.values())


def images_of(data: ImageData) -> Tensor:
    return data.require("train").images / 255


def features_of(network: nn.Module, images: Tensor) -> Array:
    """What the head receives, (N, D), of tokens the mean."""
    caught: list[Tensor] = []
    handle = network.head.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
    with torch.no_grad():
        network(images)
    handle.remove()
    return caught[0].double().numpy()


def hsic(first: Array, second: Array) -> float:
    """The unbiased estimate of Song et al. 2012 of two Gram matrices."""
    n = len(first)
    one, other = (gram - np.diag(np.diag(gram)) for gram in (first, second))
    ones = np.ones(n)
    means = (ones @ one @ ones) * (ones @ other @ ones) / ((n - 1) * (n - 2))
    return float((np.trace(one @ other) + means - 2 / (n - 2) * ones @ one @ other @ ones) / (n * (n - 3)))


def one_minus_cka(first: Array, second: Array) -> float:
    centering = np.eye(len(first)) - 1 / len(first)
    one, other = (centering @ each @ each.T @ centering for each in (first, second))
    return 1 - hsic(one, other) / np.sqrt(hsic(one, one) * hsic(other, other))


def procrustes(first: Array, second: Array) -> float:
    first, second = ((each - each.mean(axis=0)) / np.linalg.norm(each - each.mean(axis=0)) for each in (first, second))
    turn = orthogonal_procrustes(first, second)[0]
    return float(np.square(first @ turn - second).sum())


def wasserstein(first: Array, second: Array) -> float:
    """By the cheapest assignment of images to images, feature by feature."""
    total = 0.0
    for one, other in zip(first.T, second.T, strict=True):
        costs = np.square(one[:, None] - other[None, :])
        total += costs[linear_sum_assignment(costs)].mean()
    return total / first.var(axis=0).sum()


def unexplained(first: Array, second: Array) -> float:
    rest = first - LinearRegression().fit(second, first).predict(second)
    return float(np.square(rest).sum() / np.square(first - first.mean(axis=0)).sum())


def ranks_by_hand(values: list[float]) -> list[float]:
    return [sum(other < each for other in values) + (sum(other == each for other in values) + 1) / 2 for each in values]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_cka_is_one_minus_the_ratio_of_unbiased_hsic(few_digits: ImageData, kind: str, seed: int) -> None:
    data, network = few_images(few_digits), small_network(kind, few_digits, seed)
    whole = features_of(network, images_of(data))
    expected = [one_minus_cka(whole, features_of(without(network, place), images_of(data))) for place in range(3)]
    assert score("cka", network, data, batch_size=16) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_cka_between_what_goes_into_a_block_and_what_comes_out(few_digits: ImageData, kind: str) -> None:
    data, network = few_images(few_digits), small_network(kind, few_digits, 0)
    stream, expected = images_of(data), []
    with torch.no_grad():
        stream = network.stem(stream)
        stream = stream.relu() if kind == "maps" else stream.flatten(2).mT
        for block in network.blocks:
            before, stream = stream, block(stream)
            expected.append(one_minus_cka(*(each.flatten(1).double().numpy() for each in (before, stream))))
    assert score("cka", network, data, between="block") == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_consensus_adds_the_ranks_by_four_distances(few_digits: ImageData, kind: str, seed: int) -> None:
    data, network = few_images(few_digits), small_network(kind, few_digits, seed)
    whole = features_of(network, images_of(data))
    left = [features_of(without(network, place), images_of(data)) for place in range(3)]
    measures = (one_minus_cka, procrustes, wasserstein, unexplained)
    table = [[measure(whole, each) for each in left] for measure in measures]
    criterion = make_criterion("consensus")
    for place, each in enumerate(left):
        found = criterion.compare(torch.from_numpy(whole), torch.from_numpy(each))
        assert found == pytest.approx([row[place] for row in table], rel=1e-6)
    expected = np.sum([ranks_by_hand(row) for row in table], axis=0)
    assert score("consensus", network, data) == expected.tolist()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_true_drop_is_the_rise_of_the_loss(few_digits: ImageData, kind: str, seed: int) -> None:
    data, network = few_images(few_digits), small_network(kind, few_digits, seed)

    def loss(one: nn.Module) -> float:
        with torch.no_grad():
            shares = one(images_of(data)).double().softmax(dim=1).tolist()
        return -sum(log(share[label]) for share, label in zip(shares, data.train.labels.tolist(), strict=True)) / COUNT

    expected = [loss(without(network, place)) - loss(network) for place in range(3)]
    assert score("true_drop", network, data, batch_size=16) == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_jacobian_norms_are_those_of_forward_differentiation(few_digits: ImageData, kind: str, seed: int) -> None:
    data, network = few_images(few_digits), small_network(kind, few_digits, seed)

    def norm(one: nn.Module) -> float:
        jacobians = torch.func.vmap(torch.func.jacrev(lambda image: one(image[None])[0]))(images_of(data))
        return float(jacobians.detach().double().square().flatten(1).sum(dim=1).mean().sqrt())

    expected = [norm(without(network, place)) - norm(network) for place in range(3)]
    assert score("jacobian", network, data, batch_size=16) == pytest.approx(expected, rel=1e-3)


class Growing(nn.Module):
    """x + c·x."""

    def __init__(self, width: int, factor: float) -> None:
        super().__init__()
        self.branch = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            self.branch.weight.copy_(factor * torch.eye(width))

    def forward(self, features: Tensor) -> Tensor:
        return features + self.branch(features)


def growing_network(width: int = 9, factor: float = 0.5) -> tuple[nn.Module, list[Block], ImageData]:
    """(1 + c)·x, whose Jacobian of norm (1 + c)·√width each direction sees as a whole."""
    network = nn.Sequential(nn.Flatten(), Growing(width, factor))
    images = torch.randint(256, (6, 1, 1, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = InMemorySplit(images, torch.arange(6))
    data = ImageData("noise", tuple("abcdefghi"[:width]), (0.0,), (1.0,), False, split)
    return network, [Block("1", 0, 0, 0, 1, width**2, "identity")], data


@pytest.mark.parametrize("projections", [1, 3, 9, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_any_number_of_projections_of_a_scaled_rotation(projections: int, seed: int) -> None:
    network, blocks, data = growing_network()
    found = make_criterion("jacobian", projections=projections).score(network, blocks, data, seed)
    assert found == pytest.approx({"1": 3 - 4.5}, rel=1e-6)


def test_projections_estimate_the_norm_and_follow_the_seed(few_digits: ImageData) -> None:
    data, network = few_images(few_digits), small_network("tokens", few_digits, 0)
    exact = np.array(score("jacobian", network, data))
    criterion, blocks = make_criterion("jacobian", projections=4), find_blocks(network, images_of(data))
    draws = [list(criterion.score(network, blocks, data, seed).values()) for seed in range(8)]
    assert draws[0] == list(criterion.score(network, blocks, data, 0).values()) != draws[1]
    assert np.abs(np.mean(draws, axis=0) - exact).max() < 0.1 * np.abs(exact).max()


def codes_by_hand(network: nn.Module, kind: str, images: Tensor) -> list[list[bool]]:
    """Which units are above zero behind each ReLU, image by image."""
    seen: list[Tensor] = []

    def relu(features: Tensor) -> Tensor:
        seen.append((features > 0).flatten(1))
        return features.clamp(min=0)

    with torch.no_grad():
        if kind == "maps":
            stream = relu(network.stem(images))
            for block in network.blocks:
                first, norm, _, last = block.branch
                inner = first(stream)
                mean, var = inner.mean(dim=(0, 2, 3)), inner.var(dim=(0, 2, 3), unbiased=False)
                inner = nn.functional.batch_norm(inner, mean, var, norm.weight, norm.bias)
                stream = relu(stream + last(relu(inner)))
        else:
            stream = network.stem(images).flatten(2).mT
            for block in network.blocks:
                stream = stream + block.mix2(relu(block.mix1(block.norm(stream))))
    return torch.cat(seen, dim=1).tolist()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_naswot_is_the_fall_of_a_determinant_of_hamming_distances(few_digits: ImageData, kind: str, seed: int) -> None:
    data, network = few_images(few_digits), small_network(kind, few_digits, seed)

    def by_hand(one: nn.Module) -> float:
        codes = codes_by_hand(one, kind, images_of(data))
        kernel = np.empty((COUNT, COUNT))
        for i, j in combinations_with_replacement(range(COUNT), 2):
            kernel[i, j] = kernel[j, i] = len(codes[i]) - sum(a != b for a, b in zip(codes[i], codes[j], strict=True))
        sign, size = np.linalg.slogdet(kernel)
        assert sign == 1
        return float(size)

    expected = [by_hand(network) - by_hand(without(network, place)) for place in range(3)]
    assert score("naswot", network, data) == pytest.approx(expected, rel=1e-6)
    if kind == "tokens":  # no batch normalization, so batches make no difference
        assert score("naswot", network, data, batch_size=7) == pytest.approx(expected, rel=1e-6)


def test_blocks_go_as_tickets_lose_them(few_digits: ImageData) -> None:
    data = few_images(few_digits)
    model = build_model("resnet20", few_digits, width=2)
    scores = score_blocks(model, data, "true_drop")
    loss = nn.functional.cross_entropy
    labels = data.require("train").labels
    for name in ("layer1.1", "layer3.2"):
        ticket = rp.prune_layers(model, blocks=[name], data=data).network.eval()
        with torch.no_grad():
            drop = loss(ticket(images_of(data)), labels) - loss(model.eval()(images_of(data)), labels)
        assert scores[name] == pytest.approx(float(drop), abs=1e-5)


class Smooth(Growing):
    """x + c·gelu(x)."""

    def forward(self, features: Tensor) -> Tensor:
        return features + nn.functional.gelu(self.branch(features))


def test_what_cannot_be_scored_is_refused(few_digits: ImageData) -> None:
    _, blocks, data = growing_network()
    with pytest.raises(PruningError, match="no ReLU was seen in the network"):
        make_criterion("naswot").score(nn.Sequential(nn.Flatten(), Smooth(9, 1.0)), blocks, data, 0)
    with pytest.raises(PruningError, match="no fully connected layer"):
        make_criterion("cka").score(nn.Sequential(nn.Flatten(), nn.ReLU()), [], data, 0)
    few = few_images(few_digits)
    same = ImageData(
        "same", few.classes, few.mean, few.std, False, InMemorySplit(few.train.images * 0, few.train.labels)
    )
    tokens = small_network("tokens", few_digits, 0)
    for criterion, message in {
        "cka": "the same on all images",
        "naswot": "is 0 for 30 images, with a block or without it",
    }.items():
        with pytest.raises(PruningError, match=message):
            score(criterion, tokens, same)
    with pytest.raises(PruningError, match="bn_mode='batch'"):
        make_criterion("jacobian", bn_mode="batch")


class Detached(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).detach()


def test_a_jacobian_that_no_gradient_reaches() -> None:
    network, _, data = growing_network()
    blocks = [Block("network.1", 0, 0, 0, 1, 81, "identity")]
    with pytest.raises(PruningError, match="no gradient reaches the images"):
        make_criterion("jacobian").score(Detached(network), blocks, data, 0)


class SequenceFirst(nn.Module):
    """A block on tokens (T, N, D), of which ReLUs see as many as there are places first."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.mix(tokens).relu()


class Rows(nn.Module):
    """The rows of an image as tokens, sequence first."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(SequenceFirst())
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(images[:, 0].transpose(0, 1)).mean(dim=0))


def test_codes_of_sequences_first_are_refused(few_digits: ImageData) -> None:
    data = few_images(few_digits)
    network = Rows().eval()
    with pytest.raises(PruningError, match="its first dimension does not count images"):
        make_criterion("naswot").score(network, find_blocks(network, images_of(data)), data, 0)


class Encoder(nn.Module):
    """The rows of an image as tokens, between which torch's own layers attend: fused, unless they are kept from it."""

    def __init__(self) -> None:
        super().__init__()
        layers = (nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True) for _ in range(2))
        self.blocks, self.head = nn.Sequential(*layers), nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(images[:, 0]).mean(dim=1))


def test_fused_layers_show_their_codes(few_digits: ImageData) -> None:
    torch.manual_seed(0)
    data, network = few_images(few_digits), Encoder().eval()
    scores = score_blocks(network, data, "naswot", samples=15)
    assert len(scores) == 2
    assert min(scores.values()) > 0
