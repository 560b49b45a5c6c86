"""Spatter: drops of water or mud on the lens."""

from __future__ import annotations

import numpy as np

from robustprune.corruptions import linear
from robustprune.corruptions.arrays import LUMA, Bytes, Floats, to_bytes
from robustprune.corruptions.draws import Draws
from robustprune.corruptions.edges import box_blur, canny, chamfer_distance, equalize, rim
from robustprune.corruptions.geometry import canvas

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


def spatter(images: Bytes, severity: int, draws: Draws) -> Bytes:
    """Drops of water (severity 1 to 3) or mud on the lens."""
    mean, deviation, *_ = _SPATTER[severity - 1]
    return spatter_over(images, severity, draws.normal("liquid", mean, deviation, *canvas(*images.shape[2:])))


def spatter_over(images: Bytes, severity: int, field: Floats) -> Bytes:
    """Spatter the images where the field (N, h, w), once smoothed, is high."""
    _, _, blur, threshold, density = _SPATTER[severity - 1]
    liquid = linear.gaussian_blur(field, blur)
    is_mud = severity >= _FIRST_MUD
    if is_mud:
        cover = linear.gaussian_blur((liquid > threshold).astype(np.uint8), density)
        cover[cover < _LEAST_MUD] = 0
    else:
        # What is above 255 begins again at 0: the published code does not clip here, which leaves a hole in a drop.
        drops = np.where(liquid < threshold, 0, liquid) * 255
        cover = density * water_density(drops.astype(np.int64).astype(np.uint8))
    cover = linear.enlarged(cover, *images.shape[2:])[:, None]
    colour = _colour(_MUD if is_mud else _WATER, images.shape[1])
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


def _colour(colour: tuple[int, int, int], channels: int) -> Floats:
    if channels == 1:
        return np.array(np.dot(colour, LUMA))
    return np.array(colour, dtype=float)[:, None, None]
