"""How likely a network of one kind is to be ahead of one of another: P(A > B)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtrinc, ndtr

from robustprune.metrics.seeds import LEAST_SEEDS

_Floats = NDArray[Any]


def chance_to_be_ahead(
    first: _Floats, second: _Floats, *, paired: bool, confidence: float = 0.95
) -> tuple[float, tuple[float, float]] | None:
    """Return the chance that a network of the second kind has a higher value than one of the first, and its interval.

    It speaks of one training, as a difference of means does of all, and of these images. Values (S,) and (T,), one a
    network, are taken for normal: of pairs, the chance is Φ(δ) with δ the mean of their differences over its standard
    deviation, else with the difference of means over √(σ₁² + σ₂²). Of pairs √S δ is a noncentral t, so the interval is
    exact, and lies above one half where Student's lies above 0; of two groups about (Reiser and Guttman 1986,
    "Statistical inference for Pr(Y < X): the normal case"). Bouthillier et al. 2021 ("Accounting for variance in
    machine learning benchmarks") take a method for better from a chance of 75 % on.

    Returns:
        None of fewer than three networks on a side, or where none differs.
    """
    if min(len(first), len(second)) < LEAST_SEEDS:
        return None
    if paired:
        mean, variance = float(np.mean(second - first)), float(np.var(second - first, ddof=1))
        size, freedom = float(len(first)), len(first) - 1.0
    else:
        spreads = [float(np.var(side, ddof=1)) for side in (first, second)]
        mean, variance = float(np.mean(second) - np.mean(first)), sum(spreads)
        counts = len(first), len(second)
        size = variance / sum(each / count for each, count in zip(spreads, counts, strict=True)) if variance else 1.0
        squares = sum(each**2 / (count - 1) for each, count in zip(spreads, counts, strict=True))
        freedom = variance**2 / squares if squares else 1.0
    if variance == 0:
        return None
    effect = mean / math.sqrt(variance)
    tails = (1 + confidence) / 2, (1 - confidence) / 2
    low, high = (float(nctdtrinc(freedom, tail, math.sqrt(size) * effect)) / math.sqrt(size) for tail in tails)
    return float(ndtr(effect)), (float(ndtr(low)), float(ndtr(high)))
