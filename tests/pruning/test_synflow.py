"""SynFlow against finite differences and its conservation law."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import Tensor, nn

from robustprune.data import ImageData, InMemorySplit
from robustprune.errors import PruningError
from robustprune.models import build_model
from robustprune.pruning import make_criterion, score_blocks, score_weights


def chain(seed: int, normalized: bool) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, filters in ((1, 5), (5, 7), (7, 4)):
        layers.append(nn.Conv2d(inputs, filters, 3, padding=1, bias=False))
        if normalized:
            norm = nn.BatchNorm2d(filters)
            with torch.no_grad():
                norm.weight.uniform_(-2, 2)
                norm.running_var.uniform_(0.1, 3)
                norm.running_mean.uniform_(-1, 1)
            layers.append(norm)
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(4, 10, bias=False))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("normalized", [False, True])
def test_flow_is_conserved_from_layer_to_layer(few_digits: ImageData, seed: int, normalized: bool) -> None:
    model = chain(seed, normalized)
    sums = [float(value.sum()) for value in score_weights(model, few_digits, "synflow").values()]
    assert len(sums) == 4
    assert sums == pytest.approx([sums[0]] * 4, rel=1e-12)
    if not normalized:
        positive = copy.deepcopy(model).double()
        with torch.no_grad():
            for parameter in positive.parameters():
                parameter.abs_()
            assert sums[0] == pytest.approx(float(positive(torch.ones(1, 1, 8, 8).double()).sum()), rel=1e-12)


def flow(network: nn.Module, weights: dict[str, Tensor]) -> float:
    """R by the definition, of a network at initialization: the image that normalization makes all ones."""
    image = (network.normalize.mean + network.normalize.std).expand(1, 1, 8, 8)
    positive = {name: value.abs() for name, value in weights.items()}
    with torch.no_grad():
        return float(torch.func.functional_call(network, positive, (image,)).sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_slopes_times_weights(few_digits: ImageData, seed: int) -> None:
    model = build_model("resnet20", few_digits, seed=seed, width=4)
    scores = score_weights(model, few_digits, "synflow")
    assert all(value.dtype == torch.float64 for value in scores.values())
    network = copy.deepcopy(model).double()
    weights = {name: value.detach() for name, value in network.named_parameters()}
    chooser = random.Random(seed)
    for name in chooser.sample(sorted(scores), 6):
        place = tuple(chooser.randrange(side) for side in weights[name].shape)
        share, values = 1e-4, []
        for factor in (1 + share, 1 - share):
            moved = {**weights, name: weights[name].clone()}
            moved[name][place] *= factor
            values.append(flow(network, moved))
        assert float(scores[name][place]) == pytest.approx((values[0] - values[1]) / (2 * share), rel=1e-4)


def test_neither_data_nor_signs_matter(few_digits: ImageData) -> None:
    model = build_model("resnet20", few_digits, width=4)
    flipped = copy.deepcopy(model)
    with torch.no_grad():
        flipped.layer1[1].conv1.weight.neg_()
    split = few_digits.require("train")
    noise = ImageData(
        "noise",
        few_digits.classes,
        (0.1,),
        (0.9,),
        False,
        InMemorySplit(torch.randint(256, split.images.shape, dtype=torch.uint8), split.labels),
    )
    assert score_blocks(model, few_digits, "synflow") == score_blocks(flipped, noise, "synflow", seed=5)


def test_the_deepest_network_stays_within_float64(few_digits: ImageData) -> None:
    scores = score_blocks(build_model("resnet110", few_digits), few_digits, "synflow")
    assert min(scores.values()) > 1e38  # beyond float32


def test_normalization_by_the_signal_is_refused(few_digits: ImageData) -> None:
    model = nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 10))
    with pytest.raises(PruningError, match="synflow has no meaning for 1: LayerNorm"):
        make_criterion("synflow").weight_scores(model, few_digits, 0)


def test_saturation_is_refused(few_digits: ImageData) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8, bias=False), nn.ReLU6(), nn.Linear(8, 10))
    with torch.no_grad():
        model[1].weight.fill_(1)
    with pytest.raises(PruningError, match="saturate"):
        make_criterion("synflow").weight_scores(model, few_digits, 0)
