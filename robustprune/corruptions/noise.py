"""Noise that strikes every pixel and channel on its own: Gaussian, shot, impulse and speckle.

The new grey level then depends on the old one and a random number alone, so each kind of noise at each severity is
a table of 256 distributions over 256 grey levels. They are computed from the definition in closed form and drawn
from by Walker's alias method (1977): one random word and two look-ups per element, the clipping and the truncation
of the published code included.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, poisson

from robustprune.corruptions.image_randomness import ImageRandomness
from robustprune.corruptions.raster import Bytes, Floats

_GAUSSIAN = (0.04, 0.06, 0.08, 0.09, 0.10)  # deviation, as all constants here in units of [0, 1]
_SHOT = (500, 250, 100, 75, 50)  # photons of a white pixel
_IMPULSE = (0.01, 0.02, 0.03, 0.05, 0.07)  # share of elements struck
_SPECKLE = (0.06, 0.1, 0.12, 0.16, 0.2)  # deviation per unit of brightness
_LEVELS = np.arange(256) / 255
_THRESHOLD_BITS = 24


def transitions(name: str, severity: int) -> Floats:
    """Return (256, 256) probabilities: row v holds the distribution of the grey level that v becomes."""
    if name == "gaussian_noise":
        return _normal(np.full(256, _GAUSSIAN[severity - 1]))
    if name == "speckle_noise":
        return _normal(_LEVELS * _SPECKLE[severity - 1])
    if name == "shot_noise":
        return _poisson(_SHOT[severity - 1])
    struck = _IMPULSE[severity - 1]
    table = (1 - struck) * np.eye(256)
    table[:, [0, 255]] += struck / 2
    return table


def _normal(deviations: Floats) -> Floats:
    # Level k is what lies between k/255 and (k+1)/255; everything below 1/255 is black, from 1 on white.
    edges = np.concatenate([[-np.inf], np.arange(1, 256) / 255, [np.inf]])
    spread = np.maximum(deviations, 1e-9)[:, None]  # black under speckle noise stays black
    # A level is in the middle of rounding noise about its own edge only where there is no noise at all.
    return np.diff(norm.cdf((edges - _LEVELS[:, None] - 1e-12) / spread), axis=1)


def _poisson(photons: int) -> Floats:
    counts = np.arange(2 * photons + 100)
    becomes = np.minimum(counts * 255 // photons, 255)
    table = np.zeros((256, 256))
    for level in range(256):
        table[level] = np.bincount(becomes, poisson.pmf(counts, level / 255 * photons), minlength=256)
    table /= table.sum(axis=1, keepdims=True)
    return table


@lru_cache(maxsize=20)
def alias_table(name: str, severity: int) -> tuple[NDArray[np.uint32], Bytes]:
    """Return thresholds (in units of 2⁻²⁴) and aliases, each flat of 256 × 256.

    Of row v a column k is drawn uniformly and kept if a uniform number lies below its threshold; else its alias
    is taken. Built by giving the poorest column of each row from the richest, until all are even.
    """
    mass = transitions(name, severity) * 256
    rows = np.arange(256)
    threshold, alias = np.ones((256, 256)), np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    waiting = mass.copy()  # the columns not yet dealt with; the others at infinity
    for _ in range(255):
        poorest = waiting.argmin(axis=1)
        richest = np.where(np.isinf(waiting), -1, waiting).argmax(axis=1)
        kept = waiting[rows, poorest]
        threshold[rows, poorest], alias[rows, poorest] = kept, richest
        waiting[rows, richest] -= 1 - kept
        waiting[rows, poorest] = np.inf
    scaled = np.rint(np.clip(threshold, 0, 1) * 2**_THRESHOLD_BITS).astype(np.uint32)
    return scaled.ravel(), alias.ravel()


def _sample(name: str, images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    threshold, alias = alias_table(name, severity)
    bits = draws.bits("levels", int(np.prod(images.shape[1:]))).reshape(images.shape)
    column = bits.astype(np.uint8)
    cell: NDArray[Any] = (images.astype(np.intp) << 8) | column
    return np.where((bits >> 8) < threshold.take(cell), column, alias.take(cell))


gaussian_noise = partial(_sample, "gaussian_noise")
shot_noise = partial(_sample, "shot_noise")
impulse_noise = partial(_sample, "impulse_noise")
speckle_noise = partial(_sample, "speckle_noise")
