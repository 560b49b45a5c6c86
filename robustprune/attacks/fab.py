"""Fast adaptive boundary attack, targeted form: short steps along the linearized boundary towards each class.

Croce & Hein 2020, arXiv:1907.02044, with the figures of AutoAttack. It looks for the nearest misclassified point
and leaves the ball on its way; what it finds within the ball counts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustprune.attacks.apgd import TARGETS, rival_classes
from robustprune.attacks.hyperplane import step_onto
from robustprune.attacks.problem import AttackProblem
from robustprune.attacks.settings import at_least_one
from robustprune.attacks.stages import Walk

MOST_BIAS = 0.1
OVERSHOOT = 1.05
RETREAT = 0.9


def attack(problem: AttackProblem, *, steps: int = 100, target_classes: int = TARGETS) -> None:
    """Propose the points found on the way to each of the classes that come next to the label.

    The first restart begins at the image, further ones at random within half the ball.
    """
    at_least_one("steps", steps)
    at_least_one("target_classes", target_classes)
    for rivals in rival_classes(problem, target_classes):
        start = problem.images
        if problem.restart > 0:
            start = problem.images + (problem.random_start() - problem.images) / 2
        _approach(problem, start, rivals, steps)


def _approach(problem: AttackProblem, start: Tensor, rivals: Tensor, steps: int) -> None:
    def begin(saved: dict[str, Tensor] | None) -> Walk:
        return Walk(problem.rows, start[problem.rows]) if saved is None else Walk(**saved)

    for step, walk in problem.steps(steps + 1, begin):
        rows, points = walk.rows, walk.points
        if len(rows) == 0:
            return
        margins, gradients = _look(problem, rows, points, rivals)
        is_across = margins[:, 1] > 0
        if step > 0 and bool(is_across.any()):
            across = is_across.nonzero().flatten()
            _offer(problem, rows[across], points[across])
            images = problem.images[rows[across]]
            points[across] = images + RETREAT * (points[across] - images)
            margins[across], gradients[across] = _look(problem, rows[across], points[across], rivals)
        left = problem.active[rows]
        rows, points = rows[left], points[left]
        if step < steps and len(rows):
            points = _step(problem, rows, points, margins[left, 0], gradients[left])
        walk.rows, walk.points = rows, points


def _look(problem: AttackProblem, rows: Tensor, points: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """Return margins (n, 2) of the rival, and of the best other class, over the label, and gradients of the first."""
    answer = problem.ask(rows, points, "margin", against=rivals[rows], is_contained=False)
    labels = problem.labels[rows][:, None]
    best = answer.logits.scatter(1, labels, -torch.inf).amax(dim=1) - answer.logits.gather(1, labels)[:, 0]
    return torch.stack([answer.losses, best], dim=1), answer.gradients


def _offer(problem: AttackProblem, rows: Tensor, points: Tensor) -> None:
    """Ask for a verdict on the points that lie within the ball."""
    is_near = problem.size(points - problem.images[rows]) <= problem.epsilon
    if bool(is_near.any()):
        problem.ask(rows[is_near], points[is_near], "margin", gradient=False)


def _step(problem: AttackProblem, rows: Tensor, points: Tensor, margins: Tensor, gradients: Tensor) -> Tensor:
    """Step from the points and from the images onto the linearized boundary, and return a mean of both."""
    images = problem.images[rows]
    here, home, slopes = points.flatten(1), images.flatten(1), gradients.flatten(1)
    offsets = -margins
    from_here = step_onto(here, slopes, offsets, problem.norm)
    # The same hyperplane, seen from the image.
    from_home = step_onto(home, slopes, offsets + (slopes * (here - home)).sum(dim=1), problem.norm)
    size_here, size_home = problem.size(from_here), problem.size(from_home)
    bias = (size_here / (size_here + size_home).clamp(min=1e-12)).clamp(max=MOST_BIAS)[:, None]
    moved = (here + OVERSHOOT * from_here) * (1 - bias) + (home + OVERSHOOT * from_home) * bias
    return moved.clamp(0, 1).reshape(points.shape)
