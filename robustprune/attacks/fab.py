"""Fast adaptive boundary attack, targeted form: short steps along the linearized boundary towards each class.

Croce & Hein 2020, arXiv:1907.02044, with the figures of AutoAttack. It looks for the nearest misclassified point
and leaves the ball on its way; what it finds within the ball counts.

The shortest way onto a hyperplane that stays in the box: towards w·δ = c every entry moves by some m ≥ 0 in the
direction that helps, up to the wall of the box. The shortest δ has m = min(t, wall) in L∞ and m = min(t·|w|, wall) in
L2, with the t at which the way suffices; w·δ is concave and piecewise linear in t, so Newton's method ends exactly
there. In L1 the entries of the largest |w| go first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustprune.attacks.apgd import TARGETS, rival_classes
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.losses import margin
from robustprune.attacks.requests import at_least_one

MOST_BIAS = 0.1
OVERSHOOT = 1.05
RETREAT = 0.9


def attack(problem: AttackProblem, *, steps: int = 100, target_classes: int = TARGETS) -> None:
    """Propose the points found on the way to each of the classes that come next to the label.

    The first restart begins at the image, further ones at random within half the ball.
    """
    at_least_one("steps", steps)
    at_least_one("target_classes", target_classes)
    # The first restart draws nothing, but further ones do: they would not repeat it.
    problem.has_drawn = True
    for rivals in rival_classes(problem, target_classes):
        start = problem.images
        if problem.restart > 0:
            start = problem.images + (problem.random_start() - problem.images) / 2
        _approach(problem, start, rivals, steps)


def _approach(problem: AttackProblem, start: Tensor, rivals: Tensor, steps: int) -> None:
    """Step onto the boundary towards each sample's rival, and back a little once across."""
    rows = problem.rows
    points = start[rows]
    margins, _, gradients = _look(problem, rows, points, rivals)
    has_crossed = torch.zeros_like(rows, dtype=torch.bool)
    for step in range(steps):
        if len(rows) == 0:
            return
        points = _step(problem, rows, points, margins, gradients)
        is_last = step == steps - 1
        # Who has been across the boundary mostly is so again. Its gradient is wanted where it retreats to, not here.
        asked = (has_crossed | is_last).nonzero().flatten()
        if len(asked):
            found = problem.ask(rows[asked], points[asked], "margin", gradient=False, is_contained=False)
            _retreat(problem, rows, points, asked[margin(found.logits, problem.labels[rows[asked]]) > 0])
            rows, points, has_crossed = problem.narrow(rows, points, has_crossed)
        if is_last:
            return
        margins, best, gradients = _look(problem, rows, points, rivals)
        is_across = (best > 0) & ~has_crossed
        if bool(is_across.any()):
            has_crossed |= is_across
            _retreat(problem, rows, points, is_across.nonzero().flatten())
            rows, points, margins, gradients, has_crossed, is_across = problem.narrow(
                rows, points, margins, gradients, has_crossed, is_across
            )
            where = is_across.nonzero().flatten()
            margins[where], _, gradients[where] = _look(problem, rows[where], points[where], rivals)


