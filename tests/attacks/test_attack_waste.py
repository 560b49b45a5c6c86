"""What an attack does not pay for twice, counted, and that leaving it out changes nothing."""

import subprocess
import sys

import pytest
import torch

from robustprune.attacks import AttackProblem, run_attack


def test_no_image_of_square_is_looked_at_twice(network, test_images, test_labels, monkeypatch):
    robust = run_attack(network, test_images, test_labels, "pgd-margin", epsilon=0.02).broken.logical_not()
    images, labels = test_images[robust][:8], test_labels[robust][:8]
    asked: list[tuple[int, bytes]] = []
    ask = AttackProblem.ask

    def listen(problem, rows, points, *arguments, **options):
        asked.extend((int(row), point.numpy().tobytes()) for row, point in zip(rows, points, strict=True))
        return ask(problem, rows, points, *arguments, **options)

    monkeypatch.setattr(AttackProblem, "ask", listen)
    # On 8×8 images patches of one pixel come back: there are 128 of them.
    result = run_attack(network, images, labels, "square", epsilon=0.01, queries=400, first_share=0.02)
    assert result.robust_accuracy == 1
    assert len(asked) == len(set(asked))
    # Of 400 patches for each many were of the kind that is left out.
    assert 8 * 50 < len(asked) < 8 * 300


def test_steps_are_numbered_alike_however_few_samples_are_together(network, test_images, test_labels):
    settings = {"attack": "square", "epsilon": 0.05, "queries": 300, "first_share": 0.02}
    together = run_attack(network, test_images[:60], test_labels[:60], **settings)
    alone = [
        run_attack(network, test_images[i : i + 1], test_labels[i : i + 1], sample_ids=[i], **settings)
        for i in together.broken.nonzero().flatten().tolist()[:12]
    ]
    steps = together.broken_at_step[together.broken][:12].tolist()
    assert [int(each.broken_at_step) for each in alone] == steps
    assert max(steps) > 100


def test_a_boundary_crossed_is_left_without_its_gradient(network, test_images, test_labels):
    robust = run_attack(network, test_images, test_labels, "pgd-margin", epsilon=0.03).broken.logical_not()
    images, labels = test_images[robust], test_labels[robust]
    result = run_attack(network, images, labels, "fab-t", epsilon=0.005, steps=20, target_classes=2)
    assert result.robust_accuracy == 1
    ways = 2 * len(labels)
    # One per step, and a second one in that of the first time across, which nobody expected.
    assert 20 * ways <= result.gradient_evaluations <= 21 * ways
    # Nearly always across: else there would be nothing to save.
    assert result.forward_evaluations - result.gradient_evaluations > 15 * ways


def test_the_end_of_an_ascent_is_left_without_its_gradient(network, test_images, test_labels):
    robust = run_attack(network, test_images, test_labels, "pgd-margin", epsilon=0.03).broken.logical_not()
    images, labels = test_images[robust], test_labels[robust]
    for steps in (1, 7):
        result = run_attack(network, images, labels, "apgd-t", epsilon=0.005, steps=steps, target_classes=2)
        assert result.robust_accuracy == 1
        # Of each ascent, the points it began at and came by, not the one where it ended.
        assert result.gradient_evaluations == 2 * steps * len(labels)


def test_mistakes_are_judged_once(network, test_images, test_labels):
    wrong = (test_labels + 1) % 10
    with torch.no_grad():
        is_wrong = network(test_images).argmax(1) != wrong
    n = int(is_wrong.sum())
    result = run_attack(network, test_images[is_wrong], wrong[is_wrong])
    checks = 16 + 16 + 1 + 1 + 18
    assert result.forward_evaluations == n + checks
    assert torch.equal(result.adversarial_predictions, result.clean_predictions)


@pytest.mark.slow
def test_no_compiler_is_loaded_to_freeze_a_network():
    # It takes longer than the attack.
    script = """
import sys, torch
from torch import nn
from robustprune.inference import freeze
network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
frozen = freeze(network, torch.rand(2, 1, 8, 8))
assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
