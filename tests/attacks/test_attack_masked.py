"""Classes that a network masks by a logit of −∞: everything is as if they were not there."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from robustprune.attacks import attack_options, run_attack
from robustprune.attacks.engine.goal import are_predictions
from robustprune.attacks.losses import LOSSES, TARGETED_LOSSES
from robustprune.errors import AttackError, EvaluationError
from robustprune.inference import freeze
from robustprune.metrics import accuracy, expected_calibration_error, negative_log_likelihood
from robustprune.models import logit_gap

INFINITY = float("inf")
KEPT = [0, 1, 4, 6, 7, 9]
ATTACKS = {
    "linf": (
        "fgsm",
        "mifgsm",
        "pgd",
        "pgd-margin",
        "pgd-dlr",
        "apgd-ce",
        "apgd-dlr",
        "apgd-t",
        "fab-t",
        "square",
        "fmn",
    ),
    "l2": ("pgd", "pgd-dlr", "apgd-t", "fab-t", "square", "ddn"),
    "l1": ("pgd", "pgd-dlr", "apgd-ce", "apgd-t", "fab-t", "square", "fmn"),
}


class Only(nn.Module):
    """Some outputs of a network, the others left out."""

    def __init__(self, network, kept=KEPT):
        super().__init__()
        self.network, self.kept = network, kept

    def forward(self, images):
        return self.network(images)[:, self.kept]


class Masked(Only):
    """Some outputs of a network, the others −∞."""

    def forward(self, images):
        logits = self.network(images)
        is_masked = torch.ones(10, dtype=torch.bool)
        is_masked[self.kept] = False
        return logits.masked_fill(is_masked, -INFINITY)


class Added(Masked):
    """The same by adding log 0."""

    def forward(self, images):
        mask = torch.zeros(10)
        mask[self.kept] = 1
        return self.network(images) + mask.log()


@pytest.fixture
def kept_images(test_images, test_labels):
    is_kept = torch.isin(test_labels, torch.tensor(KEPT))
    return test_images[is_kept][:40], test_labels[is_kept][:40]


CASES = [(Masked, norm, name) for norm, names in ATTACKS.items() for name in names]


@pytest.mark.quick_cases(7)
@pytest.mark.parametrize(("kind", "norm", "name"), [*CASES, (Added, "linf", "pgd"), (Added, "l2", "apgd-t")])
def test_an_attack_breaks_what_it_breaks_of_the_network_without_them(network, kept_images, kind, norm, name):
    images, labels = kept_images
    settings = {"epsilon": {"linf": 0.06, "l2": 0.5, "l1": 2.5}[norm], "norm": norm}
    settings |= {"steps": 10} if "steps" in attack_options(name) else {}
    settings |= {"queries": 50} if "queries" in attack_options(name) else {}
    ours = run_attack(kind(network).eval(), images, labels, name, **settings)
    numbers = torch.tensor([KEPT.index(label) for label in labels.tolist()])
    expected = run_attack(Only(network).eval(), images, numbers, name, **settings)
    assert ours.valid
    # Some of them would break more in more steps, with the mask or without.
    assert {check.verdict for check in ours.checks if check.name != "convergence"} <= {"PASS", "INFO"}
    assert ours.clean_accuracy == expected.clean_accuracy
    # Rounding may turn one on the very boundary.
    assert int((ours.broken != expected.broken).sum()) <= 2
    assert not torch.isin(ours.adversarial_predictions, torch.tensor([2, 3, 5, 8])).any()


def test_classes_that_the_image_decides_on_are_masked_too(network, test_images, test_labels):
    class TopThree(nn.Module):
        def forward(self, images):
            logits = network(images)
            return logits.masked_fill(logits < logits.topk(3).values[:, -1:], -INFINITY)

    images, labels = test_images[:60], test_labels[:60]
    for name, options in {"pgd": {"steps": 10}, "fab-t": {"steps": 5}, "square": {"queries": 50}}.items():
        ours = run_attack(TopThree(), images, labels, name, epsilon=0.06, **options)
        expected = run_attack(network, images, labels, name, epsilon=0.06, **options)
        assert ours.valid, ours.checks
        assert abs(ours.robust_accuracy - expected.robust_accuracy) <= 0.1
    # Towards a class that may be masked on the way: no gradient is NaN for that.
    result = run_attack(TopThree(), images, labels, "apgd-t", steps=10)
    assert next(check for check in result.checks if check.name == "graph").verdict == "PASS"


@pytest.mark.parametrize("name", ["torchattacks:PGD", "foolbox:LinfPGD", "foolbox:LinfDeepFoolAttack"])
def test_attacks_of_other_packages_meet_them(network, kept_images, name):
    ours = run_attack(Masked(network).eval(), *kept_images, name, epsilon=0.1)
    assert ours.valid
    assert ours.robust_accuracy < ours.clean_accuracy


def test_a_masked_target_is_refused(network, kept_images):
    images, labels = kept_images
    with pytest.raises(AttackError, match=f"{len(labels)} targets are classes that the model masks"):
        run_attack(Masked(network).eval(), images, labels, "pgd", targets=torch.full_like(labels, 3))
    targets = torch.where(labels == 0, 1, 0)
    assert run_attack(Masked(network).eval(), images, labels, "pgd", targets=targets, epsilon=0.3).valid


def test_a_masked_label_is_a_mistake(network, test_images, test_labels):
    result = run_attack(Masked(network).eval(), test_images[:60], test_labels[:60], "fgsm")
    assert not result.initially_wrong.logical_not()[torch.isin(test_labels[:60], torch.tensor([2, 3, 5, 8]))].any()


@pytest.mark.parametrize("value", [INFINITY, float("nan"), None])
def test_an_overflow_is_one_still(network, test_images, test_labels, value):
    class Broken(nn.Module):
        def forward(self, images):
            logits = network(images)
            return torch.full_like(logits, -INFINITY) if value is None else logits.index_fill(1, torch.tensor(3), value)

    with pytest.raises(AttackError, match="logits are NaN or infinite on 300 of 300 clean images"):
        run_attack(Broken(), test_images, test_labels)


# Of equal ones any may be called the largest.
numbers = st.lists(st.integers(-80, 80), min_size=5, max_size=5, unique=True)


@given(st.lists(numbers, min_size=1, max_size=6), st.integers(0, 4), st.data())
def test_losses_and_their_gradients_are_those_without_the_classes(rows, label, data):
    logits, shown = ((torch.tensor(rows) / 4).requires_grad_() for _ in range(2))
    labels = torch.full((len(rows),), label)
    masked = torch.cat([logits[:, :2], torch.full((len(rows), 2), -INFINITY), logits[:, 2:]], dim=1)
    moved = torch.where(labels < 2, labels, labels + 2)
    rivals = torch.full_like(labels, data.draw(st.sampled_from([each for each in range(5) if each != label])))
    for loss in LOSSES.values():
        check_same(loss(masked, moved), logits, loss(shown, labels), shown)
    for loss in TARGETED_LOSSES.values():
        moved_rivals = torch.where(rivals < 2, rivals, rivals + 2)
        check_same(loss(masked, moved, moved_rivals), logits, loss(shown, labels, rivals), shown)


def check_same(found, ours, expected, theirs):
    torch.testing.assert_close(found, expected)
    (own,) = torch.autograd.grad(found.sum(), ours, retain_graph=True)
    torch.testing.assert_close(own, torch.autograd.grad(expected.sum(), theirs, retain_graph=True)[0])


def test_ratios_of_two_classes_are_their_difference():
    logits = torch.tensor([[1.0, 3.0, -INFINITY, -INFINITY]], requires_grad=True)
    labels, rivals = torch.tensor([1]), torch.tensor([0])
    for loss in (LOSSES["dlr"](logits, labels), TARGETED_LOSSES["dlr"](logits, labels, rivals)):
        assert loss.item() == pytest.approx(-2)
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert gradient[0, :2].tolist() == pytest.approx([1, -1])


@given(st.lists(st.sampled_from([-INFINITY, INFINITY, math.nan, 0.0, 3.5, -1e30]), min_size=2, max_size=6))
def test_logits_say_a_class_if_any_is_left(row):
    expected = max(row) not in (INFINITY, -INFINITY) and not any(map(math.isnan, row))
    assert are_predictions(torch.tensor([row])).tolist() == [expected]


def test_gaps_pass_over_them():
    expected = torch.tensor([[1.0, -INFINITY, -4.0]])
    assert logit_gap(expected, expected.clone()) == 0
    assert logit_gap(expected, torch.tensor([[3.0, -INFINITY, -4.0]])) == pytest.approx(0.5)
    assert not logit_gap(expected, torch.tensor([[1.0, 0.0, -4.0]])) <= 1
    assert not logit_gap(torch.tensor([[1.0, 0.0, -4.0]]), expected) <= 1
    assert logit_gap(torch.ones(1, 3), torch.ones(2, 3)) == INFINITY


def test_a_frozen_copy_folds_with_them(network, test_images):
    copy = freeze(Masked(network).eval(), test_images[:2])  # without a warning, which would be an error
    assert not any(isinstance(module, nn.BatchNorm2d) for module in copy.modules())


def test_metrics_pass_over_them():
    full = np.array([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0], [1.0, 0.0, -2.0]])
    labels = np.array([0, 2, 1])
    masked = np.insert(full, 1, -np.inf, axis=1)
    moved = np.where(labels < 1, labels, labels + 1)
    for metric in (accuracy, negative_log_likelihood, expected_calibration_error):
        assert metric(masked, moved) == pytest.approx(metric(full, labels))
    with pytest.raises(EvaluationError, match="label of 2 of 3 samples is ruled out"):
        negative_log_likelihood(masked, np.array([1, 1, 0]))
    assert accuracy(masked, np.array([1, 1, 0])) == pytest.approx(1 / 3)
    for wrong in (np.inf, np.nan):
        with pytest.raises(EvaluationError, match="1 of 3 rows of logits are NaN or infinite"):
            accuracy(np.where(np.arange(9).reshape(3, 3) == 4, wrong, full), labels)
