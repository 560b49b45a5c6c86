"""Attacks in L1: the projection onto ball and box against a root finder, APGD and Square against their authors'."""

import logging

import pytest
import torch
from extras import needs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy import float32
from scipy.optimize import brentq
from test_attack_optimum import Linear
from test_attack_peers import WholeSquare

from robustprune.attacks import AttackProblem, run_attack
from robustprune.attacks.norms import NORMS, contain, nearest_delta, spread
from robustprune.metrics import wilson_interval

EPSILON = 3.0
pixels = arrays(float32, (2, 3, 4), elements=st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0])))
moves = arrays(float32, (2, 3, 4), elements=st.floats(-3, 3, width=32))


def left(network, adversarial, labels):
    with torch.no_grad():
        return float((network(adversarial).argmax(1) == labels).double().mean())


@given(images=pixels, delta=moves, epsilon=st.floats(0.001, 14))
@settings(max_examples=40, deadline=None)
def test_the_nearest_point_of_ball_and_box_is_the_one_that_a_root_finder_finds(images, delta, epsilon):
    images, delta = torch.tensor(images), torch.tensor(delta)
    found = nearest_delta(images + delta, images, epsilon, NORMS["l1"]).double()
    for image, move, answer in zip(images.double(), (images + delta - images).double(), found, strict=True):

        def shrunk(threshold, image=image, move=move):
            kept = move.sign() * (move.abs() - threshold).clamp(min=0)
            return (image + kept).clamp(0, 1) - image

        def excess(threshold, shrunk=shrunk):
            return float(shrunk(threshold).abs().sum()) - epsilon

        threshold = brentq(excess, 0, 4, xtol=1e-13) if excess(0) > 0 else 0.0
        torch.testing.assert_close(answer, shrunk(threshold), rtol=0, atol=5e-6)


@given(images=pixels, delta=moves, epsilon=st.floats(1e-6, 14))
@settings(max_examples=40, deadline=None)
def test_contained_points_lie_in_ball_and_box_and_stay_there(images, delta, epsilon):
    images, points = torch.tensor(images), torch.tensor(images + delta)
    inside = contain(points, images, epsilon, NORMS["l1"])
    assert inside.min() >= 0
    assert inside.max() <= 1
    assert ((inside.double() - images.double()).abs().flatten(1).sum(1) <= epsilon * (1 + 1e-5)).all()
    torch.testing.assert_close(contain(inside, images, epsilon, NORMS["l1"]), inside, rtol=0, atol=1e-6)


def test_nothing_of_the_budget_is_lost_at_the_box():
    # Cut off after the projection onto the ball alone, the first entry would leave 1.4 of 1.5 unused.
    images = torch.tensor([[0.9, 0.5, 0.5, 0.5]])
    moved = nearest_delta(images + torch.tensor([[3.0, 0.6, -0.6, 0.1]]), images, 1.0, NORMS["l1"])
    torch.testing.assert_close(moved, torch.tensor([[0.1, 0.45, -0.45, 0.0]]))


def test_a_step_is_spread_over_the_largest_gradients():
    gradients = torch.tensor([[0.1, -4.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, -1.0, 0.5, 0.0]])
    expected = torch.tensor([[0, -0.5, 0.5, 0], [0, 0, 0, 0], [0.5, -0.5, 0, 0]])
    torch.testing.assert_close(spread(gradients, torch.tensor([2, 2, 1])), expected)
    assert spread(gradients, torch.tensor([0, 9, 9]))[0].tolist() == [0, -1, 0, 0]


@pytest.mark.parametrize("attack", ["apgd-ce", "apgd-dlr", "fab-t"])
def test_where_the_box_binds_the_closest_point_is_that_of_a_knapsack(attack):
    # Towards the boundary the entries of the largest weights go to their walls, one after the other.
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(36, generator=generator)
    images = torch.rand(3, 1, 6, 6, generator=generator)
    flat, labels = images.flatten(1), torch.ones(3, dtype=torch.long)
    walls = torch.where(weight > 0, flat, 1 - flat)
    order = weight.abs().argsort(descending=True)
    # The fifth entry on the way brings the score to zero when it has gone half of its way.
    gains = (walls * weight.abs())[:, order]
    scores = gains[:, :4].sum(1) + gains[:, 4] / 2
    closest = walls[:, order[:4]].sum(1) + walls[:, order[4]] / 2
    for row in range(3):
        model = Linear(weight, scores[row] - flat[row] @ weight)
        for share, accuracy in ((1.1, 0), (0.98, 1)):
            epsilon = share * float(closest[row])
            image, label = images[row : row + 1], labels[:1]
            found = run_attack(model, image, label, attack, epsilon=epsilon, norm="l1", steps=30)
            assert found.robust_accuracy == accuracy
            assert found.perturbation_norms.max() <= epsilon * (1 + 1e-5)
            assert found.valid


