"""Edges and distances the way OpenCV computes them, for a batch of small grey images in whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustprune.corruptions.arrays import Bytes, Floats, Integers

Mask = NDArray[np.bool_]

# tan 22.5° with 15 fractional bits, to which OpenCV rounds the sectors of directions.
_TANGENT_BITS, _TANGENT = 15, 13573
# Steps straight, diagonal and like a knight's, with 16 fractional bits: the 5×5 chamfer mask for Euclidean
# distance (Borgefors 1986, "Distance transformations in digital images").
_STRAIGHT, _DIAGONAL, _KNIGHT = (round(length * 2**16) for length in (1.0, 1.4, 2.1969))


def canny(images: Bytes, low: int, high: int) -> Mask:
    """Return the edges (N, H, W) of images (N, H, W) by Canny's method, with 3×3 Sobel gradients and L1 norm.

    An edge is a ridge of the gradient that exceeds ``low`` and hangs together with one that exceeds ``high``.
    """
    right, down = _sobel(images.astype(np.int64))
    strength = np.abs(right) + np.abs(down)
    around = np.pad(strength, [(0, 0), (1, 1), (1, 1)])
    height, width = images.shape[1:]

    def beside(rows: int, columns: int) -> Integers:
        return around[:, 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    flat = np.abs(right) * _TANGENT
    steep = flat + (np.abs(right) << (_TANGENT_BITS + 1))
    rise = np.abs(down) << _TANGENT_BITS
    opposed = (right ^ down) < 0
    across = (strength > beside(0, -1)) & (strength >= beside(0, 1))
    along = (strength > beside(-1, 0)) & (strength >= beside(1, 0))
    falling = (strength > beside(-1, -1)) & (strength > beside(1, 1))
    rising = (strength > beside(-1, 1)) & (strength > beside(1, -1))
    ridge = np.where(rise < flat, across, np.where(rise > steep, along, np.where(opposed, rising, falling)))
    possible = ridge & (strength > low)
    return _grow(possible & (strength > high), possible)


def _sobel(images: Integers) -> tuple[Integers, Integers]:
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1)], mode="edge")
    smooth_down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth_right = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    return smooth_down[:, :, 2:] - smooth_down[:, :, :-2], smooth_right[:, 2:] - smooth_right[:, :-2]


def _grow(seeds: Mask, within: Mask) -> Mask:
    """Return what of a mask hangs together with the seeds, diagonals included."""
    height, width = seeds.shape[1:]
    while True:
        padded = np.pad(seeds, [(0, 0), (1, 1), (1, 1)])
        tall = padded[:, :height] | padded[:, 1 : height + 1] | padded[:, 2:]
        grown = (tall[:, :, :width] | tall[:, :, 1 : width + 1] | tall[:, :, 2:]) & within
        if np.array_equal(grown, seeds):
            return seeds
        seeds = grown


def chamfer_distance(targets: Mask, farthest: int) -> Floats:
    """Return the distance (N, H, W) of every pixel to the nearest target, by the 5×5 chamfer mask.

    Args:
        targets: (N, H, W).
        farthest: What an image without targets gets; at least the largest distance of interest.
    """
    beyond = (farthest + 8) << 16
    distance = np.where(targets, 0, beyond).astype(np.int64)
    _sweep(distance, beyond)
    # From below and from the right the image is the same image turned about.
    _sweep(distance[:, ::-1, ::-1], beyond)
    return np.minimum(distance, beyond) / 2**16


def _sweep(distance: Integers, beyond: int) -> None:
    """Lower the distances to what comes from the rows above and from the left, row by row, in place."""
    _, height, width = distance.shape
    ramp = np.arange(width) * _STRAIGHT
    padded = np.full((len(distance), height + 2, width + 4), 2 * beyond, dtype=np.int64)
    steps = [(1, 0, _STRAIGHT), (1, -1, _DIAGONAL), (1, 1, _DIAGONAL)]
    steps += [(1, -2, _KNIGHT), (1, 2, _KNIGHT), (2, -1, _KNIGHT), (2, 1, _KNIGHT)]
    for row in range(height):
        best = distance[:, row].copy()
        for up, right, length in steps:
            np.minimum(best, padded[:, row + 2 - up, 2 + right : 2 + right + width] + length, out=best)
        best = np.minimum.accumulate(best - ramp, axis=1) + ramp
        distance[:, row] = padded[:, row + 2, 2:-2] = best


def box_blur(images: NDArray[Any]) -> Floats:
    """Return the mean over 3×3 pixels, the border mirrored without repeating the edge."""
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1)], mode="reflect").astype(np.float64)
    tall = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    total: Floats = tall[:, :, :-2] + tall[:, :, 1:-1] + tall[:, :, 2:]
    return total / 9


def rim(images: Bytes) -> Bytes:
    """Return the images under the embossing kernel (−2 −1 0 / −1 1 1 / 0 1 2), clipped to 0…255."""
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1)], mode="reflect").astype(np.int64)
    height, width = images.shape[1:]
    total = np.zeros(images.shape, dtype=np.int64)
    for row, weights in enumerate(((-2, -1, 0), (-1, 1, 1), (0, 1, 2))):
        for column, weight in enumerate(weights):
            total += weight * padded[:, row : row + height, column : column + width]
    return np.clip(total, 0, 255).astype(np.uint8)


def equalize(images: Bytes) -> Bytes:
    """Return the images with their histograms spread evenly over 0…255; one of a single level stays as it is."""
    count, pixels = len(images), images[0].size if len(images) else 1
    flat = images.reshape(count, -1) + np.arange(count)[:, None] * 256
    histogram = np.bincount(flat.ravel(), minlength=256 * count).reshape(count, 256)
    running = histogram.cumsum(axis=1)
    lowest = np.take_along_axis(histogram, (histogram > 0).argmax(axis=1)[:, None], axis=1)
    others = pixels - lowest
    spread = np.rint((running - lowest) * (255 / np.maximum(others, 1)))
    levels: Bytes = np.where(others == 0, np.arange(256), np.clip(spread, 0, 255)).astype(np.uint8)
    spread_out: Bytes = levels.ravel()[flat].reshape(images.shape)
    return spread_out
