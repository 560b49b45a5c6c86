"""How large values can become on their way through a network: interval arithmetic.

Gowal et al. 2018, arXiv:1810.12715, section 3, but for every partial sum, in whatever order: zero is in each interval.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LARGEST_INPUT = 1e4
"""Up to which size of what is read bounds are found: far above normalized images."""

SAFE = 1e37
"""Values below it, and a few of them added up, are far from the largest number of single precision."""

Interval = tuple[Tensor, Tensor]
"""Least and largest values of each channel, (C,) or, if they are the same for all, (), in double precision."""


def of_input() -> Interval:
    """Return the interval of values up to `LARGEST_INPUT`."""
    largest = torch.tensor(LARGEST_INPUT, dtype=torch.float64)
    return -largest, largest


def is_input(maps: Tensor) -> bool:
    """Return whether no value is larger than `LARGEST_INPUT`, and all are numbers."""
    if maps.numel() == 0:
        return True
    least, largest = torch.aminmax(maps)
    return bool((least >= -LARGEST_INPUT) & (largest <= LARGEST_INPUT))


def of_convolution(layer: nn.Conv2d, read: Interval) -> Interval:
    """Return the interval of a convolution whose border is zero."""
    # (groups, outputs per group, inputs per group)
    weights = layer.weight.detach().double()
    weights = weights.reshape(layer.groups, -1, *weights.shape[1:])
    rising, falling = weights.clamp(min=0).sum(dim=(3, 4)), weights.clamp(max=0).sum(dim=(3, 4))
    least, largest = (each.expand(layer.in_channels).reshape(layer.groups, -1, 1) for each in read)
    lower, upper = (rising @ least + falling @ largest).flatten(), (rising @ largest + falling @ least).flatten()
    if layer.bias is not None:
        lower, upper = lower + layer.bias.double().clamp(max=0), upper + layer.bias.double().clamp(min=0)
    return lower.detach(), upper.detach()


def of_sum(first: Interval, second: Interval) -> Interval:
    """Return the interval of a sum."""
    return first[0] + second[0], first[1] + second[1]


def of_relu(read: Interval) -> Interval:
    """Return the interval of what a ReLU lets through."""
    return torch.zeros_like(read[0]), read[1]


def is_safe(interval: Interval) -> bool:
    """Return whether nothing can overflow, and so nothing become NaN."""
    return bool((interval[0] > -SAFE).all() & (interval[1] < SAFE).all())
