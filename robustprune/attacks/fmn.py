"""Fast minimum-norm attack: ascent of the margin within a ball that closes in on the boundary.

Pintor et al. 2021, arXiv:2102.12827, algorithm 1. Each step goes along the gradient, divided by its L2 norm in all
norms, and back into the ball. The radius is first where the linearized boundary is, the size of the perturbation plus
|margin| over the dual norm of the gradient; once a sample has been misclassified, it falls by the factor 1 − γ where
the last point was, but at least to the smallest perturbation so far, and rises by 1 + γ where not. The step and γ fall
along a cosine.

In L0 the radius counts entries: it begins at one, and changes by at least one at a time.

Two things are ours. Entries that the box holds are left out of the gradient, lest the radius in L1, spent on them, end
short of the boundary for good. And it is by the share γ beyond the linearized boundary: up to that of a linear model,
rounding decides whether it is ever crossed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.minimum_norm_steps import annealed, starting_points
from robustprune.attacks.norms import get_norm, released
from robustprune.attacks.registry import for_norms, minimum_norm
from robustprune.attacks.requests import above_zero, at_least_one, between_zero_and_one
from robustprune.errors import AttackError

LAST_GAMMA = 0.001
LAST_STEP_SHARE = 0.01


@minimum_norm
@for_norms("linf", "l2", "l1", "l0")
def attack(
    problem: AttackProblem,
    *,
    steps: int = 100,
    gamma: float = 0.05,
    max_stepsize: float = 1.0,
    min_stepsize: float | None = None,
) -> None:
    """Find the nearest misclassified points by ascent of the margin in balls that close in on the boundary.

    The first restart begins at the image, further ones at random within half the distance found. The step falls to a
    hundredth by default.
    """
    at_least_one("steps", steps)
    between_zero_and_one("gamma", gamma)
    above_zero("max_stepsize", max_stepsize)
    last = LAST_STEP_SHARE * max_stepsize if min_stepsize is None else min_stepsize
    above_zero("min_stepsize", last)
    if last > max_stepsize:
        raise AttackError(
            f"the step falls from max_stepsize to min_stepsize, got {max_stepsize!r} and {min_stepsize!r}"
        )
    rows = problem.rows
    if len(rows) == 0:
        return
    images, points = problem.images[rows], starting_points(problem)[rows]
    is_count = problem.norm == "l0"
    sizes = problem.size(points - images)
    radii = sizes.clamp(min=1) if is_count else torch.full_like(sizes, torch.inf)
    was_across = torch.zeros_like(rows, dtype=torch.bool)
    for step in range(steps):
        found = problem.ask(rows, points, "margin")
        is_across = problem.goal.is_reached(found.logits, rows)
        was_across |= is_across
        gradients = released(points, found.gradients)
        share = annealed(gamma, LAST_GAMMA, step, steps)
        if not is_count:
            reach = found.losses.abs() / problem.rise(gradients).clamp(min=1e-12)
            radii = torch.where(was_across, radii, problem.size(points - images) + reach)
        smaller, larger = _beside(radii, share, is_whole=is_count)
        radii = torch.where(is_across, torch.minimum(smaller, problem.distances[rows]), larger)
        ahead = get_norm("l2").steepest(gradients) * annealed(max_stepsize, last, step, steps)
        points = problem.shorten(rows, points + ahead, radii)
    problem.ask(rows, points, "margin", gradient=False)


def _beside(radii: Tensor, share: float, *, is_whole: bool) -> tuple[Tensor, Tensor]:
    """Return radii (n,) that are smaller by a share, and larger by it; of whole numbers, by one at the least."""
    smaller, larger = radii * (1 - share), radii * (1 + share)
    if not is_whole:
        return smaller, larger
    return torch.minimum(smaller.floor(), radii - 1).clamp(min=1), torch.maximum(larger.floor(), radii + 1)
