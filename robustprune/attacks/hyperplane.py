"""The shortest way onto a hyperplane that stays in the box, sample by sample, in L∞, L2 and L1.

Towards w·δ = c every entry moves by some m ≥ 0 in the direction that helps, up to the wall of the box. The shortest
δ has m = min(t, wall) in L∞ and m = min(t·|w|, wall) in L2, with the t at which the way suffices; w·δ is piecewise
linear in t, so the t is found by sorting where entries reach the wall. In L1 the entries of the largest |w| go first.
"""

from __future__ import annotations

import torch
from torch import Tensor


def step_onto(points: Tensor, weights: Tensor, offsets: Tensor, norm: str) -> Tensor:
    """Return the shortest δ (n, D) with weights·(points + δ) = weights·points + offsets, points + δ in [0, 1].

    Where the box does not reach as far, the corner nearest to the hyperplane.

    Args:
        points: (n, D) in [0, 1].
        weights: (n, D).
        offsets: (n,).
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
    """
    direction = weights.sign() * offsets.sign()[:, None]
    walls = torch.where(direction > 0, 1 - points, points) * (direction != 0)
    sizes, needed = weights.abs(), offsets.abs()[:, None]
    if norm == "l1":
        return direction * _largest_first(walls, sizes, needed)
    speeds = torch.ones_like(sizes) if norm == "linf" else sizes
    return direction * _together(walls, sizes, speeds, needed)


def _together(walls: Tensor, sizes: Tensor, speeds: Tensor, needed: Tensor) -> Tensor:
    """Return min(t·speeds, walls) with the t at which sizes·m = needed."""
    times = walls / speeds.clamp(min=1e-30)
    times, order = times.sort(dim=1)
    done = (sizes * walls).gather(1, order).cumsum(dim=1)
    slopes = (sizes * speeds).gather(1, order)
    left = slopes.sum(dim=1, keepdim=True) - slopes.cumsum(dim=1)  # of the entries after this one
    reached = done + times * left.clamp(min=0)
    # The entry at whose wall the way suffices, or the last.
    at = (reached < needed).sum(dim=1, keepdim=True).clamp(max=times.shape[1] - 1)
    before = torch.where(at > 0, done.gather(1, (at - 1).clamp(min=0)), torch.zeros_like(needed))
    slope = left.gather(1, at) + slopes.gather(1, at)
    time = ((needed - before) / slope.clamp(min=1e-30)).clamp(min=0)
    return torch.minimum(time * speeds, walls)


def _largest_first(walls: Tensor, sizes: Tensor, needed: Tensor) -> Tensor:
    order = sizes.argsort(dim=1, descending=True)
    sorted_walls, sorted_sizes = walls.gather(1, order), sizes.gather(1, order)
    gains = sorted_walls * sorted_sizes
    before = gains.cumsum(dim=1) - gains
    wanted = (needed - before).clamp(min=0) / sorted_sizes.clamp(min=1e-30)
    return torch.zeros_like(walls).scatter(1, order, torch.minimum(wanted, sorted_walls))
