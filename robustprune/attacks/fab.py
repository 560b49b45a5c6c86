"""Fast adaptive boundary attack, targeted form: short steps along the linearized boundary towards each class.

Croce & Hein 2020, arXiv:1907.02044, with the figures of AutoAttack. It looks for the nearest misclassified point
and leaves the ball on its way; what it finds within the ball counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustprune.attacks.apgd import TARGETS, rival_classes
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.settings import at_least_one
from robustprune.attacks.engine.stages import Walk
from robustprune.attacks.hyperplane import step_onto
from robustprune.attacks.losses import margin

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


@dataclass
class _Way(Walk):
    """Where each of the n samples still active stands."""

    margins: Tensor
    gradients: Tensor
    has_crossed: Tensor


def _approach(problem: AttackProblem, start: Tensor, rivals: Tensor, steps: int) -> None:
    def begin(saved: dict[str, Tensor] | None) -> _Way:
        return _begin(problem, start, rivals) if saved is None else _Way(**saved)

    for step, way in problem.steps(steps, begin):
        if len(way.rows) == 0:
            return
        way.points = _step(problem, way)
        # Who has been across the boundary mostly is so again. Its gradient is wanted where it retreats to, not here.
        is_last = step == steps - 1
        _turn_back(problem, way, way.has_crossed | is_last)
        if not is_last:
            _arrive(problem, way, rivals)


def _begin(problem: AttackProblem, start: Tensor, rivals: Tensor) -> _Way:
    rows = problem.rows
    margins, _, gradients = _look(problem, rows, start[rows], rivals)
    return _Way(rows, start[rows], margins, gradients, torch.zeros_like(rows, dtype=torch.bool))


def _turn_back(problem: AttackProblem, way: _Way, asked: Tensor) -> None:
    """Find which of the samples ``asked`` (n,) are across; offer and retreat those, and drop what that broke."""
    where = asked.nonzero().flatten()
    if len(where):
        rows = way.rows[where]
        logits = problem.ask(rows, way.points[where], "margin", gradient=False, is_contained=False).logits
        _retreat(problem, way, where[margin(logits, problem.labels[rows]) > 0])
        way.keep(problem.active[way.rows])


def _arrive(problem: AttackProblem, way: _Way, rivals: Tensor) -> None:
    """Get margins and gradients at the points; who is across for the first time retreats, and asks anew."""
    way.margins, best, way.gradients = _look(problem, way.rows, way.points, rivals)
    is_across = (best > 0) & ~way.has_crossed
    if bool(is_across.any()):
        way.has_crossed |= is_across
        _retreat(problem, way, is_across.nonzero().flatten())
        left = problem.active[way.rows]
        way.keep(left)
        where = is_across[left].nonzero().flatten()
        way.margins[where], _, way.gradients[where] = _look(problem, way.rows[where], way.points[where], rivals)


def _look(problem: AttackProblem, rows: Tensor, points: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return margins (n,) of the rival, and of the best other class, over the label, and gradients of the first."""
    answer = problem.ask(rows, points, "margin", against=rivals[rows], is_contained=False)
    return answer.losses, margin(answer.logits, problem.labels[rows]), answer.gradients


def _retreat(problem: AttackProblem, way: _Way, where: Tensor) -> None:
    """Ask for a verdict on those of the samples ``where`` (m,) within the ball, and bring all nearer to the image."""
    rows, points = way.rows[where], way.points[where]
    images = problem.images[rows]
    is_near = problem.size(points - images) <= problem.epsilon
    if bool(is_near.any()):
        problem.ask(rows[is_near], points[is_near], "margin", gradient=False)
    way.points[where] = images + RETREAT * (points - images)


def _step(problem: AttackProblem, way: _Way) -> Tensor:
    """Step from the points and from the images onto the linearized boundary, and return a mean of both."""
    points, images = way.points, problem.images[way.rows]
    here, home, slopes = points.flatten(1), images.flatten(1), way.gradients.flatten(1)
    offsets = -way.margins
    from_here = step_onto(here, slopes, offsets, problem.norm)
    # The same hyperplane, seen from the image.
    from_home = step_onto(home, slopes, offsets + (slopes * (here - home)).sum(dim=1), problem.norm)
    size_here, size_home = problem.size(from_here), problem.size(from_home)
    bias = (size_here / (size_here + size_home).clamp(min=1e-12)).clamp(max=MOST_BIAS)[:, None]
    moved = (here + OVERSHOOT * from_here) * (1 - bias) + (home + OVERSHOOT * from_home) * bias
    return moved.clamp(0, 1).reshape(points.shape)
