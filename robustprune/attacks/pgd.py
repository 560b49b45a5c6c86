"""Projected gradient descent: repeated steps, each brought back into the ball.

Madry et al. 2018, arXiv:1706.06083.

Without a step size the steps fall linearly from ε towards zero, step t of S being ε·(1 − t/S): the first ones
cross the ball, the last ones settle, and ten of them do what forty constant ones do not.

The loss ``"ce-margin"`` is cross-entropy for the first half of the steps, which finds out which other class is within
reach, and the margin for the second, which does not fade once that is nearly reached.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.run import run_attack
from robustprune.attacks.engine.settings import at_least_one
from robustprune.attacks.engine.stages import Walk
from robustprune.attacks.epsilon import parse_step_size
from robustprune.attacks.losses import Loss
from robustprune.runtime.arrays import Array

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


def pgd(
    model: nn.Module,
    images: Array,
    labels: Array,
    *,
    epsilon: float | str | Fraction = 8 / 255,
    norm: str = "linf",
    steps: int = 20,
    step_size: float | str | None = None,
    restarts: int = 1,
    random_start: bool = True,
    loss: str | Loss = "ce",
    seed: int = 0,
    **settings: Any,
) -> Tensor:
    """Return images moved within the ε-ball by projected gradient ascent on the loss.

    Samples that are misclassified to begin with come back as they are; `run_attack` says which, and whether
    the model could be attacked at all.

    Args:
        model: Maps float images in [0, 1] to logits (N, K).
        images: (N, …), uint8 or float in [0, 1].
        labels: (N,) integers.
        epsilon: Budget: a number or a fraction such as ``"8/255"``.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: Gradient steps per restart.
        step_size: Length of every step, a number or a fraction; by default they fall linearly from ε to 0.
        restarts: Runs, each from its own random start, on the samples the ones before did not break.
        random_start: Start from a random point of the ball instead of the image.
        loss: ``"ce"``, ``"margin"``, ``"ce-margin"``, ``"dlr"``, or a function of logits and labels.
        seed: Keys the random starts.
        **settings: Further settings of `run_attack`. For the textbook version, which returns the last point
            of all samples: ``early_stop=False, selection="last"``, with a ``step_size``.

    Returns:
        (N, …) float32 in [0, 1], on the device of ``images``.

    Raises:
        AttackError: As `run_attack`.
    """
    result = run_attack(
        model,
        images,
        labels,
        "pgd",
        epsilon=epsilon,
        norm=norm,
        steps=steps,
        step_size=step_size,
        restarts=restarts,
        random_start=random_start,
        loss=loss,
        seed=seed,
        **settings,
    )
    return result.adversarial.to(images.device) if isinstance(images, Tensor) else result.adversarial
