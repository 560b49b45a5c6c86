"""Where minimum-norm attacks begin, and how their steps shorten."""

from __future__ import annotations

import math

from torch import Tensor

from robustprune.attacks.engine.problem import AttackProblem


def starting_points(problem: AttackProblem) -> Tensor:
    """Return the images (N, …), or, in further restarts, points at random within half the distance found so far."""
    # The first restart draws nothing, but further ones do: they would not repeat it.
    problem.has_drawn = True
    if problem.restart == 0:
        return problem.images
    rows, points = problem.rows, problem.random_start()
    points[rows] = problem.shorten(rows, points[rows], problem.distances[rows] / 2)
    return points


def annealed(first: float, last: float, step: int, steps: int) -> float:
    """Return a value that falls along half a cosine, from ``first`` at step 0 almost to ``last`` at the last one."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2
