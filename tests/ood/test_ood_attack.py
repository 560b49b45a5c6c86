"""Attacks on scores, against the optimum of a linear network in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from robustprune.ood import OOD, Detector, Extractor, evaluate_ood, fit_detectors, register_detector
from robustprune.ood.attack import LOWER, RAISE, attack_detectors, drive, score_attack
from robustprune.ood.detector_scores import score_outputs

EPSILON = 0.05


@pytest.fixture
def linear():
    """A network whose first logit is always the largest by far, on images away from the edges of the box."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        network[1].bias.copy_(torch.tensor([50.0, 0, 0]))
    images = 0.2 + 0.6 * torch.rand(12, 1, 4, 4)
    extractor = Extractor(network, images)
    return network, extractor, extractor.run(images)


@pytest.mark.parametrize("direction", [RAISE, LOWER])
def test_a_linear_score_is_driven_to_its_optimum(linear, direction):
    network, extractor, outputs = linear
    fitted = fit_detectors(["max_logit"], None, None)["max_logit"]
    clean = score_outputs(fitted, outputs)
    attack = score_attack(epsilon=EPSILON, steps=10)
    result = drive(extractor, fitted.detector, outputs, clean, direction, attack)
    moved = score_outputs(fitted, extractor.run(result.adversarial, keep=False))
    # The score is −w₀·x − b₀: within the ball it moves by ε‖w₀‖₁ at most.
    reach = EPSILON * float(network[1].weight[0].detach().abs().sum())
    np.testing.assert_allclose(moved, clean + direction * reach, rtol=1e-5)
    assert result.valid
    assert float((result.adversarial - outputs.images).abs().max()) <= EPSILON * (1 + 1e-5)


@pytest.mark.slow
def test_no_budget_changes_nothing_and_a_larger_one_does_more(case):
    fitted = fit_detectors(["energy", "mahalanobis", "knn", "odin"], case.train, case.held_out)
    inside, outside = case.inside.take(slice(40)), case.outside.take(slice(40))
    entries = [
        attack_detectors(case.extractor, fitted, inside, outside, score_attack(epsilon=epsilon, steps=5))
        for epsilon in (0.0, 0.02, 0.1)
    ]
    for name in fitted:
        none, some, more = (entry.detectors[name] for entry in entries)
        assert none.auroc_both_attacked == pytest.approx(none.auroc_clean, abs=0.002)
        assert none.auroc_clean >= some.auroc_both_attacked >= more.auroc_both_attacked
        assert more.auroc_both_attacked < none.auroc_clean - 0.05
        assert more.auroc_both_attacked <= min(more.auroc_in_attacked, more.auroc_out_attacked)
        assert some.valid, some.checks


def test_a_score_without_a_gradient_is_not_called_robust(case, digits):
    @register_detector("rounded")
    class Rounded(Detector):
        """A score in steps, which no gradient can climb."""

        def __call__(self, outputs):
            return (-outputs.logits.amax(dim=1)).round()

    from robustprune.ood.detector import DETECTORS

    try:
        result = evaluate_ood(
            case.network,
            digits,
            OOD("noise", detectors="rounded", resamples=0, attack_epsilons="8/255", attack_limit=10),
        )
        found = result.entries[0].attacks[0].detectors["rounded"]
        assert not found.valid
        assert {"zero gradient (in)", "zero gradient (out)"} <= {
            check["name"] for check in found.checks if check["verdict"] == "FAIL"
        }
    finally:
        del DETECTORS._registered["rounded"]


def test_a_class_that_only_attacked_images_are_taken_for_is_a_reason():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.stack([torch.zeros(16), torch.ones(16)]))
        network[1].bias.copy_(torch.tensor([0.0, -16 * 0.6]))  # class 1 from a mean of 0.6 on
    images = 0.1 + 0.4 * torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    extractor = Extractor(network, images)
    outputs = extractor.run(images, torch.zeros(8, dtype=torch.int64))
    fitted = fit_detectors(["she", "energy"], outputs, outputs)
    entry = attack_detectors(extractor, fitted, outputs, outputs, score_attack(epsilon=0.5, steps=5))
    assert "class 1, of which no training image is recognized" in entry.detectors["she"].reason
    assert entry.detectors["she"].auroc_clean is None
    assert entry.detectors["energy"].auroc_clean == 0.5
