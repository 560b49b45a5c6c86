"""What file formats and small displays do: pixelation and JPEG."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustprune.corruptions.arrays import Bytes
from robustprune.corruptions.draws import Draws
from robustprune.corruptions.jpeg import compress

_PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)  # side of the coarse image over that of the original
_JPEG = (80, 65, 58, 50, 40)  # quality


def pixelate(images: Bytes, severity: int, draws: Draws) -> Bytes:
    """Reduced by averaging and enlarged by repetition."""
    height, width = images.shape[2:]
    share = _PIXELATE[severity - 1]
    # Pillow works along the rows first, and rounds half up after each direction.
    for axis, side in ((3, width), (2, height)):
        first, last = (np.take(images, ends, axis=axis) for ends in _averaged(side, int(side * share)))
        images = (first | last) - ((first ^ last) >> 1)  # (first + last + 1) / 2 without leaving eight bits
    return images


@lru_cache(maxsize=16)
def _averaged(side: int, coarse: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the first and the last of the pixels along a side that each pixel becomes the mean of.

    A coarse pixel averages the pixels whose middle it covers: one or two, as it is less than two wide. Where a
    middle lies on its edge, rounding decides, so the arithmetic is that of Pillow's box filter, step by step.
    """
    step = side / coarse
    spans = []
    for place in range(coarse):
        middle = (place + 0.5) * step
        start, stop = max(0, int(middle - 0.5 * step + 0.5)), min(side, int(middle + 0.5 * step + 0.5))
        covered = [pixel for pixel in range(start, stop) if -0.5 < (pixel - middle + 0.5) * (1 / step) <= 0.5]
        spans.append((covered[0], covered[-1]))
    nearest = [int((place + 0.5) * (coarse / side)) for place in range(side)]
    first, last = np.array(spans)[nearest].T
    return first, last


def jpeg_compression(images: Bytes, severity: int, draws: Draws) -> Bytes:
    """Saved as JPEG (4:2:0, as by default) and read again."""
    return compress(images, _JPEG[severity - 1])
