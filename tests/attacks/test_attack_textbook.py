"""Point for point what an independent implementation gives, where the settings are the textbook's."""

import pytest
import torch
from extras import needs
from sklearn.metrics import accuracy_score
from torch import nn

from robustprune.attacks import fgsm, pgd, run_attack

torchattacks = needs("torchattacks")
TEXTBOOK = {"early_stop": False, "selection": "last"}


class InFloat64(nn.Module):
    """Keeps the sign of a tiny gradient from hanging on rounding."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images.double())


@pytest.fixture
def smooth():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 3), nn.SiLU(), nn.Flatten(), nn.Linear(96, 10)
        )
    return InFloat64(network.double().eval())


@pytest.fixture
def correct(smooth, test_images):
    """Images and the labels the network gives them: those it has wrong are attacked elsewhere, not here."""
    images = test_images[:40]
    return images, smooth(images).argmax(1)


@pytest.mark.parametrize(("epsilon", "step_size", "steps"), [(8 / 255, 2 / 255, 10), (0.1, 0.01, 25)])
def test_pgd(smooth, correct, epsilon, step_size, steps):
    expected = torchattacks.PGD(smooth, eps=epsilon, alpha=step_size, steps=steps, random_start=False)(*correct)
    ours = pgd(smooth, *correct, epsilon=epsilon, step_size=step_size, steps=steps, random_start=False, **TEXTBOOK)
    torch.testing.assert_close(ours, expected.detach(), atol=2e-6, rtol=0)


def test_step_size_may_be_a_fraction(smooth, correct):
    settings = {"steps": 2, "random_start": False}
    by_fraction, by_number = (pgd(smooth, *correct, step_size=size, **settings) for size in ("2/255", 2 / 255))
    assert torch.equal(by_fraction, by_number)


def test_pgd_l2(smooth, correct):
    expected = torchattacks.PGDL2(smooth, eps=1.0, alpha=0.2, steps=10, random_start=False)(*correct)
    ours = pgd(smooth, *correct, norm="l2", epsilon=1.0, step_size=0.2, steps=10, random_start=False, **TEXTBOOK)
    torch.testing.assert_close(ours, expected.detach(), atol=2e-5, rtol=0)


def test_fgsm(smooth, correct):
    expected = torchattacks.FGSM(smooth, eps=8 / 255)(*correct)
    ours = fgsm(smooth, *correct, epsilon="8/255", **TEXTBOOK)
    torch.testing.assert_close(ours, expected.detach(), atol=1e-6, rtol=0)


def test_no_weaker_than_the_textbook_on_a_trained_network(network, test_images, test_labels):
    textbook = torchattacks.PGD(network, eps=0.1, alpha=0.025, steps=10, random_start=False)
    predictions = network(textbook(test_images, test_labels)).argmax(1)
    result = run_attack(network, test_images, test_labels, epsilon=0.1, steps=10)
    assert result.robust_accuracy <= accuracy_score(test_labels, predictions) + 0.01


def test_the_loss_turns_from_cross_entropy_to_the_margin_halfway(network, test_images, test_labels):
    # By hand, from the image: of three steps of ε, 2ε/3 and ε/3, the first two are of cross-entropy.
    network.requires_grad_(False)
    with torch.no_grad():
        right = network(test_images).argmax(1) == test_labels
    images, labels, epsilon = test_images[right][:40], test_labels[right][:40], 0.05
    points = images
    for step in range(3):
        points = points.clone().requires_grad_()
        logits = network(points)
        if step < 2:
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        else:
            own = nn.functional.one_hot(labels, 10).bool()
            loss = (logits.masked_fill(own, -torch.inf).amax(1) - logits[own]).sum()
        (gradient,) = torch.autograd.grad(loss, points)
        points = points.detach() + epsilon * (1 - step / 3) * gradient.sign()
        points = points.clamp(images - epsilon, images + epsilon).clamp(0, 1)
    settings = {"steps": 3, "random_start": False, "early_stop": False, "selection": "last", "frozen": False}
    found = pgd(network, images, labels, epsilon=epsilon, loss="ce-margin", **settings)
    torch.testing.assert_close(found, points, atol=1e-6, rtol=0)
    other = pgd(network, images, labels, epsilon=epsilon, loss="ce", **settings)
    assert not torch.allclose(other, points, atol=1e-3)
