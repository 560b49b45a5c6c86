"""Random numbers that belong to an image: a counter-based generator, vectorized over the images of a batch.

A number depends on the key of its image, on what it is for, and on its place in the image, on nothing else; so an
image is corrupted alike alone, in any batch, in any order and in any process. All arithmetic is on integers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustprune.corruptions.raster import FRACTION_BITS, Floats, Words
from robustprune.runtime.randomness import derive_seed

_GOLDEN = 0x9E3779B97F4A7C15


class ImageRandomness:
    """Random numbers for some images of one corruption at one severity."""

    def __init__(self, keys: Words) -> None:
        """Take the keys (n,) of the images; see :func:`image_keys`."""
        self.keys = keys

    def words(self, purpose: str, count: int) -> Words:
        """Return (n, count) uniform 64-bit words; each purpose has a stream of its own.

        SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"), entered at a
        place that the key decides.
        """
        start = _mix(self.keys ^ np.uint64(derive_seed("draws", purpose)))
        steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
        return _mix_in_place(start[:, None] + steps)

    def bits(self, purpose: str, count: int) -> NDArray[np.uint32]:
        """Return (n, count) uniform 32-bit words."""
        return self.words(purpose, (count + 1) // 2).astype("<u8", copy=False).view("<u4")[:, :count]

    def integers(self, purpose: str, count: int, below: int) -> NDArray[np.int64]:
        """Return (n, count) integers 0 … below − 1, below being at most 2¹⁶, uniform to one part in 2¹⁶/below."""
        return (self._halves(purpose, count).astype(np.int64) * below) >> 16

    def uniform(self, purpose: str, low: float, high: float, *shape: int) -> Floats:
        """Return (n, *shape) numbers uniform between low and high."""
        unit = (self.bits(purpose, int(np.prod(shape))).astype(np.float64) + 0.5) / 2**32
        return (low + (high - low) * unit).reshape(-1, *shape)

    def symmetric(self, purpose: str, *shape: int) -> Floats:
        """Return (n, *shape) numbers uniform in −1 … 1, odd multiples of 2⁻¹⁶."""
        halves = self._halves(purpose, int(np.prod(shape)))
        return ((halves * np.float64(2) - 65535) / 2**16).reshape(-1, *shape)

    def normal(self, purpose: str, mean: float, deviation: float, *shape: int) -> Floats:
        """Return (n, *shape) normal numbers with 16 fractional bits, drawn from 65,536 quantiles.

        The extreme ones lie 4.3 deviations out; what is beyond happens once in 60,000 draws.
        """
        halves = self._halves(purpose, int(np.prod(shape)))
        numbers: Floats = _normal_quantiles(mean, deviation)[halves].reshape(-1, *shape)
        return numbers

    def _halves(self, purpose: str, count: int) -> NDArray[np.uint16]:
        """Return (n, count) uniform 16-bit words."""
        return self.words(purpose, (count + 3) // 4).astype("<u8", copy=False).view("<u2")[:, :count]


def image_keys(seed: int, corruption: str, severity: int, sample_ids: NDArray[np.int64]) -> Words:
    """Return the keys (n,) of images for a corruption at a severity."""
    stream = np.uint64(derive_seed("corruption", seed, corruption, severity))
    return _mix(_mix(sample_ids.astype(np.uint64) * np.uint64(_GOLDEN)) ^ stream)


@lru_cache(maxsize=32)
def _normal_quantiles(mean: float, deviation: float) -> Floats:
    from scipy.special import ndtri

    middles = ndtri((np.arange(2**16) + 0.5) / 2**16)
    middles /= middles.std()
    table: Floats = np.rint((mean + deviation * middles) * 2**FRACTION_BITS) / 2**FRACTION_BITS
    return table


def _mix(state: Any) -> Words:
    """Return the output function of SplitMix64 applied to each word."""
    return _mix_in_place(np.array(state, dtype=np.uint64))


def _mix_in_place(mixed: Words) -> Words:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed
