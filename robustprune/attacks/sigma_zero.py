"""σ-zero: few entries are changed, by descent along a smooth count of them and a threshold below which none is.

Cinà et al. 2024, arXiv:2402.01879, algorithm 1, for L0: each step goes along the gradient of the margin, where the
sample is not misclassified yet, less that of the smooth count Σ δ²/(δ² + σ) over the number of entries (eq. 5), both
divided by their largest entry. Entries of δ below a threshold are then undone; it rises where the sample is
misclassified, and falls where not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.minimum_norm_steps import annealed, starting_points
from robustprune.attacks.norms import get_norm, over_samples
from robustprune.attacks.registry import for_norms, minimum_norm
from robustprune.attacks.requests import above_zero, at_least_one


@minimum_norm
@for_norms("l0")
def attack(
    problem: AttackProblem,
    *,
    steps: int = 1000,
    max_stepsize: float = 1.0,
    sigma: float = 0.001,
    threshold: float = 0.3,
    threshold_step: float = 0.01,
) -> None:
    """Find misclassified points in which the fewest entries are changed, undoing those below a moving threshold.

    The first restart begins at the image, further ones at random within half the distance found. The step falls to
    zero along a cosine, and so does that of the threshold, its share ``threshold_step`` of it.
    """
    at_least_one("steps", steps)
    values = {"max_stepsize": max_stepsize, "sigma": sigma, "threshold": threshold, "threshold_step": threshold_step}
    for name, value in values.items():
        above_zero(name, value)
    rows = problem.rows
    if len(rows) == 0:
        return
    images, points = problem.images[rows], starting_points(problem)[rows]
    thresholds = torch.full_like(problem.distances[rows], threshold)
    for step in range(steps):
        found = problem.ask(rows, points, "margin")
        is_across = problem.goal.is_reached(found.logits, rows)
        length = annealed(max_stepsize, 0.0, step, steps)
        thresholds = (thresholds + length * torch.where(is_across, threshold_step, -threshold_step)).clamp(0, 1)
        wanted = found.gradients.masked_fill(over_samples(is_across, points), 0)
        uphill = wanted - _slope_of_count(points - images, sigma)
        largest = get_norm("linf").size(uphill).clamp(min=1e-12)
        ahead = (points + length * uphill / over_samples(largest, points)).clamp(0, 1)
        is_kept = (ahead - images).abs() >= over_samples(thresholds, points)
        points = torch.where(is_kept, ahead, images)
    problem.ask(rows, points, "margin", gradient=False)


def _slope_of_count(delta: Tensor, sigma: float) -> Tensor:
    """Return the gradient (n, …) of the smooth share of entries that δ (n, …) changes."""
    return 2 * sigma * delta / (delta.square() + sigma).square() / delta[0].numel()
