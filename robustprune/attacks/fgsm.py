"""Fast gradient sign method: x + ε·sign(∇ₓ L) (Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572).

In L2 the gradient is divided by its norm instead of reduced to its sign.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from robustprune.attacks.engine import run_attack
from robustprune.attacks.losses import Loss
from robustprune.attacks.problem import AttackProblem
from robustprune.inference import Array


def attack(problem: AttackProblem, *, loss: str | Loss = "ce") -> None:
    """Propose one step of length ε from the image."""
    direction = problem.steepest(problem.gradient(problem.images, loss))
    problem.evaluate(problem.images + problem.epsilon * direction, loss)


def fgsm(
    model: nn.Module,
    images: Array,
    labels: Array,
    *,
    epsilon: float | str | Fraction = 8 / 255,
    norm: str = "linf",
    loss: str | Loss = "ce",
    **settings: Any,
) -> Tensor:
    """Return images moved by ε along the sign of the loss gradient.

    A point that is not better than the image itself is not taken, and samples that are misclassified to
    begin with come back as they are; `run_attack` says which, and whether the model could be attacked at all.

    Args:
        model: Maps float images in [0, 1] to logits (N, K).
        images: (N, …), uint8 or float in [0, 1].
        labels: (N,) integers.
        epsilon: Budget: a number or a fraction such as ``"8/255"``.
        norm: ``"linf"`` or ``"l2"``.
        loss: ``"ce"``, ``"margin"``, ``"dlr"``, or a function of logits and labels.
        **settings: Further settings of `run_attack`, such as ``batch_size`` and ``selection``.

    Returns:
        (N, …) float32 in [0, 1], on the device of ``images``.

    Raises:
        AttackError: As `run_attack`.
    """
    result = run_attack(model, images, labels, "fgsm", epsilon=epsilon, norm=norm, loss=loss, **settings)
    return result.adversarial.to(images.device) if isinstance(images, Tensor) else result.adversarial
