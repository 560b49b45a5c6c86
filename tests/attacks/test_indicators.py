"""Each indicator of attack failure on networks and attacks that have, or have not, what it stands for."""

import math

import pytest
import torch
from test_attack_checks import Before, Scaled
from torch import nn

from robustprune.attacks import run_attack, transfer_attack
from robustprune.attacks.engine.attack_result import Check
from robustprune.attacks.engine.indicators import check_convergence, check_silent_success, check_stability
from robustprune.attacks.engine.joint_results import joint_checks
from robustprune.attacks.engine.loss_path import LONGEST_END, LossPath


class Linear(nn.Module):
    """Two classes, told by the sum of the pixels."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, images):
        total = self.slope * (images.flatten(1) - 0.5).sum(1)
        return torch.stack([total, -total], dim=1)


class Sine(nn.Module):
    """One wave of a height and length upon a slope."""

    def __init__(self, height, length):
        super().__init__()
        self.height, self.length = height, length

    def forward(self, images):
        pixel = images.flatten(1)[:, 0]
        margin = pixel + self.height * torch.sin(2 * math.pi * pixel / self.length)
        return torch.stack([margin, -margin], dim=1)


@pytest.mark.parametrize("slope", [1e-3, 1.0, 1e3])
def test_a_linear_network_changes_as_its_gradient_says(slope):
    images = torch.rand(16, 1, 4, 4) * 0.9 + 0.05
    check, passes = check_stability(Linear(slope), images)
    assert check.verdict == "PASS"
    assert "0% of it" in check.detail
    assert passes == 32


@pytest.mark.parametrize(("length", "wanted"), [(2 / 255, "WARN"), (0.5 / 255, "WARN"), (100 / 255, "PASS")])
def test_waves_as_short_as_the_step_are_told_from_long_ones(length, wanted):
    images = torch.linspace(0.2, 0.8, 16).reshape(16, 1, 1, 1)
    assert check_stability(Sine(0.05, length), images)[0].verdict == wanted


def test_only_gradients_are_judged_by_where_they_lead():
    images = torch.rand(4, 1, 2, 2)
    assert check_stability(Before(torch.detach, Linear(1.0)), images)[0].verdict == "INFO"
    assert check_stability(Before(lambda x: (x * 4).round() / 4, Linear(1.0)), images)[0].verdict == "INFO"
    assert check_stability(Linear(1.0).to(torch.bfloat16), images)[0].verdict == "PASS"  # it has no weights in it
    half = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).bfloat16()
    assert check_stability(half, images)[0].verdict == "INFO"


def test_an_attack_without_gradients_is_not_judged_by_them(network, test_images, test_labels, verdict):
    shattered = Before(lambda images: images + 0.02 * torch.sin(1000 * images), network)
    settings = {"epsilon": 0.05, "steps": 3}
    assert verdict(run_attack(shattered, test_images[:40], test_labels[:40], **settings), "stability") == "WARN"
    blind = run_attack(shattered, test_images[:40], test_labels[:40], "square", epsilon=0.05, queries=20)
    assert verdict(blind, "stability") == "INFO"
    assert verdict(blind, "large budget") == "PASS"


def test_success_on_the_way_is_only_lost_where_the_last_point_is_asked_for():
    """Along a wave of the margin every other step breaks the sample: the last one of ten does not."""
    images, labels = torch.full((3, 1, 1, 1), 0.5), torch.zeros(3, dtype=torch.long)

    class Alternating(nn.Module):
        def forward(self, images):
            margin = torch.cos(math.pi * (images.flatten(1).sum(1) - 0.5) / 0.01) + 0 * images.flatten(1).sum(1)
            return torch.stack([margin, 0 * margin], dim=1)

    from robustprune.attacks import register_attack
    from robustprune.attacks.registry import ATTACKS

    @register_attack("walks-on")
    def walk(problem):
        for step in range(11):
            problem.evaluate(problem.images + 0.01 * step)

    try:
        settings = {"epsilon": 0.2, "early_stop": False, "frozen": False}
        last = run_attack(Alternating(), images, labels, "walks-on", selection="last", **settings)
        best = run_attack(Alternating(), images, labels, "walks-on", **settings)
    finally:
        del ATTACKS._registered["walks-on"]
    assert last.robust_accuracy == 1
    assert best.robust_accuracy == 0
    for result, wanted in ((last, "WARN"), (best, "PASS")):
        (check,) = [each for each in result.checks if each.name == "silent success"]
        assert check.verdict == wanted
    assert check_silent_success(torch.tensor([True, False, True])).detail.startswith("2 of 3 samples")


def test_another_package_keeps_its_points_to_itself(network, test_images, test_labels, verdict):
    pytest.importorskip("torchattacks")
    result = run_attack(network, test_images[:20], test_labels[:20], "torchattacks:PGD", epsilon=0.05, steps=3)
    assert verdict(result, "silent success") == "INFO"
    assert verdict(result, "convergence") == "INFO"


def test_the_path_is_that_of_a_loop_from_its_definition():
    generator = torch.Generator().manual_seed(0)
    margins = torch.randn(57, 4, generator=generator).cumsum(0) * 0.1
    path, start = LossPath(torch.zeros(4)), torch.zeros(4)
    for step in margins:
        path.begin()
        path.note(torch.tensor([0, 1, 3]), step[[0, 1, 3]])
    bests = torch.stack([start, *[torch.maximum(start, margins[: i + 1].amax(0)) for i in range(57)]])
    bests[:, 2] = 0  # never asked about
    whole, late = path.rise()
    assert torch.equal(whole, bests[-1])
    assert torch.equal(late, bests[-1] - bests[-1 - 6])  # 57 queries have a last tenth of 6
    assert len(path.before) == LONGEST_END


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "PASS"),
        ({"steps": 10}, "PASS"),
        ({"steps": 40, "step_size": 2.5 * 0.05 / 40}, "PASS"),
        ({"steps": 20, "step_size": 0.05 / 200}, "WARN"),  # too short
        ({"steps": 3, "step_size": 0.05 / 6}, "WARN"),  # too few
        ({"steps": 1}, "INFO"),
    ],
)
def test_steps_that_end_on_the_way_up_are_told(network, test_images, test_labels, options, wanted):
    result = run_attack(network, test_images[:100], test_labels[:100], "pgd", epsilon=0.05, **options)
    (check,) = [each for each in result.checks if each.name == "convergence"]
    assert check.verdict == wanted, check.detail


def test_convergence_is_that_of_the_samples_left():
    rise, late = torch.tensor([1.0, 1.0, math.nan]), torch.tensor([0.5, 0.04, math.nan])
    left = torch.tensor([False, True, True])
    assert check_convergence(rise, late, left).verdict == "PASS"
    assert check_convergence(rise, late, torch.tensor([True, True, False])).verdict == "WARN"
    assert check_convergence(rise, late, torch.zeros(3, dtype=torch.bool)).verdict == "INFO"
    assert check_convergence(torch.zeros(3), torch.zeros(3), left).verdict == "WARN"


def test_images_of_another_network_that_do_not_carry_over_are_told(network, test_images, test_labels, verdict):
    settings = {"epsilon": 0.08, "steps": 5}
    same = transfer_attack(network, network, test_images, test_labels, "pgd", **settings)
    assert verdict(same, "transfer failure") == "PASS"
    stranger = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    moved = transfer_attack(network, stranger, test_images, test_labels, "pgd", **settings)
    assert verdict(moved, "transfer failure") == "WARN"


def test_no_budget_is_large_enough_without_gradients(network, test_images, test_labels, verdict):
    for model, wanted in ((network, "PASS"), (Scaled(network, 1e4), "WARN")):
        result = run_attack(model, test_images[:50], test_labels[:50], epsilon=0.05, steps=3, random_start=False)
        assert verdict(result, "large budget") == wanted
    seeing = run_attack(Scaled(network, 1e4), test_images[:50], test_labels[:50], "pgd-margin", epsilon=0.05, steps=3)
    assert verdict(seeing, "large budget") == "PASS"


def test_a_network_of_one_answer_is_not_to_blame(test_images, test_labels, verdict):
    class Constant(nn.Module):
        def forward(self, images):
            return images.flatten(1).sum(1, keepdim=True) * 1e-3 + torch.arange(10.0)

    result = run_attack(Constant(), test_images[:16], test_labels[:16], epsilon=0.05, steps=2)
    assert verdict(result, "large budget") == "PASS"


def test_one_member_of_a_union_that_came_to_its_end_is_enough(network, test_images, test_labels):
    plain = run_attack(network, test_images[:20], test_labels[:20], "noise", draws=1)
    for name in ("convergence", "large budget"):
        for verdicts, wanted in ((("WARN", "PASS"), "PASS"), (("WARN", "INFO"), "WARN"), (("FAIL", "WARN"), "FAIL")):
            members = [type(plain)(**{**vars(plain), "checks": (Check(name, each, ""),)}) for each in verdicts]
            assert [each.verdict for each in joint_checks(members)] == [wanted]
