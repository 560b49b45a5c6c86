"""Looking more than once: how sure each look has to be, so that all of them together err as seldom as one.

Whoever trains further seeds until a verdict comes looks at the same networks again and again, and each look is one more
chance to be wrong. So the chance α of being wrong is spent over the looks that are planned: α ln(1 + (e − 1) tₖ) of it
by look k, tₖ the share of the seeds that may be trained at most (Lan and DeMets 1983, "Discrete sequential boundaries
for clinical trials"; the function that is about Pocock's 1977 boundary). With O'Brien and Fleming's the first looks,
at three and five seeds, would be in vain: what it spends on them is too little for Student's t.

The published boundaries of the normal distribution, turned into levels of Student's t, err in 5.8 % and not in 5 where
the first look is at three seeds. So the levels are those of t statistics of growing samples, found by simulation with a
seed of its own. Bounds of these levels hold at all looks together (repeated confidence intervals, Jennison and Turnbull
1989): whatever one stops for, a bound errs in α at most.

The images are the same at every look. Where they are part of the variance, looks are more alike than where seeds are
all of it, and err together less often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import stdtr

from robustprune.metrics.seeds import LEAST_SEEDS

_FIRST = (LEAST_SEEDS, 5, 7, 10, 14, 20)
_DRAWS = 200_000


def plan_looks(most_seeds: int) -> tuple[int, ...]:
    """Return after how many seeds to look: after 3, 5, 7, 10, 14, 20, 28, 40 … and the most there may be.

    From one look to the next there are about 1.4 times as many seeds: more looks save little, and each costs power.
    """
    looks = [count for count in _FIRST if count < most_seeds]
    while len(looks) >= len(_FIRST) and 2 * looks[-2] < most_seeds:
        looks.append(2 * looks[-2])
    return (*looks, most_seeds)


def look_levels(looks: Sequence[int], alpha: float = 0.05) -> tuple[float, ...]:
    """Return the one-sided level of each look, so that a bound errs at any of them with chance ``alpha`` at most.

    Args:
        looks: Numbers of seeds, two or more and increasing; the last is the most there may be.
        alpha: From 0.001 to 0.5.
    """
    return _levels(tuple(looks), alpha)


@lru_cache(maxsize=16)
def _levels(looks: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    random = np.random.default_rng(1983)
    sums, squares, before = np.zeros(_DRAWS), np.zeros(_DRAWS), 0
    levels, spent = [], 0
    for count in looks:
        # The sum of so many more normal values, and of their squares: what is about their own mean is a χ² apart.
        more = count - before
        block = math.sqrt(more) * random.standard_normal(len(sums))
        sums, squares = sums + block, squares + block**2 / more
        if more > 1:
            squares += random.chisquare(more - 1, len(sums))
        spread = np.sqrt((squares - sums**2 / count) / (count - 1))
        p_values = stdtr(count - 1, sums / (spread * math.sqrt(count)))
        due = round(_DRAWS * alpha * math.log1p((math.e - 1) * count / looks[-1]))
        # The first one is known: nothing has been looked at before.
        levels.append(float(np.partition(p_values, due - spent)[due - spent]) if spent else due / _DRAWS)
        goes_on = p_values >= levels[-1]
        sums, squares, before, spent = sums[goes_on], squares[goes_on], count, due
    return tuple(levels)
