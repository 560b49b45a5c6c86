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

from robustprune.attacks.engine.oracle import Response
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.losses import Loss
from robustprune.attacks.registry import for_norms
from robustprune.attacks.requests import at_least_one
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


def ascend(problem: AttackProblem, steps: int, loss: str | Loss, rivals: Tensor | None = None) -> None:
    """Run one ascent of so many steps from a random start, against the classes ``rivals`` (N,) if given."""
    at_least_one("steps", steps)
    periods = _periods(steps)
    climb = _begin(problem, loss, rivals)
    for step in range(steps):
        climb.narrow(problem)
        if len(climb.rows) == 0:
            return
        climb.move(problem, share=1.0 if step == 0 else MOMENTUM)
        if step == steps - 1:
            # No step follows that would go along its gradient.
            _ask(problem, climb.rows, climb.points, loss, rivals, gradient=False)
            return
        climb.look(_ask(problem, climb.rows, climb.points, loss, rivals))
        if step in periods:
            climb.narrow(problem)
            climb.halve(periods[step])


def _periods(steps: int) -> dict[int, int]:
    """Return the steps after which each sample's step size is judged, and over how many steps."""
    found: dict[int, int] = {}
    step, period = -1, max(int(0.22 * steps), 1)
    while step + period < steps:
        step += period
        found[step] = period
        period = max(period - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return found


def _ask(
    problem: AttackProblem, rows: Tensor, points: Tensor, loss: str | Loss, rivals: Tensor | None, gradient: bool = True
) -> Response:
    return problem.ask(rows, points, loss, against=None if rivals is None else rivals[rows], gradient=gradient)


@dataclass
class _Climb:
    """Where each of the n samples still active stands."""

    rows: Tensor
    points: Tensor
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

    def narrow(self, problem: AttackProblem) -> None:
        """Go on with the samples that are not broken."""
        names = list(vars(self))
        vars(self).update(zip(names, problem.narrow(*vars(self).values()), strict=True))

    def move(self, problem: AttackProblem, share: float) -> None:
        """Step along the gradients, and for the rest of the share as before."""
        direction = problem.steepest(self.gradients)
        ahead = problem.project(self.points + self._over(self.step_sizes) * direction, self.rows)
        moved = torch.lerp(self.points, ahead, share).add_(self.points - self.before, alpha=1 - share)
        self.before, self.points = self.points, problem.project(moved, self.rows)

    def look(self, found: Response) -> None:
        """Take note of what the model says of the points."""
        self.rises = self.rises + (found.losses > self.losses)
        self.gradients, self.losses = found.gradients, found.losses
        is_best = found.losses > self.best_losses
        self.best = torch.where(self._over(is_best), self.points, self.best)
        self.best_gradients = torch.where(self._over(is_best), found.gradients, self.best_gradients)
        self.best_losses = torch.where(is_best, found.losses, self.best_losses)

    def halve(self, period: int) -> None:
        """Halve the step where it is too long, and go back to the best point there."""
        rose_little = self.rises <= MOST_RISES * period
        is_stuck = ~self.was_halved & (self.checked_losses >= self.best_losses)
        halved = rose_little | is_stuck
        self.step_sizes = torch.where(halved, self.step_sizes / 2, self.step_sizes)
        self.points = torch.where(self._over(halved), self.best, self.points)
        self.gradients = torch.where(self._over(halved), self.best_gradients, self.gradients)
        self.was_halved, self.checked_losses = halved, self.best_losses
        self.rises = torch.zeros_like(self.rises)

    def _over(self, values: Tensor) -> Tensor:
        """Return (n,) as (n, 1, …, 1)."""
        return values.reshape(-1, *([1] * (self.points.ndim - 1)))


def _begin(problem: AttackProblem, loss: str | Loss, rivals: Tensor | None) -> _Climb:
    rows = problem.rows
    points = problem.random_start()[rows]
    found = _ask(problem, rows, points, loss, rivals)
    return _Climb(
        rows=rows,
        points=points,
        before=points,
        gradients=found.gradients,
        losses=found.losses,
        best=points,
        best_gradients=found.gradients,
        best_losses=found.losses,
        step_sizes=torch.full_like(found.losses, 2 * problem.epsilon),
        rises=torch.zeros_like(found.losses),
        checked_losses=found.losses,
        was_halved=torch.ones_like(found.losses, dtype=torch.bool),
    )
