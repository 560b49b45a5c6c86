"""The kinds of arrays that corruptions are made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]  # grey levels
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Words = NDArray[np.uint64]  # random bits

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


def to_bytes(values: NDArray[np.floating] | Integers) -> Bytes:
    """Return grey levels clipped to 0…255 and truncated, as the published sets are."""
    return np.clip(values, 0, 255).astype(np.uint8)
