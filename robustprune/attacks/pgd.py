"""Projected gradient descent: repeated steps, each brought back into the ball.

Madry et al. 2018, arXiv:1706.06083.

Without a step size the steps fall linearly from ε towards zero, step t of S being ε·(1 − t/S): the first ones
cross the ball, the last ones settle, and ten of them do what forty constant ones do not.

The loss ``"ce-margin"`` is cross-entropy for the first half of the steps, which finds out which other class is within
reach, and the margin for the second, which does not fade once that is nearly reached.
"""

from __future__ import annotations

from torch import Tensor

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.settings import at_least_one
from robustprune.attacks.engine.stages import Walk
from robustprune.attacks.losses import Loss
from robustprune.attacks.requests import parse_step_size

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

    def begin(saved: dict[str, Tensor] | None) -> Walk:
        if saved is not None:
            return Walk(**saved)
        points = problem.random_start() if random_start else problem.images
        return Walk(problem.rows, points[problem.rows])

    for step, walk in problem.steps(steps + 1, begin):
        now = loss if loss != CE_MARGIN else "ce" if 2 * step < steps else "margin"
        gradients = problem.ask(walk.rows, walk.points, now, gradient=step < steps).gradients
        left = problem.active[walk.rows]
        walk.keep(left)
        if step == steps or len(walk.rows) == 0:
            return
        falling = problem.epsilon * (1 - step / steps)
        direction = problem.uphill(walk.points, gradients[left])
        walk.points = problem.project(walk.points + (constant or falling) * direction, walk.rows)


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
