"""The blur of zooming in, as one sparse matrix over all pixels of an image."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from robustprune.corruptions.arrays import Bytes, Floats
from robustprune.corruptions.linear import centre_zoom, interpolation


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
    for rows, columns in zip(*(_enlargements(side, factors) for side in (height, width)), strict=True):
        total += sparse.kron(sparse.csr_array(rows), sparse.csr_array(columns), format="csr")
    total *= 2.0**16 / (len(factors) + 1)
    total.data = np.rint(total.data)
    missing = 2**16 - total.sum(axis=1)
    return (total + sparse.diags_array(missing)).astype(np.float32).tocsr()


def _enlargements(side: int, factors: NDArray[np.float64]) -> list[Floats]:
    """Return the matrix of each enlargement along a side, in whole pixels as in the published code.

    Of 8 pixels that would leave severity 1 nothing to enlarge: there the middle has a fraction of a pixel.
    """
    whole = [centre_zoom(side, factor) for factor in factors]
    if any(not np.array_equal(each, np.eye(side)) for each in whole):
        return whole
    middle = (side - 1) / 2
    return [interpolation(side, middle + (np.arange(side) - middle) / factor) for factor in factors]
