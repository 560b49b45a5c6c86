"""Fast gradient sign methods: one step, one after a random one, several with momentum; and noise, to be beaten by all.

FGSM is x + ε·sign(∇ₓ L) (Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572). In L2 the gradient is divided by its norm
instead of reduced to its sign.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.losses import Loss
from robustprune.attacks.norms import over_samples
from robustprune.attacks.requests import at_least_one, parse_step_size
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


def momentum_attack(
    problem: AttackProblem,
    *,
    steps: int = 10,
    step_size: float | str | None = None,
    decay: float = 1.0,
    loss: str | Loss = "ce",
) -> None:
    """Propose points along accumulated gradients, each divided by its L1 norm; the step is ε/steps by default.

    MI-FGSM (Dong et al. 2018, arXiv:1710.06081, eq. 6-7).
    """
    at_least_one("steps", steps)
    if decay < 0:
        raise AttackError(f"decay must be at least 0, got {decay!r}")
    length = problem.epsilon / steps if step_size is None else parse_step_size(step_size)
    rows = problem.rows
    points = problem.images[rows]
    velocity = torch.zeros_like(points)
    for _ in range(steps):
        gradients = problem.ask(rows, points, loss).gradients
        rows, points, velocity, gradients = problem.narrow(rows, points, velocity, gradients)
        if len(rows) == 0:
            return
        sizes = gradients.flatten(1).abs().sum(dim=1).clamp(min=1e-30)
        velocity = decay * velocity + gradients / over_samples(sizes, gradients)
        points = problem.project(points + length * problem.uphill(points, velocity), rows)
    problem.ask(rows, points, loss, gradient=False)


def noise_attack(problem: AttackProblem, *, draws: int = 1) -> None:
    """Propose so many points drawn uniformly from the ball.

    What an attack without any idea would find.
    """
    at_least_one("draws", draws)
    for _ in range(draws):
        problem.evaluate(problem.random_start(), "margin")


def _step(problem: AttackProblem, start: Tensor, length: float, loss: str | Loss) -> None:
    rows = problem.rows
    points = start[rows]
    gradients = problem.ask(rows, points, loss).gradients
    rows, points, gradients = problem.narrow(rows, points, gradients)
    problem.ask(rows, points + length * problem.uphill(points, gradients), loss, gradient=False)
