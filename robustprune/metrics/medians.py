"""The median of a sample, and how far it is known without a thought for how values are spread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from robustprune.metrics.detection import bootstrap_counts


def median_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the upper median of values (n,), which may be infinite, and the ends of an interval for that of all.

    As many values lie below the median of all as coins fall heads. So it lies between the order statistics of ranks r
    and n + 1 − r but with probability 2 P(heads < r), at most 1 − confidence for the r taken (Conover 1999, Practical
    Nonparametric Statistics, section 3.2). Of too few values for that, less than six at 95 %, the ends are −∞ and ∞.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    rank = int((bdtr(np.arange(n // 2 + 1), n, 0.5) <= (1 - confidence) / 2).sum())
    low, high = (ordered[rank - 1], ordered[n - rank]) if rank > 0 else (-np.inf, np.inf)
    return float(ordered[n // 2]), float(low), float(high)


def resampled_medians(values: ArrayLike, resamples: int, seed: int) -> NDArray[Any]:
    """Return the upper medians (resamples,) of samples drawn with replacement from values (n,), which may be infinite.

    Equal seeds draw the same samples, whatever the values.
    """
    found = np.asarray(values, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    reached = np.cumsum(bootstrap_counts(len(found), resamples, seed)[:, order], axis=1, dtype=np.int64)
    return np.asarray(found[order[(reached > len(found) // 2).argmax(axis=1)]])
