"""What an attack does not pay for twice, counted, and that leaving it out changes nothing."""

import subprocess
import sys

import torch

from robustprune.attacks import run_attack
from robustprune.attacks.square import _LinfSearch


class Forgetful(dict):
    def get(self, key, default=None):
        return default


def test_a_refused_patch_is_not_tried_again(network, test_images, test_labels, monkeypatch):
    # On 8×8 images patches of one pixel come back: there are 128 of them.
    settings = {"attack": "square", "epsilon": 0.05, "queries": 1500, "first_share": 0.02, "batch_size": 300}
    images, labels = test_images[:100], test_labels[:100]
    found = run_attack(network, images, labels, **settings)
    remember = _LinfSearch.__init__

    def forget(search, problem, saved):
        remember(search, problem, saved)
        search.tried = Forgetful()

    monkeypatch.setattr(_LinfSearch, "__init__", forget)
    forgetful = run_attack(network, images, labels, **settings)
    assert 0.1 < found.robust_accuracy < 0.9
    assert found.forward_evaluations < 0.5 * forgetful.forward_evaluations
    assert int((found.broken != forgetful.broken).sum()) <= 1
    same = found.broken == forgetful.broken
    torch.testing.assert_close(found.adversarial[same], forgetful.adversarial[same])


def test_a_boundary_crossed_is_left_without_its_gradient(network, test_images, test_labels):
    robust = run_attack(network, test_images, test_labels, "pgd-margin", epsilon=0.03).broken.logical_not()
    images, labels = test_images[robust], test_labels[robust]
    result = run_attack(network, images, labels, "fab-t", epsilon=0.005, steps=20, target_classes=2)
    assert result.robust_accuracy == 1
    ways = 2 * len(labels)
    # One per step, and a second one in the few where nobody expected to be across.
    assert 20 * ways <= result.gradient_evaluations <= 24 * ways
    # Nearly always across: else there would be nothing to save.
    assert result.forward_evaluations - result.gradient_evaluations > 15 * ways


def test_mistakes_are_judged_once(network, test_images, test_labels):
    wrong = (test_labels + 1) % 10
    with torch.no_grad():
        is_wrong = network(test_images).argmax(1) != wrong
    n = int(is_wrong.sum())
    result = run_attack(network, test_images[is_wrong], wrong[is_wrong])
    checks = 16 + 16 + 1 + 1 + 18
    assert result.forward_evaluations == n + checks
    assert torch.equal(result.adversarial_predictions, result.clean_predictions)


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
