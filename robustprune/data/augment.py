"""Random flips and shifts of a whole batch by one gather: no loop over images, no change of type."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustprune.runtime.randomness import Draws, as_draws


def default_shift(image_size: int | tuple[int, int]) -> int:
    """Return the customary shift in pixels: an eighth of the shorter side (4 for 32×32, 1 for 8×8)."""
    return (image_size if isinstance(image_size, int) else min(image_size)) // 8


def augment(images: Tensor, generator: torch.Generator | Draws, *, flip: bool, shift: int) -> Tensor:
    """Return the images, each flipped left to right with probability 1/2 and shifted by whole pixels.

    The shift is uniform over -shift … shift in both directions, drawn for every image; what comes in at the
    border is zero. This is the usual "pad and crop" of CIFAR training.

    Args:
        images: (N, C, H, W) of any type, in contiguous or channels-last layout, which is kept.
        generator: Where the draws come from; its device may differ from that of the images. Flips are drawn
            even when they are not wanted, so the shifts are the same with and without them.
        flip: Whether to flip at all.
        shift: Largest shift in pixels; 0 for none.
    """
    if not flip and shift == 0:
        return images
    count, channels, height, width = images.shape
    device = images.device
    draws = as_draws(generator)
    flipped = draws.rand(count, 1).to(device) < (0.5 * flip)
    offsets = draws.randint(2 * shift + 1, count, 2)
    down, right = offsets.to(device)[:, :1], offsets.to(device)[:, 1:]  # (N, 1) each

    columns = torch.arange(width, device=device).expand(count, width)
    columns = torch.where(flipped, columns.flip(1), columns) + right  # (N, W) of the padded image
    rows = torch.arange(height, device=device) + down  # (N, H)
    pixels = rows[:, :, None] * (width + 2 * shift) + columns[:, None, :]  # (N, H, W)

    padded = F.pad(images, (shift, shift, shift, shift)).reshape(count, channels, -1)
    chosen = padded.gather(2, pixels.view(count, 1, -1).expand(-1, channels, -1))
    layout = _layout(images)
    return chosen.view(count, channels, height, width).contiguous(memory_format=layout)


def _layout(images: Tensor) -> torch.memory_format:
    # A grey batch is in both layouts at once; the plain one is then the cheaper to keep.
    if images.is_contiguous() or not images.is_contiguous(memory_format=torch.channels_last):
        return torch.contiguous_format
    return torch.channels_last
