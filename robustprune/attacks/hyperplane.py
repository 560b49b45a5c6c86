"""The shortest way onto a hyperplane that stays in the box, sample by sample, in L∞, L2 and L1.

Towards w·δ = c every entry moves by some m ≥ 0 in the direction that helps, up to the wall of the box. The shortest
δ has m = min(t, wall) in L∞ and m = min(t·|w|, wall) in L2, with the t at which the way suffices; w·δ is concave and
piecewise linear in t, so Newton's method ends exactly there. In L1 the entries of the largest |w| go first.
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
