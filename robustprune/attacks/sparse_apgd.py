"""Auto-PGD in L1: steps along the largest gradients, within balls that shrink to the one asked for.

Croce & Hein 2021, "Mind the box", arXiv:2103.01208, algorithm 1. A step changes two thirds of as many entries as the
best point so far has changed, and ends at the nearest point of the intersection of ball and box. At each checkpoint the
step is divided by 1.5, to no less than a tenth of the radius, unless the best point has become sparser by over 5 %:
then it is the radius again, and goes on from there. As in the authors' AutoAttack (their ``use_largereps``), three
tenths of the steps go within 3ε, as many within 2ε, each from the best point before, and only the rest within ε.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.queries import Response
from robustprune.attacks.norms import get_norm, over_samples, spread

Ask = Callable[[Tensor, Tensor, bool, bool], Response]
"""Rows (n,), points (n, …), whether gradients are needed, whether the points are within ε → the answer."""

SHARE_CHANGED = 1 / 1.5
SPARSER = 0.95
SHRINKS = 1.5
LEAST_STEP = 0.1


def ascend_sparsely(problem: AttackProblem, steps: int, ask: Ask) -> None:
    """Run one ascent of so many steps from a normal random point; with fewer than three, all of them are within ε."""
    in_each = min(-(-3 * steps // 10), (steps - 1) // 2)
    rows = problem.rows
    drawn = problem.draw(lambda generator, shape: torch.randn(shape, generator=generator))
    points = problem.shorten(rows, (problem.images + drawn)[rows], 3 * problem.epsilon)
    for budgets, length in ((3, in_each), (2, in_each), (1, steps - 2 * in_each)):
        if length:
            rows, points = _climb(problem, rows, points, ask, budgets, length)


def _climb(
    problem: AttackProblem, rows: Tensor, points: Tensor, ask: Ask, budgets: int, steps: int
) -> tuple[Tensor, Tensor]:
    """Climb within a ball of so many ε, and return which samples are left and the point of highest loss of each."""
    radius, is_last, entries = budgets * problem.epsilon, budgets == 1, get_norm("l0")
    points = problem.shorten(rows, points, radius)
    found = ask(rows, points, True, is_last)
    gradients, losses = found.gradients, found.losses
    best, best_gradients, best_losses = points, gradients, losses
    changed = entries.size(points - problem.images[rows])
    step_sizes = torch.full_like(changed, radius)
    period = max(steps // 25, 1)
    for step in range(steps):
        rows, points, gradients, best, best_gradients, best_losses, changed, step_sizes = problem.narrow(
            rows, points, gradients, best, best_gradients, best_losses, changed, step_sizes
        )
        if len(rows) == 0:
            break
        if step and step % period == 0:
            before, changed = changed, entries.size(best - problem.images[rows])
            is_sparser = changed < SPARSER * before
            step_sizes = torch.where(is_sparser, radius, (step_sizes / SHRINKS).clamp(min=LEAST_STEP * radius))
            points = torch.where(over_samples(is_sparser, points), best, points)
            gradients = torch.where(over_samples(is_sparser, points), best_gradients, gradients)
        direction = spread(gradients, (SHARE_CHANGED * changed).ceil())
        points = problem.shorten(rows, points + over_samples(step_sizes, points) * direction, radius)
        found = ask(rows, points, step < steps - 1, is_last)
        is_best = found.losses > best_losses
        best = torch.where(over_samples(is_best, points), points, best)
        best_losses = torch.where(is_best, found.losses, best_losses)
        if step < steps - 1:
            gradients = found.gradients
            best_gradients = torch.where(over_samples(is_best, points), gradients, best_gradients)
    return rows, best
