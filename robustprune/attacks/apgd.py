"""Auto-PGD: projected gradient ascent with momentum that halves its own step (Croce & Hein 2020, arXiv:2003.01690).

Algorithm 1 there: the step starts at 2ε and is halved at checkpoints 22 % apart at first, then ever closer, where
the loss rose in fewer than three quarters of the steps since the last one, or where neither step nor best loss has
changed; each halving starts again from the best point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robustprune.attacks.engine.answers import Answer
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.settings import at_least_one
from robustprune.attacks.engine.stages import Walk
from robustprune.attacks.losses import Loss
from robustprune.attacks.registry import for_norms
from robustprune.errors import AttackError

MOMENTUM = 0.75
MOST_RISES = 0.75
TARGETS = 9
_NORMS = for_norms("linf", "l2")


@_NORMS
def cross_entropy_attack(problem: AttackProblem, *, steps: int = 100) -> None:
    """Propose points of high cross-entropy."""
    ascend(problem, steps, "ce")


@_NORMS
def ratio_attack(problem: AttackProblem, *, steps: int = 100) -> None:
    """Propose points of high difference-of-logits ratio."""
    ascend(problem, steps, "dlr")


@_NORMS
def targeted_attack(problem: AttackProblem, *, steps: int = 100, target_classes: int = TARGETS) -> None:
    """Propose points towards each of the classes that come next to the label, one after the other.

    With fewer than four classes the ratio has no fourth logit, and a smaller denominator is used.
    """
    at_least_one("target_classes", target_classes)
    for rivals in rival_classes(problem, target_classes):
        ascend(problem, steps, "dlr", rivals)


def rival_classes(problem: AttackProblem, most: int) -> Iterator[Tensor]:
    """Yield classes (N,): of each sample's wrong ones the likeliest on the clean image, then the next.

    Where others have more classes that are not masked (by a logit of −∞), a sample's own come again.

    Raises:
        AttackError: The attack has a target of its own.
    """
    if problem.targets is not None:
        raise AttackError("this attack tries one class after the other and takes no targets; use 'pgd' or 'apgd-ce'")
    others = problem.clean_logits.scatter(1, problem.labels[:, None], -torch.inf)
    order = others.argsort(dim=1, descending=True, stable=True)
    counts = others.isfinite().sum(dim=1, keepdim=True).clamp(min=1)
    for rank in range(min(most, int(counts.max()))):
        yield order.gather(1, rank % counts).squeeze(1)


@dataclass
class _Climb(Walk):
    """Where each of the n samples still active stands."""

    before: Tensor
    gradients: Tensor
    losses: Tensor
    best: Tensor
    best_gradients: Tensor
    best_losses: Tensor
    step_sizes: Tensor
    rises: Tensor
    checked_losses: Tensor
    was_halved: Tensor

    def over(self, values: Tensor) -> Tensor:
        """Return (n,) as (n, 1, …, 1)."""
        return values.reshape(-1, *([1] * (self.points.ndim - 1)))


def ascend(problem: AttackProblem, steps: int, loss: str | Loss, rivals: Tensor | None = None) -> None:
    """Run one ascent of so many steps from a random start, against the classes ``rivals`` (N,) if given."""
    at_least_one("steps", steps)
    periods = _periods(steps)

    def begin(saved: dict[str, Tensor] | None) -> _Climb:
        return _begin(problem, loss, rivals) if saved is None else _Climb(**saved)

    for step, climb in problem.steps(steps, begin):
        climb.keep(problem.active[climb.rows])
        if len(climb.rows) == 0:
            return
        _move(problem, climb, is_first=step == 0)
        if step == steps - 1:
            # No step follows that would go along its gradient.
            _ask(problem, climb.rows, climb.points, loss, rivals, gradient=False)
            return
        _look(problem, climb, loss, rivals)
        if step in periods:
            climb.keep(problem.active[climb.rows])
            _check(climb, periods[step])


def _periods(steps: int) -> dict[int, int]:
    """Return the steps after which each sample's step size is judged, and over how many steps."""
    found: dict[int, int] = {}
    step, period = -1, max(int(0.22 * steps), 1)
    while step + period < steps:
        step += period
        found[step] = period
        period = max(period - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return found


def _begin(problem: AttackProblem, loss: str | Loss, rivals: Tensor | None) -> _Climb:
    rows = problem.rows
    points = problem.random_start()[rows]
    answer = _ask(problem, rows, points, loss, rivals)
    return _Climb(
        rows=rows,
        points=points,
        before=points,
        gradients=answer.gradients,
        losses=answer.losses,
        best=points,
        best_gradients=answer.gradients,
        best_losses=answer.losses,
        step_sizes=torch.full_like(answer.losses, 2 * problem.epsilon),
        rises=torch.zeros_like(answer.losses),
        checked_losses=answer.losses,
        was_halved=torch.ones_like(answer.losses, dtype=torch.bool),
    )


def _ask(
    problem: AttackProblem, rows: Tensor, points: Tensor, loss: str | Loss, rivals: Tensor | None, gradient: bool = True
) -> Answer:
    return problem.ask(rows, points, loss, against=None if rivals is None else rivals[rows], gradient=gradient)


def _move(problem: AttackProblem, climb: _Climb, *, is_first: bool) -> None:
    share = 1.0 if is_first else MOMENTUM
    direction = problem.steepest(climb.gradients)
    ahead = problem.project(climb.points + climb.over(climb.step_sizes) * direction, climb.rows)
    moved = torch.lerp(climb.points, ahead, share).add_(climb.points - climb.before, alpha=1 - share)
    climb.before, climb.points = climb.points, problem.project(moved, climb.rows)


def _look(problem: AttackProblem, climb: _Climb, loss: str | Loss, rivals: Tensor | None) -> None:
    answer = _ask(problem, climb.rows, climb.points, loss, rivals)
    climb.rises = climb.rises + (answer.losses > climb.losses)
    climb.gradients, climb.losses = answer.gradients, answer.losses
    is_best = answer.losses > climb.best_losses
    climb.best = torch.where(climb.over(is_best), climb.points, climb.best)
    climb.best_gradients = torch.where(climb.over(is_best), answer.gradients, climb.best_gradients)
    climb.best_losses = torch.where(is_best, answer.losses, climb.best_losses)


def _check(climb: _Climb, period: int) -> None:
    """Halve the step where it is too long, and go back to the best point there."""
    rose_little = climb.rises <= MOST_RISES * period
    is_stuck = ~climb.was_halved & (climb.checked_losses >= climb.best_losses)
    halved = rose_little | is_stuck
    climb.step_sizes = torch.where(halved, climb.step_sizes / 2, climb.step_sizes)
    climb.points = torch.where(climb.over(halved), climb.best, climb.points)
    climb.gradients = torch.where(climb.over(halved), climb.best_gradients, climb.gradients)
    climb.was_halved, climb.checked_losses = halved, climb.best_losses
    climb.rises = torch.zeros_like(climb.rises)
