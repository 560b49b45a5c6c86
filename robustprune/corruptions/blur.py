"""Blurs: out of focus, through frosted glass, in motion, zooming in, and Gaussian."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from robustprune.corruptions import raster
from robustprune.corruptions.image_randomness import ImageRandomness
from robustprune.corruptions.raster import Bytes, Floats, geometry_scale

_DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))  # radius of the disk, softening of its edge
_GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))  # deviation, reach, rounds
_MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))  # radius, deviation
_ZOOM = (1.06, 1.11, 1.16, 1.21, 1.26)  # the factors are 1, 1.01, … below this
_GAUSSIAN = (0.4, 0.6, 0.7, 0.8, 1.0)  # deviation


def gaussian_blur(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """A Gaussian blur."""
    return _truncated(raster.gaussian_blur(images, _GAUSSIAN[severity - 1] * geometry_scale(*images.shape[2:])))


def defocus_blur(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """A disk in place of every point, as through a lens out of focus."""
    scale = geometry_scale(*images.shape[2:])
    radius, softening = (scale * value for value in _DEFOCUS[severity - 1])
    reach, margin = math.floor(radius), math.ceil(scale)
    padded = np.pad(images, [(0, 0), (0, 0), *[(reach + margin, reach + margin)] * 2], mode="reflect")
    total, count = _disk_sum(padded, radius)
    kernel = raster.gaussian_kernel(softening, margin)
    rows, columns = (raster.convolution(length, kernel, None) for length in total.shape[2:])
    return _truncated(raster.along_axes(total, rows, columns) / count)


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


def glass_blur(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """Blurred, shuffled within small neighbourhoods, and blurred again."""
    scale = geometry_scale(*images.shape[2:])
    deviation, reach, rounds = _GLASS[severity - 1]
    shuffled = _truncated(raster.gaussian_blur(images, deviation * scale))
    for turn in range(rounds):
        shuffled = _shuffle(shuffled, draws, round(reach * scale), turn)
    return _truncated(raster.gaussian_blur(shuffled, deviation * scale))


def _shuffle(images: Bytes, draws: ImageRandomness, reach: int, turn: int) -> Bytes:
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


def motion_blur(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """Smeared in one direction, within 45 degrees of the horizontal."""
    radius, deviation = _MOTION[severity - 1]
    angle = draws.uniform("angle", -45, 45, 1)[:, 0]
    return directional_blur(images, angle, radius, deviation, geometry_scale(*images.shape[2:]))


def directional_blur(images: Bytes, angles: Floats, radius: float, deviation: float, scale: float = 1.0) -> Bytes:
    """Return each image smeared along its own direction, the way ImageMagick's motion blur does.

    A pixel becomes the mean of those at 0, 1, …, 2·radius steps along the direction, rounded to whole pixels and
    clamped to the image, with the weights of one half of a Gaussian; the result is rounded to a grey level. Angles
    (N,) are in degrees, clockwise from the right; radius and deviation, in pixels, are multiplied by the scale.
    """
    steps = np.arange(2 * math.ceil(radius * scale) + 1)
    weights = np.exp(-0.5 * (steps / (deviation * scale)) ** 2)
    weights = raster.fixed_point(weights / weights.sum())
    taps = np.flatnonzero(weights)
    # One angle at a time, and not with NumPy's vectors, whose last digit depends on an angle's place in the batch.
    directions = np.array([(math.sin(math.radians(angle)), math.cos(math.radians(angle))) for angle in angles])
    offsets = np.ceil(directions.reshape(-1, 2)[:, None] * taps[:, None] - 0.5).astype(int)  # (N, taps, 2)
    margin = int(np.abs(offsets).max(initial=0))
    padded = np.pad(images, [(0, 0), (0, 0), (margin, margin), (margin, margin)], mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[2:], axis=(2, 3))
    # Grey levels times sixteen-bit weights: whole numbers, which single precision sums without rounding.
    total = np.full(images.shape, 2.0**15, dtype=np.float32)
    every = np.arange(len(images))
    for number, tap in enumerate(taps):
        down, right = (offsets[:, number] + margin).T
        total += windows[every, :, down, right] * np.float32(weights[tap] * 2**16)
    return (total * np.float32(2.0**-16)).astype(np.uint8)


def zoom_blur(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """The mean of the image and of enlargements of its middle, as while zooming in."""
    height, width = images.shape[2:]
    pixels = images.reshape(-1, height * width).T.astype(np.float32)
    # Grey levels times sixteen-bit weights: whole numbers below 2²⁴, which single precision sums without rounding.
    total = (_mean_of_zooms(height, width, _ZOOM[severity - 1]) @ pixels) * np.float32(2.0**-16)
    mean: Bytes = total.astype(np.uint8).T.reshape(images.shape)
    return mean


@lru_cache(maxsize=10)
def _mean_of_zooms(height: int, width: int, last: float) -> Any:
    """Return the matrix (H·W, H·W) of the mean over enlargements by 1, 1.01, … below ``last``, in units of 2⁻¹⁶.

    A pixel depends on a few on the way to the middle, however many there are. The rows sum to one exactly.
    """
    factors = np.arange(1, last, 0.01)
    total: Any = sparse.eye_array(height * width, format="csr")
    for rows, columns in zip(*(_enlargements(side, factors) for side in (height, width)), strict=True):
        total += sparse.kron(sparse.csr_array(rows), sparse.csr_array(columns), format="csr")
    total *= 2.0**16 / (len(factors) + 1)
    total.data = np.rint(total.data)
    missing = 2**16 - total.sum(axis=1)
    return (total + sparse.diags_array(missing)).astype(np.float32).tocsr()


def _enlargements(side: int, factors: Floats) -> list[Floats]:
    """Return the matrix of each enlargement along a side, in whole pixels as in the published code.

    Of 8 pixels that would leave severity 1 nothing to enlarge: there the middle has a fraction of a pixel.
    """
    whole = [raster.centre_zoom(side, factor) for factor in factors]
    if any(not np.array_equal(each, np.eye(side)) for each in whole):
        return whole
    middle = (side - 1) / 2
    return [raster.interpolation(side, middle + (np.arange(side) - middle) / factor) for factor in factors]


def _truncated(means: Floats) -> Bytes:
    """Return means of grey levels, which need no clipping, as grey levels."""
    return means.astype(np.uint8)
