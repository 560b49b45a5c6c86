"""The median of a sample, and how far it is known without a thought for how values are spread."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr


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
