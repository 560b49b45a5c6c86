"""Fast gradient sign method: x + ε·sign(∇ₓ L) (Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572).

In L2 the gradient is divided by its norm instead of reduced to its sign.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.losses import Loss
from robustprune.errors import AttackError


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
