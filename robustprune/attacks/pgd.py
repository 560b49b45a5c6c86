"""Projected gradient descent: repeated steps, each brought back into the ball.

Madry et al. 2018, arXiv:1706.06083.

Without a step size the steps fall linearly from ε towards zero, step t of S being ε·(1 − t/S): the first ones
cross the ball, the last ones settle, and ten of them do what forty constant ones do not.

The loss ``"ce-margin"`` is cross-entropy for the first half of the steps, which finds out which other class is within
reach, and the margin for the second, which does not fade once that is nearly reached.
"""

from __future__ import annotations

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.losses import Loss
from robustprune.attacks.requests import at_least_one, parse_step_size

CE_MARGIN = "ce-margin"


def attack(
    problem: AttackProblem,
    *,
    steps: int = 20,
    step_size: float | str | None = None,
    random_start: bool = True,
    loss: str | Loss = "ce",
) -> None:
    """Propose points along the steepest ascent of the loss, from a random point of the ball or the image."""
    at_least_one("steps", steps)
    constant = None if step_size is None else parse_step_size(step_size)
    problem.describe(schedule="falling" if constant is None else "constant")
    points = problem.random_start() if random_start else problem.images
    rows = problem.rows
    points = points[rows]
    for step in range(steps):
        gradients = problem.ask(rows, points, _loss_at(step, steps, loss)).gradients
        rows, points, gradients = problem.narrow(rows, points, gradients)
        if len(rows) == 0:
            return
        length = constant or problem.epsilon * (1 - step / steps)
        points = problem.project(points + length * problem.uphill(points, gradients), rows)
    problem.ask(rows, points, _loss_at(steps, steps, loss), gradient=False)


def _loss_at(step: int, steps: int, loss: str | Loss) -> str | Loss:
    if loss != CE_MARGIN:
        return loss
    return "ce" if 2 * step < steps else "margin"


def margin_attack(
    problem: AttackProblem, *, steps: int = 20, step_size: float | str | None = None, random_start: bool = True
) -> None:
    """Propose points along the steepest ascent of the margin between logits (Carlini & Wagner 2017)."""
    attack(problem, steps=steps, step_size=step_size, random_start=random_start, loss="margin")


def ratio_attack(
    problem: AttackProblem, *, steps: int = 20, step_size: float | str | None = None, random_start: bool = True
) -> None:
    """Propose points along the steepest ascent of the difference-of-logits ratio (Croce & Hein 2020)."""
    attack(problem, steps=steps, step_size=step_size, random_start=random_start, loss="dlr")
