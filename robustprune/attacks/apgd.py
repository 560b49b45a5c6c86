"""Auto-PGD: projected gradient ascent with momentum that halves its own step (Croce & Hein 2020, arXiv:2003.01690).

Algorithm 1 there: the step starts at 2ε and is halved at checkpoints 22 % apart at first, then ever closer, where
the loss rose in fewer than three quarters of the steps since the last one, or where neither step nor best loss has
changed; each halving starts again from the best point. In L1 see `sparse_apgd`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.queries import Response
from robustprune.attacks.losses import Loss
from robustprune.attacks.norms import over_samples
from robustprune.attacks.registry import for_norms
from robustprune.attacks.requests import at_least_one
from robustprune.attacks.sparse_apgd import ascend_sparsely
from robustprune.errors import AttackError

MOMENTUM = 0.75
MOST_RISES = 0.75
TARGETS = 9
_NORMS = for_norms("linf", "l2", "l1")


@_NORMS
def cross_entropy_attack(problem: AttackProblem, *, steps: int = 100) -> None:
    """Propose points of high cross-entropy."""
    ascend(problem, steps, "ce")


@_NORMS
def ratio_attack(problem: AttackProblem, *, steps: int = 100) -> None:
    """Propose points of high difference-of-logits ratio."""
    ascend(problem, steps, "dlr")


@_NORMS
def targeted_attack(
    problem: AttackProblem, *, steps: int = 100, target_classes: int = TARGETS, first_class: int = 0
) -> None:
    """Propose points towards each of the classes that come next to the label, one after the other.

    Those before ``first_class`` are left out, and nothing else changes: an ascent draws as it would after them. With
    fewer than four classes the ratio has no fourth logit, and a smaller denominator is used.
    """
    at_least_one("target_classes", target_classes)
    for rank, rivals in enumerate(rival_classes(problem, target_classes)):
        if rank < first_class:
            problem.skip_draw()
        else:
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
    if problem.norm == "l1":
        ascend_sparsely(problem, steps, partial(_ask, problem, loss, rivals))
        return
    judged = _judged(steps)
    rows = problem.rows
    points = before = problem.random_start()[rows]
    found = _ask(problem, loss, rivals, rows, points)
    gradients, losses = found.gradients, found.losses
    best, best_gradients, best_losses, judged_losses = points, gradients, losses, losses
    step_sizes, rises = torch.full_like(losses, 2 * problem.epsilon), torch.zeros_like(losses)
    was_halved = torch.ones_like(losses, dtype=torch.bool)
    for step in range(steps):
        rows, points, before, gradients, losses, best, best_gradients, best_losses, *rest = problem.narrow(
            rows, points, before, gradients, losses, best, best_gradients, best_losses,
            judged_losses, step_sizes, rises, was_halved,
        )  # fmt: skip
        judged_losses, step_sizes, rises, was_halved = rest
        if len(rows) == 0:
            return
        if step in judged:
            is_stuck = ~was_halved & (judged_losses >= best_losses)
            was_halved = (rises <= MOST_RISES * judged[step]) | is_stuck
            step_sizes = torch.where(was_halved, step_sizes / 2, step_sizes)
            points = torch.where(over_samples(was_halved, points), best, points)
            gradients = torch.where(over_samples(was_halved, points), best_gradients, gradients)
            judged_losses, rises = best_losses, torch.zeros_like(rises)
        share = 1.0 if step == 0 else MOMENTUM
        ahead = problem.project(points + over_samples(step_sizes, points) * problem.steepest(gradients), rows)
        moved = torch.lerp(points, ahead, share).add_(points - before, alpha=1 - share)
        before, points = points, problem.project(moved, rows)
        # No step follows the last one that would go along its gradient.
        found = _ask(problem, loss, rivals, rows, points, step < steps - 1)
        if step == steps - 1:
            return
        rises = rises + (found.losses > losses)
        gradients, losses = found.gradients, found.losses
        is_best = losses > best_losses
        best = torch.where(over_samples(is_best, points), points, best)
        best_gradients = torch.where(over_samples(is_best, points), gradients, best_gradients)
        best_losses = torch.where(is_best, losses, best_losses)


def _judged(steps: int) -> dict[int, int]:
    """Return the steps before which each sample's step size is judged, and over how many steps."""
    found: dict[int, int] = {}
    step, period = 0, max(int(0.22 * steps), 1)
    while step + period <= steps:
        step += period
        found[step] = period
        period = max(period - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return found


def _ask(
    problem: AttackProblem,
    loss: str | Loss,
    rivals: Tensor | None,
    rows: Tensor,
    points: Tensor,
    gradient: bool = True,
    is_contained: bool = True,
) -> Response:
    against = None if rivals is None else rivals[rows]
    return problem.ask(rows, points, loss, against=against, gradient=gradient, is_contained=is_contained)
