"""Networks that draw at random: the attack follows the expected gradient, and the record says what it took."""

import pytest
import torch
from test_attack_checks import Before
from test_attack_defects import AlwaysDrops
from torch import nn

from robustprune.attacks import run_attack
from robustprune.inference import predict_logits


class TakesTurns(nn.Module):
    """Is one of two linear networks, each in every second pass: two draws in a row are the whole distribution."""

    def __init__(self):
        super().__init__()
        # Logits (0, u): of the first network u is large, and so is its slope; of the second u is around 0.
        self.slopes = nn.Parameter(torch.tensor([[3.0, 0.0, 1.0], [0.0, 1.0, -1.0]]))
        self.offsets = nn.Parameter(torch.tensor([-12.0, -0.4]))
        self.passes = 0

    def forward(self, images):
        turn = self.passes % 2
        self.passes += 1
        score = images @ self.slopes[turn] + self.offsets[turn]
        return torch.stack([torch.zeros_like(score), score], dim=1)


def expected_gradient(model, images):
    """Return the mean of the gradients of log(1 + exp(u)), which are σ(u)·slope."""
    slopes, offsets = model.slopes.detach(), model.offsets.detach()
    weights = (images @ slopes.T + offsets).sigmoid()  # (n, 2)
    return (weights[:, :, None] * slopes).mean(1)


@pytest.fixture
def images():
    return 0.3 + 0.4 * torch.rand(20, 3, generator=torch.Generator().manual_seed(0))


def test_the_direction_is_that_of_the_expected_gradient(images):
    model = TakesTurns().eval()
    labels = torch.zeros(20, dtype=torch.long)
    result = run_attack(model, images, labels, "fgsm", norm="l2", epsilon=0.1, eot=2, frozen=False)
    direction = expected_gradient(model, images)
    direction = direction / direction.norm(dim=1, keepdim=True)
    torch.testing.assert_close(result.adversarial, images + 0.1 * direction, atol=1e-5, rtol=0)
    # The gradient at the mean logits is along the mean slope, far from it.
    mean_slope = model.slopes.detach().mean(0)
    assert (direction @ (mean_slope / mean_slope.norm())).max() < 0.75


@pytest.mark.needs("torchattacks")
def test_steps_are_those_of_torchattacks(images):
    import torchattacks

    labels = torch.zeros(20, dtype=torch.long)
    options = {"steps": 4, "random_start": False}
    expected = torchattacks.EOTPGD(TakesTurns().eval(), eps=0.1, alpha=0.03, eot_iter=2, **options)(images, labels)
    textbook = {"early_stop": False, "selection": "last", "frozen": False}
    result = run_attack(TakesTurns().eval(), images, labels, epsilon=0.1, step_size=0.03, eot=2, **options, **textbook)
    torch.testing.assert_close(result.adversarial, expected)
    assert result.gradient_evaluations == 2 * 4 * 20
    # The steps and the last look, clean, verdict, and the probes of the checks.
    assert result.forward_evaluations == 2 * (4 + 1 + 2) * 20 + 3 * 16 + 2 * 2


def test_one_draw_is_attacked_worse_than_the_mean_of_many(network, test_images, test_labels):
    model = Before(AlwaysDrops(), network)
    settings = {"epsilon": 0.08, "steps": 5, "early_stop": False}
    left = {}
    for eot in (1, 20):
        points = run_attack(model, test_images, test_labels, eot=eot, **settings).adversarial
        with torch.random.fork_rng():
            torch.manual_seed(0)
            logits = torch.stack([predict_logits(model, points) for _ in range(100)])
        # The expected accuracy of a network that draws once for each prediction.
        left[eot] = float((logits.argmax(2) == test_labels).double().mean())
    assert left[20] < left[1] - 0.02


def test_clean_accuracies_of_two_draws_may_differ_by_chance_only(network, test_images, test_labels, verdict):
    model = Before(AlwaysDrops(), network)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        expected = float((predict_logits(model, test_images).argmax(1) == test_labels).double().mean())
    settings = {"epsilon": 0.05, "steps": 2, "eot": 4}
    for accuracy, wanted in ((expected, "PASS"), (expected - 0.15, "FAIL")):
        result = run_attack(model, test_images, test_labels, expected_clean_accuracy=accuracy, **settings)
        assert verdict(result, "clean agreement") == wanted
