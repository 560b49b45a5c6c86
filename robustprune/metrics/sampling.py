"""What a sample drawn without replacement says of a count in the finite population that it comes from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import betaln

from robustprune.errors import EvaluationError


def count_interval(found: int, sampled: int, population: int, confidence: float = 0.95) -> tuple[int, int]:
    """Return an exact interval for how many of a population have a property that ``found`` of ``sampled`` have.

    It holds the counts under which neither tail of the hypergeometric distribution is below half of 1 − confidence, as
    Clopper and Pearson 1934 do for the binomial one; Wright 1991, "Exact confidence bounds when sampling from small
    finite universes".

    Raises:
        EvaluationError: The counts contradict each other.
    """
    if not 0 <= found <= sampled <= population or sampled < 1:
        raise EvaluationError(f"{found} of {sampled} sampled of {population} are no counts of a sample")
    most = population - (sampled - found)
    tail = (1 - confidence) / 2
    low = _first(lambda count: _chance(range(found, sampled + 1), count, sampled, population) > tail, found, most)
    # From the other end, as the chance of few falls with the count.
    high = -_first(lambda count: _chance(range(found + 1), -count, sampled, population) > tail, -most, -found)
    return low, high


def _chance(found: range, count: int, sampled: int, population: int) -> float:
    """Return the probability to find so many where ``count`` of the population have the property."""
    possible = np.array([each for each in found if each <= count and sampled - each <= population - count], dtype=float)
    if not len(possible):
        return 0.0
    logs = _choose(count, possible) + _choose(population - count, sampled - possible)
    return float(np.exp(logs - _choose(population, np.array([float(sampled)]))).sum())


def _choose(n: int, k: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return log C(n, k)."""
    logs: np.ndarray[tuple[int], np.dtype[np.float64]] = -betaln(1 + n - k, 1 + k) - np.log(n + 1)
    return logs


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the smallest number from low to high for which a condition holds that goes on to hold."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
