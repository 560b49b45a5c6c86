"""SNIP and GraSP on FGSM examples, against the same written out with backward()."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.models import build_model
from robustprune.pruning import make_criterion, score_blocks, score_weights
from robustprune.pruning.criteria import scoring_copy

EPSILON = 0.1


@pytest.mark.parametrize("seed", [0, 1])
def test_snip_on_a_hand_made_attack(few_digits: ImageData, seed: int) -> None:
    model = build_model("resnet20", few_digits, seed=seed, width=4).double()
    options = {"bn_mode": "running", "samples_per_class": 10_000, "scoring_images": "adversarial", "epsilon": EPSILON}
    scores = score_weights(model, few_digits, "snip", **options)
    split = few_digits.require("train")
    images = (split.images.double() / 255).requires_grad_(True)
    nn.functional.cross_entropy(model(images), split.labels).backward()
    attacked = (images.detach() + EPSILON * images.grad.sign()).clip(0, 1)
    model.zero_grad()
    nn.functional.cross_entropy(model(attacked), split.labels).backward()
    for name, score in scores.items():
        weight = model.get_parameter(name)
        torch.testing.assert_close(score, (weight * weight.grad).abs().detach(), rtol=1e-7, atol=1e-15)


def test_examples_lie_in_the_ball_and_raise_the_loss(few_digits: ImageData) -> None:
    network = scoring_copy(build_model("resnet20", few_digits, width=4), "batch")
    clean, attacked = (
        make_criterion("grasp", **options).batches(network, few_digits, 0)
        for options in ({}, {"scoring_images": "adversarial", "epsilon": EPSILON})
    )
    for (images, labels), (moved, same) in zip(clean, attacked, strict=True):
        assert torch.equal(labels, same)
        assert not moved.requires_grad
        assert float(moved.min()) >= 0
        assert float(moved.max()) <= 1
        assert float((moved - images).abs().max()) == pytest.approx(EPSILON, abs=1e-6)
        losses = [nn.functional.cross_entropy(network(each), labels).item() for each in (images, moved)]
        assert losses[1] > losses[0]


@pytest.mark.parametrize("criterion", ["snip", "grasp"])
def test_the_attack_changes_the_scores(few_digits: ImageData, criterion: str) -> None:
    model = build_model("resnet20", few_digits, width=4)
    assert score_blocks(model, few_digits, criterion) != score_blocks(
        model, few_digits, criterion, scoring_images="adversarial"
    )


def test_epsilon_without_an_attack_is_refused() -> None:
    with pytest.raises(PruningError, match="epsilon has no effect on clean images"):
        make_criterion("snip", epsilon=0.01)
    dumped = make_criterion("snip").model_dump()
    assert make_criterion("snip", **dumped).model_dump() == dumped


@pytest.mark.parametrize("written", ["8/255", Fraction(8, 255), 8 / 255, "0.03137254901960784"])
def test_epsilon_is_read_as_attacks_read_it(written: object) -> None:
    assert make_criterion("grasp", scoring_images="adversarial", epsilon=written).epsilon == pytest.approx(8 / 255)


@pytest.mark.parametrize("written", ["8/0", "eight", "300/255", 0, float("nan")])
def test_what_is_no_epsilon_is_refused(written: object) -> None:
    with pytest.raises(PruningError, match="epsilon"):
        make_criterion("grasp", scoring_images="adversarial", epsilon=written)
