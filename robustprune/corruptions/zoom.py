"""The blur of zooming in, as one sparse matrix over all pixels of an image."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse

from robustprune.corruptions.arrays import Bytes
from robustprune.corruptions.linear import centre_zoom


def mean_of_zooms(images: Bytes, last: float) -> Bytes:
    """Return the mean of images (N, C, H, W) and their enlargements by 1, 1.01, … below ``last``, truncated.

    A pixel depends on a few on the way to the middle, however many enlargements there are.
    """
    height, width = images.shape[2:]
    pixels = images.reshape(-1, height * width).T.astype(np.float32)
    # Grey levels times sixteen-bit weights: whole numbers below 2²⁴, which single precision sums without rounding.
    total = (_operator(height, width, last) @ pixels) * np.float32(2.0**-16)
    mean: Bytes = total.astype(np.uint8).T.reshape(images.shape)
    return mean


@lru_cache(maxsize=10)
def _operator(height: int, width: int, last: float) -> Any:
    """Return the matrix (H·W, H·W) of the mean, in units of 2⁻¹⁶; its rows sum to one exactly."""
    factors = np.arange(1, last, 0.01)
    total: Any = sparse.eye_array(height * width, format="csr")
    for factor in factors:
        rows, columns = (sparse.csr_array(centre_zoom(side, factor)) for side in (height, width))
        total += sparse.kron(rows, columns, format="csr")
    total *= 2.0**16 / (len(factors) + 1)
    total.data = np.rint(total.data)
    missing = 2**16 - total.sum(axis=1)
    return (total + sparse.diags_array(missing)).astype(np.float32).tocsr()
