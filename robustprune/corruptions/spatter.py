"""Spatter: drops of water or mud on the lens, with edges and distances in whole numbers as OpenCV computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from robustprune.corruptions import raster
from robustprune.corruptions.image_randomness import ImageRandomness
from robustprune.corruptions.raster import LUMA, Bytes, Floats, Integers, canvas, to_bytes

# Mean, deviation and blur of the liquid's layer, its threshold, and how dense it is (water) or how soft (mud).
_SPATTER = (
    (0.62, 0.1, 0.7, 0.7, 0.5),
    (0.65, 0.1, 0.8, 0.7, 0.5),
    (0.65, 0.3, 1.0, 0.69, 0.5),
    (0.65, 0.1, 0.7, 0.69, 0.6),
    (0.65, 0.1, 0.5, 0.68, 0.6),
)
_FIRST_MUD = 4
_WATER, _MUD = (175, 238, 238), (63, 42, 20)  # pale turquoise and brown, as red, green, blue
_LEAST_MUD = 0.8
# tan 22.5° with 15 fractional bits, to which OpenCV rounds the sectors of directions.
_TANGENT_BITS, _TANGENT = 15, 13573
# Steps straight, diagonal and like a knight's, with 16 fractional bits: the 5×5 chamfer mask for Euclidean
# distance (Borgefors 1986, "Distance transformations in digital images").
_STRAIGHT, _DIAGONAL, _KNIGHT = (round(length * 2**16) for length in (1.0, 1.4, 2.1969))
_SOBEL = np.array([[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]])  # the change to the right
_EMBOSSING = np.array([[[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]])

Mask = NDArray[np.bool_]


def spatter(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """Drops of water (severity 1 to 3) or mud on the lens."""
    mean, deviation, *_ = _SPATTER[severity - 1]
    return spatter_over(images, severity, draws.normal("liquid", mean, deviation, *canvas(*images.shape[2:])))


def spatter_over(images: Bytes, severity: int, field: Floats) -> Bytes:
    """Spatter the images where the field (N, h, w), once smoothed, is high."""
    _, _, blur, threshold, density = _SPATTER[severity - 1]
    liquid = raster.gaussian_blur(field, blur)
    is_mud = severity >= _FIRST_MUD
    if is_mud:
        cover = raster.gaussian_blur((liquid > threshold).astype(np.uint8), density)
        cover[cover < _LEAST_MUD] = 0
    else:
        # What is above 255 begins again at 0: the published code does not clip here, which leaves a hole in a drop.
        drops = np.where(liquid < threshold, 0, liquid) * 255
        cover = density * water_density(drops.astype(np.int64).astype(np.uint8))
    cover = raster.enlarged(cover, *images.shape[2:])[:, None]
    rgb = np.array(_MUD if is_mud else _WATER, dtype=float)
    colour = np.dot(rgb, LUMA) if images.shape[1] == 1 else rgb[:, None, None]
    return to_bytes(images * (1 - cover) + cover * colour if is_mud else images + cover * colour)


def water_density(liquid: Bytes) -> Floats:
    """Return how dense water looks, 0 to 1 within each image: thick away from its rims, lit from one side.

    The published chain of OpenCV calls: edges, distance from them, its histogram spread, an embossing kernel.
    """
    distance = np.minimum(chamfer_distance(canny(liquid, 50, 150), 20), 20)
    depth = equalize(box_blur(distance).astype(np.uint8))
    lit = np.rint(box_blur(rim(depth)))
    density = np.multiply(liquid, lit, dtype=np.float64)
    densest = density.max(axis=(1, 2), keepdims=True)
    np.divide(density, densest, out=density, where=densest > 0)
    return density


def canny(images: Bytes, low: int, high: int) -> Mask:
    """Return the edges (N, H, W) of images (N, H, W) by Canny's method, with 3×3 Sobel gradients and L1 norm.

    An edge is a ridge of the gradient that exceeds ``low`` and hangs together with one that exceeds ``high``.
    """
    levels = images.astype(np.int64)
    right, down = (ndimage.correlate(levels, kernel, mode="nearest") for kernel in (_SOBEL, _SOBEL.swapaxes(1, 2)))
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
    connected = np.zeros((3, 3, 3), dtype=bool)
    connected[1] = True  # within an image, diagonals included
    grown: Mask = ndimage.binary_propagation(possible & (strength > high), connected, mask=possible)
    return grown


def chamfer_distance(targets: Mask, farthest: int) -> Floats:
    """Return the distance (N, H, W) of every pixel to the nearest target, by the 5×5 chamfer mask.

    ``farthest`` is what an image without targets gets, at least; it is the largest distance of interest.
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
    total: Floats = ndimage.correlate(images.astype(np.float64), np.ones((1, 3, 3)), mode="mirror")
    return total / 9


def rim(images: Bytes) -> Bytes:
    """Return the images under the embossing kernel, clipped to 0…255."""
    return to_bytes(ndimage.correlate(images.astype(np.int64), _EMBOSSING, mode="mirror"))


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
