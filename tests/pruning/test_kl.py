"""KL against a network whose two outputs are known, and against scipy."""

from __future__ import annotations

import copy
from math import exp, log

import pytest
import torch
from scipy.special import rel_entr
from torch import Tensor, nn

from robustprune.data import ImageData, InMemorySplit
from robustprune.errors import PruningError
from robustprune.models import build_model
from robustprune.pruning import Block, find_blocks, make_criterion, score_blocks


class Doubling(nn.Module):
    """x + Wx with W = diag(1, 0)."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.branch.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))

    def forward(self, features: Tensor) -> Tensor:
        return features + self.branch(features)


def test_two_softmaxes_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), Doubling())
    images = torch.tensor([[255, 0], [0, 255]], dtype=torch.uint8).view(2, 1, 1, 2)
    data = ImageData("two", ("a", "b"), (0.0,), (1.0,), False, InMemorySplit(images, torch.tensor([0, 1])))
    block = Block("1", depth=0, stage=0, position=0, stage_size=1, parameters=4, residue="identity")
    # The first image's logits are (2, 0) with the block and (1, 0) without; the second's (0, 1) either way.
    p, q = exp(2) / (exp(2) + 1), exp(1) / (exp(1) + 1)
    first = p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))
    assert make_criterion("kl").score(model, [block], data, 0) == pytest.approx({"1": first / 2}, rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_divergence_from_the_network_with_a_silenced_block(few_digits: ImageData, seed: int) -> None:
    model = build_model("resnet20", few_digits, seed=seed, width=4)
    images = few_digits.require("train").images / 255
    scores = score_blocks(model, few_digits, "kl", samples=10_000)
    for block in find_blocks(model):
        if block.residue is None:
            continue
        silent = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in silent.get_submodule(block.name).parameters():
                parameter.zero_()
            p, q = (network(images).double().softmax(dim=1).numpy() for network in (model, silent))
        assert scores[block.name] == pytest.approx(rel_entr(p, q).sum(axis=1).mean(), rel=1e-3, abs=1e-9)


def test_divergences_of_rounding_are_refused(few_digits: ImageData) -> None:
    model = build_model("resnet20", few_digits, width=4)
    with torch.no_grad():
        model.fc.weight.mul_(1e-9)
    with pytest.raises(PruningError, match="rounding noise"):
        score_blocks(model, few_digits, "kl", samples=20)
