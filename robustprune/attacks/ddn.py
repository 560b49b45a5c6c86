"""Decoupled direction and norm: the gradient turns the perturbation, what the model says lengthens or shortens it.

Rony et al. 2019, arXiv:1811.09600, algorithm 1, for L2: a step along the normalized gradient of cross-entropy, then to
the sphere whose radius falls by the factor 1 − γ where the last point was misclassified, and rises by 1 + γ where not.
"""

from __future__ import annotations

import torch

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.minimum_norm_steps import annealed, starting_points
from robustprune.attacks.norms import over_samples
from robustprune.attacks.registry import for_norms, minimum_norm
from robustprune.attacks.requests import above_zero, at_least_one, between_zero_and_one

FIRST_STEP, LAST_STEP = 1.0, 0.01


@minimum_norm
@for_norms("l2")
def attack(problem: AttackProblem, *, steps: int = 100, gamma: float = 0.05, init_norm: float = 1.0) -> None:
    """Find the nearest misclassified points in L2, on spheres that shrink where they hold one and grow elsewhere.

    The first restart begins at the image, further ones at random within half the distance found. The step falls from
    1 to 0.01 along a cosine. The radius of the first sphere is ``init_norm``.
    """
    at_least_one("steps", steps)
    between_zero_and_one("gamma", gamma)
    above_zero("init_norm", init_norm)
    rows = problem.rows
    if len(rows) == 0:
        return
    images, points = problem.images[rows], starting_points(problem)[rows]
    radii = problem.distances[rows].clamp(max=init_norm)
    for step in range(steps):
        found = problem.ask(rows, points)
        is_across = problem.goal.is_reached(found.logits, rows)
        radii = radii * torch.where(is_across, 1 - gamma, 1 + gamma)
        moved = points - images + annealed(FIRST_STEP, LAST_STEP, step, steps) * problem.steepest(found.gradients)
        points = problem.project(images + over_samples(radii, images) * problem.steepest(moved), rows)
    problem.ask(rows, points, gradient=False)
