"""The directional blur of motion, which snow needs too."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robustprune.corruptions.arrays import Bytes
from robustprune.corruptions.linear import fixed_point


def directional_blur(
    images: Bytes, angles: NDArray[np.float64], radius: float, deviation: float, scale: float = 1.0
) -> Bytes:
    """Return each image smeared along its own direction, the way ImageMagick's motion blur does.

    A pixel becomes the mean of those at 0, 1, …, 2·radius steps along the direction, rounded to whole pixels and
    clamped to the image, with the weights of one half of a Gaussian; the result is rounded to a grey level.

    Args:
        images: (N, C, H, W).
        angles: (N,) degrees, clockwise from the right.
        radius: Half the number of steps.
        deviation: Of the Gaussian, in pixels.
        scale: What radius and deviation are multiplied by.
    """
    steps = np.arange(2 * math.ceil(radius * scale) + 1)
    weights = np.exp(-0.5 * (steps / (deviation * scale)) ** 2)
    weights = fixed_point(weights / weights.sum())
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
