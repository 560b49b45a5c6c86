"""Blurs: out of focus, through frosted glass, in motion, zooming in, and Gaussian."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from robustprune.corruptions import linear
from robustprune.corruptions.arrays import Bytes, Floats
from robustprune.corruptions.draws import Draws
from robustprune.corruptions.geometry import geometry_scale
from robustprune.corruptions.motion import directional_blur
from robustprune.corruptions.zoom import mean_of_zooms

_DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))  # radius of the disk, softening of its edge
_GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))  # deviation, reach, rounds
_MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))  # radius, deviation
_ZOOM = (1.06, 1.11, 1.16, 1.21, 1.26)  # the factors are 1, 1.01, … below this
_GAUSSIAN = (0.4, 0.6, 0.7, 0.8, 1.0)  # deviation


def gaussian_blur(images: Bytes, severity: int, draws: Draws) -> Bytes:
    """A Gaussian blur."""
    return _truncated(linear.gaussian_blur(images, _GAUSSIAN[severity - 1] * geometry_scale(*images.shape[2:])))


def defocus_blur(images: Bytes, severity: int, draws: Draws) -> Bytes:
    """A disk in place of every point, as through a lens out of focus."""
    scale = geometry_scale(*images.shape[2:])
    radius, softening = (scale * value for value in _DEFOCUS[severity - 1])
    reach, margin = math.floor(radius), math.ceil(scale)
    padded = np.pad(images, [(0, 0), (0, 0), *[(reach + margin, reach + margin)] * 2], mode="reflect")
    total, count = _disk_sum(padded, radius)
    kernel = linear.gaussian_kernel(softening, margin)
    rows, columns = (linear.convolution(length, kernel, None) for length in total.shape[2:])
    return _truncated(linear.along_axes(total, rows, columns) / count)


def _disk_sum(images: Bytes, radius: float) -> tuple[NDArray[np.int32], int]:
    """Return the sum over a disk of pixels about each pixel that has them all, and how many they are."""
    reach = math.floor(radius)
    height, width = (side - 2 * reach for side in images.shape[2:])
    running = np.zeros((*images.shape[:3], images.shape[3] + 1), dtype=np.int32)
    np.cumsum(images, axis=3, dtype=np.int32, out=running[..., 1:])
    total = np.zeros((*images.shape[:2], height, width), dtype=np.int32)
    count = 0
    for down in range(-reach, reach + 1):
        half = math.floor(math.sqrt(radius * radius - down * down))
        line = running[:, :, reach + down : reach + down + height]
        total += line[..., reach + half + 1 : reach + half + 1 + width] - line[..., reach - half : reach - half + width]
        count += 2 * half + 1
    return total, count


def glass_blur(images: Bytes, severity: int, draws: Draws) -> Bytes:
    """Blurred, shuffled within small neighbourhoods, and blurred again."""
    scale = geometry_scale(*images.shape[2:])
    deviation, reach, rounds = _GLASS[severity - 1]
    shuffled = _truncated(linear.gaussian_blur(images, deviation * scale))
    for turn in range(rounds):
        shuffled = _shuffle(shuffled, draws, round(reach * scale), turn)
    return _truncated(linear.gaussian_blur(shuffled, deviation * scale))


def _shuffle(images: Bytes, draws: Draws, reach: int, turn: int) -> Bytes:
    """Give every pixel, but for a margin, the value of one drawn from −reach … reach − 1 about it.

    The published code means to exchange two pixels, but copies one over the other, as both names are views of
    the same memory. It goes backwards with offsets of −1 and 0, so what it copies is never itself a copy of the
    same round: the round is one gather. So it is here at any reach, on larger images too.
    """
    count, channels, height, width = images.shape
    source = np.arange(height * width).reshape(height, width)
    inner = np.s_[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1]
    rows, columns = source[inner].shape
    moves = draws.integers(f"shuffle {turn}", 2 * rows * columns, 2 * reach).reshape(count, 2, rows, columns) - reach
    source = np.tile(source, (count, 1, 1))
    source[:, inner[0], inner[1]] += moves[:, 0] * width + moves[:, 1]
    index = torch.from_numpy(source).view(count, 1, -1).expand(-1, channels, -1)
    return torch.from_numpy(images).view(count, channels, -1).gather(2, index).view(images.shape).numpy()


def motion_blur(images: Bytes, severity: int, draws: Draws) -> Bytes:
    """Smeared in one direction, within 45 degrees of the horizontal."""
    radius, deviation = _MOTION[severity - 1]
    angle = draws.uniform("angle", -45, 45, 1)[:, 0]
    return directional_blur(images, angle, radius, deviation, geometry_scale(*images.shape[2:]))


def zoom_blur(images: Bytes, severity: int, draws: Draws) -> Bytes:
    """The mean of the image and of enlargements of its middle, as while zooming in."""
    return mean_of_zooms(images, _ZOOM[severity - 1])


def _truncated(means: Floats) -> Bytes:
    """Return means of grey levels, which need no clipping, as grey levels."""
    return means.astype(np.uint8)
