"""APGD and Square against their authors' implementation, point for point where it can be, by outcome elsewhere."""

import pytest
import torch
from extras import needs
from torch import nn

from robustprune.attacks import AttackProblem, run_attack
from robustprune.errors import AttackError
from robustprune.metrics import wilson_interval

_apgd = needs("pyautoattack.autopgd_base")
APGDAttack, APGDAttack_targeted = _apgd.APGDAttack, _apgd.APGDAttack_targeted
FABAttack_PT = needs("pyautoattack.fab_pt").FABAttack_PT
SquareAttack = needs("pyautoattack.square").SquareAttack
PEER_NORM = {"linf": "Linf", "l2": "L2", "l1": "L1"}
EPSILON = {"linf": 0.08, "l2": 0.6, "l1": 2.0}


def left(network, adversarial, labels):
    with torch.no_grad():
        return float((network(adversarial).argmax(1) == labels).double().mean())


def peer_apgd(network, norm, loss, steps):
    settings = {"n_iter": steps, "norm": PEER_NORM[norm], "eps": EPSILON[norm], "seed": 0, "device": "cpu"}
    if loss == "dlr-targeted":
        return APGDAttack_targeted(network, **settings)
    return APGDAttack(network, loss=loss, **settings)


@pytest.fixture
def smooth():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 3), nn.SiLU(), nn.Flatten(), nn.Linear(96, 10)
        )
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_climbs_as_its_authors_does(smooth, test_images, monkeypatch, norm, loss):
    # From the image, without early stopping, both keep the point of highest loss.
    images = test_images[:24]
    labels = smooth(images).argmax(1)
    monkeypatch.setattr(AttackProblem, "random_start", lambda problem: problem.images)
    ask, losses = AttackProblem.ask, []

    def listen(problem, *question, **options):
        answer = ask(problem, *question, **options)
        if problem.epsilon == EPSILON[norm]:  # not those of the check of a large budget
            losses.append(answer.losses)
        return answer

    monkeypatch.setattr(AttackProblem, "ask", listen)
    settings = {"epsilon": EPSILON[norm], "norm": norm, "steps": 40, "early_stop": False}
    run_attack(smooth, images, labels, f"apgd-{loss}", **settings)
    peer = peer_apgd(smooth, norm, loss, 40)
    peer.init_hyperparam(images)
    _, _, expected, _ = peer.attack_single_run(images, labels, x_init=images)
    # Where the largest logits meet, the ratio has no bound, and rounding grows with it.
    found = torch.stack(losses).amax(dim=0)
    torch.testing.assert_close(found.atan(), expected.atan(), rtol=0, atol=1e-4)


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("attack", "loss"), [("apgd-ce", "ce"), ("apgd-dlr", "dlr"), ("apgd-t", "dlr-targeted")])
def test_apgd_leaves_as_many_as_its_authors(network, test_images, test_labels, norm, attack, loss):
    images, labels = test_images[:150], test_labels[:150]
    peer = left(network, peer_apgd(network, norm, loss, 20).perturb(images, labels), labels)
    ours = run_attack(network, images, labels, attack, epsilon=EPSILON[norm], norm=norm, steps=20)
    low, high = wilson_interval(round(peer * 150), 150)
    assert low <= ours.robust_accuracy <= high
    assert abs(ours.robust_accuracy - peer) <= 0.02
    assert ours.valid


class WholeSquare(SquareAttack):
    """The authors' attack with windows that reach the last row and column, as ours do: of eight it matters."""

    def random_int(self, low=0, high=1, shape=(1,)):
        return super().random_int(low, high + 1, shape)


@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_leaves_as_many_as_its_authors(network, test_images, test_labels, norm):
    images, labels = test_images[:150], test_labels[:150]
    settings = {"norm": PEER_NORM[norm], "eps": EPSILON[norm], "seed": 0, "device": "cpu"}
    peer = WholeSquare(network, n_queries=300, resc_schedule=False, **settings)
    expected = left(network, peer.perturb(images, labels), labels)
    ours = run_attack(network, images, labels, "square", epsilon=EPSILON[norm], norm=norm, queries=300)
    low, high = wilson_interval(round(expected * 150), 150)
    assert low - 0.02 <= ours.robust_accuracy <= high


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fab_leaves_as_many_as_its_authors(network, test_images, test_labels, norm):
    images, labels = test_images[:100], test_labels[:100]
    settings = {"norm": PEER_NORM[norm], "eps": EPSILON[norm], "seed": 0, "device": "cpu"}
    peer = FABAttack_PT(network, n_iter=20, targeted=True, **settings)
    expected = left(network, peer.perturb(images, labels), labels)
    ours = run_attack(network, images, labels, "fab-t", epsilon=EPSILON[norm], norm=norm, steps=20)
    assert abs(ours.robust_accuracy - expected) <= 0.021


@pytest.mark.parametrize("classes", [2, 3])
def test_the_ensemble_copes_with_few_classes(classes):
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, classes))
    images = torch.rand(20, 1, 6, 6, generator=generator)
    labels = network(images).argmax(1)
    result = run_attack(network, images, labels, "autoattack", epsilon=0.02, steps=5, queries=20)
    assert result.valid
    assert set(result.options["stages"]) == {"apgd-ce", "apgd-t", "fab-t", "square"}


def test_apgd_is_not_for_every_norm(network, test_images, test_labels):
    with pytest.raises(AttackError, match="'fmn' or 'sigma-zero'"):
        run_attack(network, test_images, test_labels, "apgd-ce", norm="l0", epsilon=1)