def _look(problem: AttackProblem, rows: Tensor, points: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return margins (n,) of the rival, and of the best other class, over the label, and gradients of the first."""
    answer = problem.ask(rows, points, "margin", against=rivals[rows], is_contained=False)
    return answer.losses, margin(answer.logits, problem.labels[rows]), answer.gradients


def _retreat(problem: AttackProblem, rows: Tensor, points: Tensor, where: Tensor) -> None:
    """Ask for a verdict on those of the points ``where`` (m,) within the ball, and bring all nearer to the image."""
    across, images = points[where], problem.images[rows[where]]
    is_near = problem.size(across - images) <= problem.epsilon
    if bool(is_near.any()):
        problem.ask(rows[where][is_near], across[is_near], "margin", gradient=False)
    points[where] = images + RETREAT * (across - images)


def _step(problem: AttackProblem, rows: Tensor, points: Tensor, margins: Tensor, gradients: Tensor) -> Tensor:
    """Step from the points and from the images onto the linearized boundary, and return a mean of both."""
    here, home, slopes = points.flatten(1), problem.images[rows].flatten(1), gradients.flatten(1)
    offsets = -margins
    from_here = step_onto(here, slopes, offsets, problem.norm)
    # The same hyperplane, seen from the image.
    from_home = step_onto(home, slopes, offsets + (slopes * (here - home)).sum(dim=1), problem.norm)
    size_here, size_home = problem.size(from_here), problem.size(from_home)
    bias = (size_here / (size_here + size_home).clamp(min=1e-12)).clamp(max=MOST_BIAS)[:, None]
    moved = (here + OVERSHOOT * from_here) * (1 - bias) + (home + OVERSHOOT * from_home) * bias
    return moved.clamp(0, 1).reshape(points.shape)


def step_onto(points: Tensor, weights: Tensor, offsets: Tensor, norm: str) -> Tensor:
    """Return the shortest δ (n, D) with weights·(points + δ) = weights·points + offsets, points + δ in [0, 1].

    Where the box does not reach as far, the corner nearest to the hyperplane. Points and weights are (n, D), offsets
    (n,), the norm goes by its name.
    """
    direction = weights.sign() * offsets.sign()[:, None]
    # Entries of weight zero have walls as well, but neither count nor move: to mask them takes longer than all this.
    walls = (direction.clamp(min=0) - points).abs()
    sizes, needed = weights.abs(), offsets.abs()[:, None]
    if norm == "l1":
        return direction * _largest_first(walls, sizes, needed)
    speeds = torch.ones_like(needed) if norm == "linf" else sizes
    return direction * _together(walls, sizes, speeds, needed)


def _together(walls: Tensor, sizes: Tensor, speeds: Tensor, needed: Tensor) -> Tensor:
    """Return min(t·speeds, walls) with the t at which sizes·m = needed; speeds are (n, D), or (n, 1) if all alike.

    Newton's method from t = 0. The slope of sizes·m only falls, so no step goes too far, and one that brings no
    further entry to its wall arrives: after D + 1 steps at most, mostly after two or three. A sample that has arrived
    stays where it is, whatever the others still need.
    """
    rates = sizes * speeds
    slopes = (rates * walls.sign()).sum(dim=1, keepdim=True)
    times = _later(torch.zeros_like(needed), needed, slopes)
    while True:
        moved = torch.minimum(times * speeds, walls)
        lacking = needed - (sizes * moved).sum(dim=1, keepdim=True)
        before, slopes = slopes, (walls - moved).sign_().mul_(rates).sum(dim=1, keepdim=True)
        is_short = (lacking > 0) & (slopes < before)
        if not bool(is_short.any()):
            return moved
        times = torch.where(is_short, _later(times, lacking, slopes), times)


def _later(times: Tensor, lacking: Tensor, slopes: Tensor) -> Tensor:
    """Return when nothing is lacking at these slopes (n, 1), or, where they are zero, a time past all walls."""
    limits = torch.finfo(times.dtype)
    # It has to be finite: infinity times a speed of zero is not a number.
    return (times + lacking / slopes.clamp(min=limits.tiny)).clamp(max=limits.max)


def _largest_first(walls: Tensor, sizes: Tensor, needed: Tensor) -> Tensor:
    order = sizes.argsort(dim=1, descending=True)
    sorted_walls, sorted_sizes = walls.gather(1, order), sizes.gather(1, order)
    gains = sorted_walls * sorted_sizes
    before = gains.cumsum(dim=1) - gains
    wanted = (needed - before).clamp(min=0) / sorted_sizes.clamp(min=1e-30)
    return torch.zeros_like(walls).scatter(1, order, torch.minimum(wanted, sorted_walls))
