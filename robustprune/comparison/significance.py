"""Tests of no difference, McNemar's and Holm's correction for many, and the paper's eq. 1 with confidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.special import bdtr

Verdict = Literal["better", "winning", "losing", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("better", "winning", "undecided", "losing")


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


def judge(interval: tuple[float, float], tolerance: float, *, higher_is_better: bool = True) -> Verdict:
    """Return what the interval of a difference, candidate − dense, allows to say.

    A ticket wins where accuracy(ticket) + ξ ≥ accuracy(dense) (eq. 1). With an interval in place of the difference:
    ``better`` where it lies above 0, ``winning`` where it lies above −ξ, ``losing`` where it lies below −ξ, and
    ``undecided`` where −ξ is in it.

    Args:
        interval: Of the difference.
        tolerance: ξ ≥ 0, in the unit of the interval.
        higher_is_better: False for errors, whose sign is turned.
    """
    low, high = interval if higher_is_better else (-interval[1], -interval[0])
    if low > 0:
        return "better"
    if low > -tolerance:
        return "winning"
    return "losing" if high < -tolerance else "undecided"
