"""Arithmetic on whole batches of uint8 images: colour conversion, resizing, mean and deviation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from robustprune.errors import DataError

INTERPOLATION = "bilinear, antialiased"
# ITU-R BT.601 luma in 16-bit fixed point, as Pillow computes it.
_LUMA = (19595, 38470, 7471)
_VALUES = 1 << 16  # that are worked on at a time: copies in wider types stay in the processor's cache
_SMALLEST_STD = 1e-3


def convert_channels(images: Tensor, channels: int) -> Tensor:
    """Return uint8 images (N, C, H, W) with one or three channels.

    Colour becomes grey by ITU-R BT.601 luma, rounded; grey becomes colour by repetition.

    Raises:
        DataError: The conversion is not between one and three channels.
    """
    found = images.shape[1]
    if found == channels:
        return images
    if (found, channels) == (1, 3):
        return images.expand(-1, 3, -1, -1).contiguous()
    if (found, channels) == (3, 1):
        return torch.cat([_luma(chunk) for chunk in in_parts(images)])
    raise DataError(f"images of {found} channels cannot be given {channels}; channels are 1 or 3")


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return uint8 images (N, C, H, W) resized to ``size`` (height, width), without keeping the aspect ratio.

    Bilinear with antialiasing, computed in float32 and rounded back to uint8.
    """
    if tuple(images.shape[2:]) == tuple(size):
        return images
    resized, parts = images.new_empty((*images.shape[:2], *size)), in_parts(images)
    for target, chunk in zip(torch.split(resized, max(1, len(parts[0]))), parts, strict=True):
        smooth = F.interpolate(chunk.float(), size, mode="bilinear", antialias=True, align_corners=False)
        target.copy_(smooth.round_().clamp_(0, 255))
    return resized


def channel_statistics(batches: Iterable[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of every channel, in units of [0, 1].

    The sums are exact integers, so the result depends neither on the order of the images nor on how they are
    batched. A deviation is never below 0.001: images may be divided by it. Batches are uint8 images (n, C, H, W).
    """
    count, totals = 0, torch.zeros(2, 1, dtype=torch.int64)  # of values and squares, by channel
    for batch in batches:
        for chunk in in_parts(batch):
            values = chunk.to(torch.int32)
            count += values[:, 0].numel()
            both = [each.sum(dim=(0, 2, 3), dtype=torch.int64) for each in (values, values.square())]
            totals = totals + torch.stack(both).cpu()
    sums, squares = totals.tolist()
    means = tuple(total / (255 * count) for total in sums)
    variances = ((count * b - a**2) / (255 * count) ** 2 for a, b in zip(sums, squares, strict=True))
    return means, tuple(max(math.sqrt(variance), _SMALLEST_STD) for variance in variances)


def in_parts(images: Tensor) -> tuple[Tensor, ...]:
    """Return some images at a time, so many that copies of them in wider types stay small."""
    return torch.split(images, images_at_a_time(images.shape))


def images_at_a_time(shape: Sequence[int]) -> int:
    """Return how many images of an array (N, …) are worked on at a time."""
    return max(1, _VALUES // max(1, math.prod(shape[1:])))


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.to(torch.int32).unbind(1)
    weighted = red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2] + (1 << 15)
    return (weighted >> 16).to(torch.uint8).unsqueeze(1)
