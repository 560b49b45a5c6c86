"""How far two orders agree: Kendall's τ_b, within strata that are not compared with each other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[Any]


def kendall(strata: Iterable[tuple[_Floats, _Floats]]) -> float | None:
    """Return Kendall's τ_b of pairs of values (n,), (n,), over all strata; None where no pair can be ordered.

    ``(C − D) / √((P − T_x)(P − T_y))``: of P pairs within a stratum C agree, D disagree, T are tied in one of the two
    (Kendall 1945, "The treatment of ties in ranking problems"); the sums run over all strata.
    """
    agreeing, ordered_x, ordered_y = 0.0, 0.0, 0.0
    for x, y in strata:
        above = np.triu_indices(len(x), k=1)
        sign_x, sign_y = (np.sign(np.subtract.outer(each, each))[above] for each in (x, y))
        agreeing += float((sign_x * sign_y).sum())
        ordered_x += float(np.abs(sign_x).sum())
        ordered_y += float(np.abs(sign_y).sum())
    return agreeing / math.sqrt(ordered_x * ordered_y) if ordered_x and ordered_y else None


def percentile(value: float, others: _Floats) -> float | None:
    """Return the percentage of other values (n,) below a value, half of those equal to it included; None of none.

    Of a value that is drawn from equals it is 50 on average, whatever n.
    """
    if not len(others):
        return None
    return 100 * float((others < value).mean() + (others == value).mean() / 2)
