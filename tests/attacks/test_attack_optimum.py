"""Linear models, whose closest adversarial point is a projection in closed form."""

import pytest
import torch
from torch import nn

from robustprune.attacks import run_attack

DISTANCE_FROM_BOUNDARY = 0.5


class Linear(nn.Module):
    """Logits (0, w·x + b, −10): the decision between the first two is a hyperplane, the third never wins."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, images):
        score = images.flatten(1) @ self.weight + self.bias
        return torch.stack([torch.zeros_like(score), score, torch.full_like(score, -10)], dim=1)


def linear_problem(shape, n=8):
    """Return a linear model and n images, away from the box, at |w·x + b| = .5 on both sides."""
    generator = torch.Generator().manual_seed(1)
    images = 0.4 + 0.2 * torch.rand((n, *shape), generator=generator)
    weight = torch.randn(images[0].numel(), generator=generator)
    bias = -0.5 * weight.sum()
    labels = torch.arange(n) % 2
    wanted = DISTANCE_FROM_BOUNDARY * (2 * labels - 1)
    flat = images.flatten(1)
    flat = flat + ((wanted - flat @ weight - bias) / (weight @ weight))[:, None] * weight
    return Linear(weight, bias), flat.reshape(images.shape), labels


def distance(model, norm):
    dual = {"linf": 1, "l2": 2}[norm]
    return DISTANCE_FROM_BOUNDARY / float(torch.linalg.vector_norm(model.weight.detach(), dual))


ATTACKS = [
    ("fgsm", {}),
    ("fgsm", {"loss": "margin"}),
    ("pgd", {}),
    ("pgd", {"loss": "margin", "random_start": False}),
    ("pgd", {"loss": "dlr", "restarts": 2}),
    ("pgd", {"early_stop": False, "selection": "last"}),
]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("shape", [(12,), (3, 2, 2)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("attack", "options"), ATTACKS)
def test_budget_around_the_distance_decides(attack, options, norm, shape, batch_size):
    model, images, labels = linear_problem(shape)
    closest = distance(model, norm)
    assert closest < 0.3  # so that the box does not bind

    beyond = run_attack(
        model, images, labels, attack, epsilon=1.25 * closest, norm=norm, batch_size=batch_size, **options
    )
    assert beyond.clean_accuracy == 1
    assert beyond.robust_accuracy == 0
    assert beyond.valid
    assert (beyond.perturbation_norms >= closest * (1 - 1e-5)).all()

    short = run_attack(
        model, images, labels, attack, epsilon=0.8 * closest, norm=norm, batch_size=batch_size, **options
    )
    assert short.robust_accuracy == 1
    assert (short.perturbation_norms <= 0.8 * closest * (1 + 1e-5)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_the_best_point_kept_is_the_optimum_of_the_ball(attack, norm):
    model, images, labels = linear_problem((12,))
    epsilon = 0.8 * distance(model, norm)
    weight = model.weight.detach()
    direction = weight.sign() if norm == "linf" else weight / weight.norm()
    optimum = images - epsilon * (2 * labels - 1)[:, None] * direction
    result = run_attack(model, images, labels, attack, epsilon=epsilon, norm=norm)
    torch.testing.assert_close(result.adversarial, optimum, atol=1e-3, rtol=0)
