"""Networks that draw at random are judged as they are used, by one pass: the figure is their expected accuracy."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn

from robustprune.attacks import run_attack, security_curve, transfer_attack, union_attack
from robustprune.attacks.requests import Attack

THRESHOLD = 1.6
N = 2000
SETTINGS = {"eot": 10, "batch_size": 1000}


class DropsInputs(nn.Module):
    """Says 1 where the weighted sum of the inputs that were not dropped, each with probability a half, is above a
    threshold: of six inputs there are 64 equally likely networks."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.0, 0.9, 0.8, 1.1, 0.7, 1.2]))

    def forward(self, images):
        keep = (torch.rand_like(images) < 0.5).float()
        score = (images * keep) @ self.weights - THRESHOLD
        return torch.stack([torch.zeros_like(score), 4 * score], dim=1)

    def expected_accuracy(self, images):
        """Return the probability (N,) that one pass says 1."""
        masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))
        return ((masks * self.weights.detach()) @ images.T > THRESHOLD).double().mean(0)


@pytest.fixture
def images():
    return 0.6 + 0.2 * torch.rand(N, 6, generator=torch.Generator().manual_seed(0))


LABELS = torch.ones(N, dtype=torch.long)


def check_binomial(accuracy, chances):
    """Check an accuracy against independent samples with these chances (N,), within four deviations."""
    deviation = (chances * (1 - chances)).sum().sqrt() / len(chances)
    assert abs(accuracy - float(chances.mean())) < 4 * float(deviation) + 1e-9


@pytest.mark.parametrize("epsilon", [0.0, 0.02, 0.1, 0.25])
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_robust_accuracy_is_that_of_one_pass(images, epsilon, attack):
    model = DropsInputs().eval()
    result = run_attack(model, images, LABELS, attack, epsilon=epsilon, **SETTINGS)
    clean, lowest = model.expected_accuracy(images), model.expected_accuracy(images - epsilon)
    check_binomial(result.clean_accuracy, clean)
    # All weights are positive: no attack does better than to darken every input.
    check_binomial(result.robust_accuracy, lowest)
    assert result.robust_accuracy <= result.clean_accuracy
    assert torch.equal(result.broken, result.adversarial_predictions != LABELS)
    assert torch.equal(result.broken, result.broken_at_step >= 0)
    assert [name != "" for name in result.broken_by] == result.broken.tolist()
    assert [name == "clean" for name in result.broken_by] == result.initially_wrong.tolist()


def test_the_mean_of_passes_would_be_another_figure(images):
    model = DropsInputs().eval()
    chances = model.expected_accuracy(images - 0.02)
    # On the mean every sample is right: a figure that would lie far above the clean accuracy of one pass.
    assert bool((((images - 0.02) / 2) @ model.weights.detach() > THRESHOLD).all())
    assert float(model.expected_accuracy(images).mean()) < 0.8
    assert run_attack(model, images, LABELS, epsilon=0.02, **SETTINGS).robust_accuracy < float(chances.mean()) + 0.04


def test_several_attacks_and_budgets_do_not_ask_until_it_breaks(images):
    model = DropsInputs().eval()
    attacks = ["fgsm", Attack("pgd", steps=5), Attack("pgd-margin", steps=5), Attack("square", queries=20)]
    together = union_attack(model, images, LABELS, attacks, epsilon=0.02, **SETTINGS)
    check_binomial(together.robust_accuracy, model.expected_accuracy(images - 0.02))
    curve = security_curve(model, images, LABELS, epsilons=[0.005, 0.01, 0.015, 0.02], steps=5, **SETTINGS)
    for epsilon, accuracy in zip(curve.epsilons, curve.robust_accuracies, strict=True):
        check_binomial(accuracy, model.expected_accuracy(images - epsilon))
    assert curve.robust_accuracies == sorted(curve.robust_accuracies, reverse=True)


def test_images_made_on_another_network_are_judged_by_the_same_pass(images):
    model = DropsInputs().eval()
    moved = transfer_attack(model, DropsInputs().eval(), images, LABELS, epsilon=0.02, **SETTINGS)
    direct = run_attack(model, images, LABELS, epsilon=0.02, **SETTINGS)
    assert torch.equal(moved.clean_predictions, direct.clean_predictions)
    check_binomial(moved.robust_accuracy, model.expected_accuracy(images - 0.02))


class DropsByOtherGenerators(DropsInputs):
    def forward(self, images):
        torch.manual_seed(np.random.randint(1000) + random.randrange(1000))
        return super().forward(images)


def test_draws_of_other_generators_are_the_same_for_an_image_and_what_is_made_of_it(images):
    model = DropsByOtherGenerators().eval()
    result = run_attack(model, images, LABELS, "fgsm", epsilon=0.001, **SETTINGS)
    # Of passes that draw apart, both are right on less than half of the images.
    assert result.clean_accuracy - 0.05 < result.robust_accuracy <= result.clean_accuracy < 0.75


def test_the_outcome_is_repeatable_and_that_of_its_seed(images):
    model = DropsInputs().eval()
    first, again, other = (
        run_attack(model, images, LABELS, "fgsm", epsilon=0.1, seed=s, **SETTINGS) for s in (0, 0, 1)
    )
    assert torch.equal(first.broken, again.broken)
    assert not torch.equal(first.broken, other.broken)
