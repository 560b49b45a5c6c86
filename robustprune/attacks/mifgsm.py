"""Momentum iterative FGSM: steps along a running sum of gradients (Dong et al. 2018, arXiv:1710.06081, eq. 6-7)."""

from __future__ import annotations

from torch import Tensor

from robustprune.attacks.epsilon import parse_step_size
from robustprune.attacks.losses import Loss
from robustprune.attacks.problem import AttackProblem
from robustprune.attacks.settings import at_least_one
from robustprune.errors import AttackError


def attack(
    problem: AttackProblem,
    *,
    steps: int = 10,
    step_size: float | str | None = None,
    decay: float = 1.0,
    loss: str | Loss = "ce",
) -> None:
    """Propose points along accumulated gradients, each divided by its L1 norm; the step is ε/steps by default."""
    at_least_one("steps", steps)
    if decay < 0:
        raise AttackError(f"decay must be at least 0, got {decay!r}")
    length = problem.epsilon / steps if step_size is None else parse_step_size(step_size)
    rows, points = problem.rows, problem.images[problem.rows]
    velocity = points.new_zeros(points.shape)
    for _ in range(steps):
        gradients = problem.ask(rows, points, loss).gradients
        left = problem.active[rows]
        rows, points = rows[left], points[left]
        if len(rows) == 0:
            return
        velocity = decay * velocity[left] + _unit_l1(gradients[left])
        points = problem.project(points + length * problem.uphill(points, velocity), rows)
    problem.ask(rows, points, loss, gradient=False)


def _unit_l1(gradients: Tensor) -> Tensor:
    size = gradients.flatten(1).abs().sum(dim=1)
    return gradients / size.clamp(min=1e-30).reshape(-1, *([1] * (gradients.ndim - 1)))
