"""Fast gradient sign method: x + ε·sign(∇ₓ L) (Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572).

In L2 the gradient is divided by its norm instead of reduced to its sign.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.run import run_attack
from robustprune.attacks.losses import Loss
from robustprune.errors import AttackError
from robustprune.runtime.arrays import Array


def attack(problem: AttackProblem, *, loss: str | Loss = "ce") -> None:
    """Propose one step of length ε from the image."""
    _step(problem, problem.images, problem.epsilon, loss)


def random_attack(problem: AttackProblem, *, share: float = 0.5, loss: str | Loss = "ce") -> None:
    """Propose a step of what is left of ε after a random one (R-FGSM, Tramèr et al. 2018, arXiv:1705.07204).

    The random step leads along the signs of normal noise, over the given share of ε.
    """
    if not 0 < share < 1:
        raise AttackError(f"share is the part of epsilon the random step takes, between 0 and 1, got {share!r}")
    noise = problem.draw(lambda generator, shape: torch.randn(shape, generator=generator))
    start = problem.project(problem.images + share * problem.epsilon * problem.steepest(noise))
    _step(problem, start, (1 - share) * problem.epsilon, loss)


def _step(problem: AttackProblem, start: Tensor, length: float, loss: str | Loss) -> None:
    rows = problem.rows
    points = start[rows]
    gradients = problem.ask(rows, points, loss).gradients
    left = problem.active[rows]
    rows, points, gradients = rows[left], points[left], gradients[left]
    problem.ask(rows, points + length * problem.uphill(points, gradients), loss, gradient=False)


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
