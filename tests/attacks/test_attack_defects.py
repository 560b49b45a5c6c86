"""Planted defects trip the check made for them, and another one only where the defect really causes both."""

import pytest
import torch
from test_attack_checks import Before, Scaled, StaysInTraining
from torch import nn
from torch.nn import functional as F

from robustprune.attacks import run_attack
from robustprune.errors import AttackError
from robustprune.inference import predict_logits


class TrainingStatistics(nn.BatchNorm2d):
    """Normalizes by the batch, whatever it is told."""

    def train(self, mode=True):
        return super().train(True)


class KillsGradients(nn.Module):
    def forward(self, images):
        return (images * 16).round() / 16


class AlwaysDrops(nn.Module):
    """Dropout that no mode switches off."""

    def forward(self, images):
        return F.dropout(images, 0.2, training=True)


class ResizesAtRandom(nn.Module):
    def forward(self, images):
        side = int(torch.randint(6, 9, ()))
        small = F.interpolate(images, size=(side, side), mode="bilinear")
        left = int(torch.randint(0, 9 - side, ()))
        return F.pad(small, (left, 8 - side - left, left, 8 - side - left))


class Softmax(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images).softmax(1)


def couple(images):
    """Shift every image by what the others of the batch look like."""
    return images - 0.3 * (images.mean(0, keepdim=True) - 0.3)


def normalize(images):
    return (images - 0.3) / 0.37


# Defect → the model, and the checks that it trips. Several only where the defect causes each of them:
# dropout in training mode draws at random; batch statistics make each image depend on the others; the clean accuracy
# of a network that draws at random is another in each pass; without a gradient no budget is large enough; probabilities
# bend within a step.
STUCK = {"zero gradient": "FAIL", "large budget": "WARN"}
RANDOM = {"randomness": "FAIL", "clean agreement": "FAIL"}
DEFECTS = {
    "logits times 1e4": (lambda net: Scaled(net, 1e4), STUCK),
    "gradients killed": (lambda net: Before(KillsGradients(), net), STUCK),
    "dropout left on": (lambda net: Before(StaysInTraining(0.2), net), {"mode": "FAIL"} | RANDOM),
    "dropout without a mode": (lambda net: Before(AlwaysDrops(), net), RANDOM),
    "softmax output": (lambda net: Softmax(net), {"logits": "WARN", "stability": "WARN"}),
    "batch statistics": (
        lambda net: nn.Sequential(TrainingStatistics(1), net),
        {"mode": "FAIL", "batch coupling": "FAIL"},
    ),
    "random resizing": (lambda net: Before(ResizesAtRandom(), net), RANDOM),
    "coupled batches": (lambda net: Before(couple, net), {"batch coupling": "FAIL"}),
}


def tripped(result):
    return {check.name: check.verdict for check in result.checks if check.verdict in ("WARN", "FAIL")}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_trips_its_own_check(network, test_images, test_labels, defect):
    make, expected = DEFECTS[defect]
    model = make(network).eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        evaluated = predict_logits(model, test_images, batch_size=256).argmax(1)
    settings = {"expected_clean_accuracy": float((evaluated == test_labels).double().mean())}
    result = run_attack(model, test_images, test_labels, epsilon=0.05, steps=3, random_start=False, **settings)
    assert tripped(result) == expected
    assert result.valid == ("FAIL" not in expected.values())


def test_images_normalized_twice_are_told_by_the_clean_accuracy(network, test_images, test_labels):
    honest = (predict_logits(network, test_images).argmax(1) == test_labels).double().mean()
    model = Before(normalize, network)
    result = run_attack(model, test_images, test_labels, epsilon=0.05, expected_clean_accuracy=float(honest))
    assert tripped(result) == {"clean agreement": "FAIL"}
    with pytest.raises(AttackError, match="normalization inside the model"):
        run_attack(network, normalize(test_images), test_labels, epsilon=0.05)


def test_epsilon_given_in_bytes_is_refused(network, test_images, test_labels):
    with pytest.raises(AttackError, match="forgot /255"):
        run_attack(network, test_images, test_labels, epsilon=8)


def test_expectation_over_draws_makes_a_random_network_attackable(network, test_images, test_labels, verdict):
    model = Before(AlwaysDrops(), network)
    settings = {"epsilon": 0.08, "steps": 5}
    result = run_attack(model, test_images[:100], test_labels[:100], eot=10, **settings)
    assert verdict(result, "randomness") == "WARN"
    assert result.valid
    assert result.options["eot"] == 10
    again = run_attack(model, test_images[:100], test_labels[:100], eot=10, **settings)
    assert torch.equal(again.broken, result.broken)


@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("attack", ["pgd", "quick"])
def test_a_sound_model_trips_nothing_thorough_either(network, test_images, test_labels, attack):
    result = run_attack(network, test_images, test_labels, attack, epsilon=0.05, checks="full")
    assert tripped(result) == {}
    names = [check.name for check in result.checks]
    for name in ("no budget", "large budget", "monotone", "strength order", "black box", "convergence"):
        assert name in names


def test_thorough_checks_see_through_saturation(network, test_images, test_labels):
    found = run_attack(
        Scaled(network, 1e4), test_images[:100], test_labels[:100], epsilon=0.08, random_start=False, checks="full"
    )
    assert tripped(found) == {
        "zero gradient": "FAIL",
        "large budget": "FAIL",
        # A random start moves saturated samples further than steps that stand still.
        "strength order": "WARN",
        "black box": "WARN",
        "margin loss": "WARN",
    }


def test_too_few_steps_have_not_converged(network, test_images, test_labels, verdict):
    result = run_attack(
        network, test_images, test_labels, epsilon=0.08, steps=2, step_size=0.01, random_start=False, checks="full"
    )
    assert verdict(result, "convergence") == "WARN"
    assert verdict(result, "strength order") == "WARN"
    assert result.valid


def test_an_attack_that_stops_working_at_larger_budgets_is_not_monotone(network, test_images, test_labels, monkeypatch):
    from robustprune.attacks import ATTACKS
    from robustprune.attacks.pgd import attack as pgd_attack

    def shy(problem):
        if problem.epsilon < 0.1:
            pgd_attack(problem, steps=5)

    monkeypatch.setitem(ATTACKS._registered, "shy", shy)
    result = run_attack(network, test_images, test_labels, "shy", epsilon=0.15, checks="full")
    assert tripped(result)["monotone"] == "WARN"


def test_an_attack_that_moves_images_without_a_budget_is_found_out(network, test_images, test_labels, monkeypatch):
    from robustprune.attacks import ATTACKS

    def careless(problem):
        problem.images.add_(0.01).clamp_(0, 1)
        problem.best.points.copy_(problem.images)

    monkeypatch.setitem(ATTACKS._registered, "careless", careless)
    result = run_attack(network, test_images, test_labels, "careless", epsilon=0.02, checks="full")
    assert tripped(result)["no budget"] == "FAIL"


def test_a_targeted_attack_passes_too(network, test_images, test_labels, verdict):
    targets = (test_labels + 1) % 10
    result = run_attack(network, test_images, test_labels, epsilon=0.1, targets=targets, steps=5, checks="full")
    assert result.clean_accuracy < 1  # some are wrong to begin with, and not on target for that
    assert verdict(result, "no budget") == "PASS"
    assert result.valid
