"""The paper's eq. 1 with confidence: whether a ticket wins."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["better", "winning", "losing", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("better", "winning", "undecided", "losing")


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
