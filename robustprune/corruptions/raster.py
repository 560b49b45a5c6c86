"""What the corruptions share: kinds of arrays, grey levels, and how lengths follow the size of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]  # grey levels
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Words = NDArray[np.uint64]  # random bits

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
REFERENCE_SIDE = 32  # of the images that the constants are published for


def to_bytes(values: NDArray[np.floating] | Integers) -> Bytes:
    """Return grey levels clipped to 0…255 and truncated, as the published sets are."""
    return np.clip(values, 0, 255).astype(np.uint8)


def geometry_scale(height: int, width: int) -> float:
    """Return what lengths in pixels (radii, deviations of blurs, flakes) are multiplied by.

    It is the shorter side over 32, and never below one: on smaller images a pixel is as fine as geometry gets,
    and a blur by a fraction of it would leave nothing to measure. Lengths that are given as a share of the image
    (zoom, pixelation, elastic displacements, the coarseness of fog) follow the side at any size.
    """
    return max(1.0, min(height, width) / REFERENCE_SIDE)


def canvas(height: int, width: int) -> tuple[int, int]:
    """Return the size at which weather is drawn before it is enlarged onto the image."""
    scale = geometry_scale(height, width)
    return round(height / scale), round(width / scale)
