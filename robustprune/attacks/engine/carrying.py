"""Handing on what an earlier attack broke: a sample broken within ε stays broken within any larger budget."""

from __future__ import annotations

from dataclasses import replace

import torch

from robustprune.attacks.engine.result import AttackResult
from robustprune.attacks.engine.settings import Samples
from robustprune.attacks.requests import Attack
from robustprune.errors import AttackError


def carry_points(samples: Samples, earlier: AttackResult | None, request: Attack) -> Samples:
    """Return the samples with the points of an earlier attack.

    Raises:
        AttackError: It was on other samples, for another goal, in another norm, or had the larger budget.
    """
    if earlier is None:
        return samples
    same_goal = (earlier.targets is None) == (samples.targets is None) and (
        samples.targets is None or torch.equal(samples.targets.cpu(), earlier.targets)  # type: ignore[arg-type]
    )
    if not (
        same_goal
        and earlier.adversarial.shape == samples.images.shape
        and torch.equal(earlier.labels, samples.labels.cpu())
    ):
        raise AttackError("the result to carry over is that of other samples or targets")
    if earlier.norm != request.norm or earlier.epsilon > request.epsilon:
        raise AttackError(
            f"the result to carry over has the budget {earlier.norm} {earlier.epsilon:g}, which is not within "
            f"{request.norm} {request.epsilon:g}"
        )
    # Another model, or other images, would not be broken by these points.
    return replace(samples, carried=earlier.adversarial, carried_broken=earlier.broken)


def carry_over(result: AttackResult, earlier: AttackResult | None) -> AttackResult:
    """Return the result with the earlier one's account of what that one broke."""
    if earlier is None:
        return result
    is_earlier = earlier.broken & result.broken & (result.broken_at_step == 0)
    broken_by = [
        before if was else now
        for was, before, now in zip(is_earlier.tolist(), earlier.broken_by, result.broken_by, strict=True)
    ]
    steps = torch.where(is_earlier, earlier.broken_at_step, result.broken_at_step)
    queries = result.queries + earlier.queries
    return replace(result, broken_by=broken_by, broken_at_step=steps, queries=queries)
