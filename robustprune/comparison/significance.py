"""Tests of no difference: McNemar's for two networks on the same samples, and Holm's correction for many tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import bdtr


def mcnemar(lost: int, gained: int) -> float:
    """Return the two-sided p-value of McNemar's test, exact for any number of samples.

    Of the samples that tell two networks apart, each is as likely to be lost as to be gained where neither is better
    (McNemar 1947); so what is lost is binomial, and there is no need of an approximation by χ².

    Args:
        lost: Samples that the first network has right and the second wrong.
        gained: The other way round.
    """
    return float(min(1.0, 2 * bdtr(min(lost, gained), lost + gained, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return adjusted p-values: those below α are, with probability 1 − α, all of differences that are there.

    Holm 1979, "A simple sequentially rejective multiple test procedure"; it holds however the tests depend.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepwise = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepwise))
    return [float(value) for value in adjusted]
