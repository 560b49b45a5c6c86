"""Momentum iterative FGSM: steps along a running sum of gradients (Dong et al. 2018, arXiv:1710.06081, eq. 6-7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.settings import at_least_one
from robustprune.attacks.engine.stages import Walk
from robustprune.attacks.losses import Loss
from robustprune.attacks.requests import parse_step_size
from robustprune.errors import AttackError


@dataclass
class _Run(Walk):
    """Where each of the n samples still active stands, and the sum of gradients that it runs along (n, …)."""

    velocity: Tensor


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

    def begin(saved: dict[str, Tensor] | None) -> _Run:
        if saved is not None:
            return _Run(**saved)
        points = problem.images[problem.rows]
        return _Run(problem.rows, points, torch.zeros_like(points))

    for step, run in problem.steps(steps + 1, begin):
        gradients = problem.ask(run.rows, run.points, loss, gradient=step < steps).gradients
        left = problem.active[run.rows]
        run.keep(left)
        if step == steps or len(run.rows) == 0:
            return
        run.velocity = decay * run.velocity + _unit_l1(gradients[left])
        run.points = problem.project(run.points + length * problem.uphill(run.points, run.velocity), run.rows)


def _unit_l1(gradients: Tensor) -> Tensor:
    size = gradients.flatten(1).abs().sum(dim=1)
    return gradients / size.clamp(min=1e-30).reshape(-1, *([1] * (gradients.ndim - 1)))