@pytest.fixture
def smooth():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(1, 6, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(216, 10)
        )
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_the_ascent_climbs_as_its_authors_does(smooth, test_images, monkeypatch, loss):
    authors = needs("pyautoattack.autopgd_base").APGDAttack
    images = test_images[:24]
    labels = smooth(images).argmax(1)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(AttackProblem, "draw", lambda problem, sampler: noise[: len(problem.images)])
    monkeypatch.setattr(torch, "randn_like", lambda like: noise)
    ask, losses = AttackProblem.ask, []

    def listen(problem, *question, **options):
        answer = ask(problem, *question, **options)
        if len(problem.images) == len(images) and options["is_contained"]:  # others are those of checks
            losses.append(answer.losses)
        return answer

    monkeypatch.setattr(AttackProblem, "ask", listen)
    settings = {"epsilon": EPSILON, "norm": "l1", "steps": 50, "early_stop": False}
    run_attack(smooth, images, labels, f"apgd-{loss}", **settings)
    named = {"loss": loss, "logger": logging.getLogger("peer"), "device": "cpu"}
    peer = authors(smooth, n_iter=50, norm="L1", eps=EPSILON, seed=0, **named)
    peer.init_hyperparam(images)
    _, _, expected, _ = peer.decr_eps_pgd(images, labels, [3 * EPSILON, 2 * EPSILON, EPSILON], [15, 15, 20])
    found = torch.stack(losses).amax(dim=0)
    # Rounding may turn the choice of an entry; the ratio has no bound where the largest logits meet.
    difference = (found.atan() - expected.atan()).abs()
    assert difference.median() <= 1e-4
    assert (difference <= 0.02).double().mean() >= 0.9


@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("attack", ["apgd-ce", "apgd-t", "square"])
def test_it_leaves_as_many_as_its_authors(network, test_images, test_labels, attack):
    images, labels = test_images[:100], test_labels[:100]
    settings = {"norm": "L1", "eps": EPSILON, "seed": 0, "device": "cpu"}
    if attack == "square":
        peer, options = WholeSquare(network, n_queries=300, resc_schedule=False, **settings), {"queries": 300}
    else:
        module = needs("pyautoattack.autopgd_base")
        kind = module.APGDAttack if attack == "apgd-ce" else module.APGDAttack_targeted
        peer, options = kind(network, n_iter=20, use_largereps=True, **settings), {"steps": 20}
    expected = left(network, peer.perturb(images, labels), labels)
    ours = run_attack(network, images, labels, attack, epsilon=EPSILON, norm="l1", **options)
    low, high = wilson_interval(round(expected * 100), 100)
    assert low <= ours.robust_accuracy <= high
    assert ours.valid
    assert ours.perturbation_norms.max() <= EPSILON * (1 + 1e-5)


def test_the_ensemble_takes_the_settings_of_its_authors_in_l1(network, test_images, test_labels):
    images, labels = test_images[:20], test_labels[:20]
    result = run_attack(network, images, labels, "autoattack", epsilon=1, norm="l1", steps=5, queries=20)
    assert result.options["stages"] == {
        "apgd-ce": {"steps": 5, "runs": 5},
        "apgd-t": {"steps": 5, "target_classes": 5, "first_class": 0},
        "fab-t": {"steps": 5, "target_classes": 9},
        "square": {"queries": 20, "first_share": 0.8, "rescale": False},
    }
    few = run_attack(network, images, labels, "autoattack", epsilon=1, norm="l1", steps=1, queries=2, target_classes=2)
    assert few.valid
    assert few.options["stages"]["fab-t"]["target_classes"] == few.options["stages"]["apgd-t"]["target_classes"] == 2
