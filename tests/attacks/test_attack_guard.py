"""The network, and the process around it, are as they were."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from robustprune.attacks import fgsm, run_attack
from robustprune.errors import AttackError, ModelError


def state_of(network):
    return (
        [module.training for module in network.modules()],
        [parameter.requires_grad for parameter in network.parameters()],
        [None if each.grad is None else each.grad.clone() for each in network.parameters()],
        {name: tensor.clone() for name, tensor in network.state_dict().items()},
        torch.get_rng_state(),
        np.random.get_state(),
        random.getstate(),
        torch.is_grad_enabled(),
    )


def assert_same(now, before):
    torch.testing.assert_close(now[:5], before[:5], rtol=0, atol=0)
    np.testing.assert_equal(now[5], before[5])
    assert now[6:] == before[6:]


@pytest.fixture
def in_use(network, test_images, test_labels):
    """A network in the middle of training: mixed modes, one weight frozen, gradients accumulated."""
    network.train()
    network[1].eval()
    nn.CrossEntropyLoss()(network(test_images[:8]), test_labels[:8]).backward()
    network[0].bias.requires_grad_(False)
    yield network
    network[0].bias.requires_grad_(True)


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_nothing_changes(in_use, test_images, test_labels, attack):
    before = state_of(in_use)
    images = test_images.clone()
    run_attack(in_use, images, test_labels, attack, epsilon=0.05, restarts=2)
    assert_same(state_of(in_use), before)
    assert torch.equal(images, test_images)
    assert not images.requires_grad


def test_nothing_changes_when_the_attack_fails_midway(in_use, test_images, test_labels, register):
    def fails(problem):
        problem.gradient(problem.random_start())
        torch.rand(3), np.random.rand(3), random.random()
        raise KeyError("midway")

    register("fails", fails)
    before = state_of(in_use)
    with pytest.raises(KeyError, match="midway"):
        run_attack(in_use, test_images, test_labels, "fails")
    assert_same(state_of(in_use), before)


def test_nothing_changes_when_the_model_fails_midway(in_use, test_images, test_labels):
    calls = []

    def fail(module, inputs):
        calls.append(1)
        if len(calls) > 25:  # past the making of the frozen copy
            raise RuntimeError("out of luck")

    before = state_of(in_use)
    hook = in_use.register_forward_pre_hook(fail)
    with pytest.raises(ModelError, match="out of luck"):
        run_attack(in_use, test_images, test_labels, epsilon=0.05)
    hook.remove()
    assert_same(state_of(in_use), before)


def test_global_random_states_survive_an_attack_that_draws_from_them(network, test_images, test_labels, register):
    def draws(problem):
        problem.evaluate(problem.images + torch.rand_like(problem.images) + np.random.rand() + random.random())

    register("draws", draws)
    before = state_of(network)
    run_attack(network, test_images, test_labels, "draws")
    assert_same(state_of(network), before)


def test_batch_statistics_survive_a_layer_that_insists_on_training(network, test_images, test_labels):
    class Insists(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(True)

    model = nn.Sequential(Insists(1), network)
    before = state_of(model)
    run_attack(model, test_images, test_labels, epsilon=0.05, steps=2)
    assert_same(state_of(model), before)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_had_where_the_caller_switched_them_off(network, test_images, test_labels, context):
    expected = run_attack(network, test_images, test_labels, epsilon=0.05, steps=3)
    with context():
        images = test_images.clone()
        result = run_attack(network, images, test_labels.clone(), epsilon=0.05, steps=3)
        assert not torch.is_grad_enabled()
    assert result.valid
    assert torch.equal(result.adversarial, expected.adversarial)
    assert not result.adversarial.is_inference()


def test_weights_no_gradient_can_pass_are_a_clean_error(test_images, test_labels):
    with torch.inference_mode():
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(AttackError, match="inference_mode"):
        run_attack(model, test_images, test_labels)


def test_a_plug_in_attack_runs_with_options_and_checks(network, test_images, test_labels, register):
    # The example of the package's documentation.
    def momentum(problem, *, steps=10, decay=0.9):
        points, velocity = problem.random_start(), 0
        for _ in range(steps):
            velocity = decay * velocity + problem.steepest(problem.gradient(points, "margin"))
            points = problem.project(points + problem.epsilon / 4 * problem.steepest(velocity))
        problem.evaluate(points, "margin")

    register("momentum", momentum)
    one_step = run_attack(network, test_images, test_labels, "fgsm", epsilon=0.05)
    for norm in ("linf", "l2"):
        result = run_attack(network, test_images, test_labels, "momentum", epsilon=0.05, norm=norm, steps=8)
        assert result.valid
        assert result.options["steps"] == 8
        assert result.options["decay"] == 0.9
        assert (result.perturbation_norms <= 0.05 * (1 + 1e-5)).all()
        assert norm == "l2" or result.robust_accuracy <= one_step.robust_accuracy


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("selection", ["best", "last"])
def test_far_proposals_are_contained(network, test_images, test_labels, register, norm, selection):
    def far(problem):
        problem.evaluate(problem.images + 1e6)
        problem.gradient(torch.full_like(problem.images, -1e30))
        problem.evaluate(1 - problem.images)

    register("far", far)
    result = run_attack(network, test_images, test_labels, "far", epsilon=0.1, norm=norm, selection=selection)
    assert (result.perturbation_norms <= 0.1 * (1 + 1e-5)).all()
    assert result.adversarial.min() >= 0
    assert result.adversarial.max() <= 1
    assert result.valid


def test_an_attack_that_moves_the_images_themselves_is_found_out(network, test_images, test_labels, register, verdict):
    def cheat(problem):
        problem.images.mul_(0.5)
        problem.evaluate(problem.images)

    register("cheat", cheat)
    result = run_attack(network, test_images, test_labels, "cheat", epsilon=0.01)
    assert verdict(result, "containment") == "FAIL"
    assert not result.valid


@pytest.mark.parametrize(
    ("points", "complaint"),
    [
        (lambda images: images[:3], "shape"),
        (lambda images: images + torch.nan, "NaN"),
        (lambda images: images - torch.inf, "infinity"),
    ],
)
def test_proposals_that_are_no_points_are_a_clean_error(network, test_images, test_labels, register, points, complaint):
    register("broken", lambda problem: problem.evaluate(points(problem.images)))
    with pytest.raises(AttackError, match=complaint):
        run_attack(network, test_images, test_labels, "broken")


def test_a_network_that_normalizes_in_place_can_be_attacked(network, test_images, test_labels):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(images.sub_(0.01))

    images = test_images.clone()
    adversarial = fgsm(InPlace(), images, test_labels, epsilon=0.05)
    assert torch.equal(images, test_images)
    assert (adversarial - images).abs().max() <= 0.05 * (1 + 1e-5)
