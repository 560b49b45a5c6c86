"""How close attacks come to the best that is known of each sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_EQUAL = 1.001
"""Ratio up to which two distances count as equal: searches end within a thousandth."""


@dataclass(frozen=True)
class Optimality:
    """How close one attack comes to the best of all.

    Attributes:
        optimality: In [0, 1]: 1 where it finds the smallest distance of each sample, 0 where it breaks none that way.
        nearest: Share of the broken samples on which no attack finds a distance that is smaller by over a thousandth.
    """

    optimality: float
    nearest: float


def attack_optimality(distances: Mapping[str, ArrayLike]) -> dict[str, Optimality]:
    """Return the optimality of each attack, from the smallest distance at which it breaks each sample.

    The accuracy of a network under an attack falls with the budget ε from the clean accuracy; the curve that takes the
    smallest known distance of each sample falls fastest, and reaches its end at ε₀, the largest of these. Optimality is
    the area between the clean accuracy and the attack's curve from 0 to ε₀, over that of the best curve: Cinà et al.
    2024, "AttackBench: Evaluating Gradient-based Attacks for Adversarial Examples" (local optimality). Samples that no
    attack breaks add nothing.

    Args:
        distances: Attack → (n,) distances in one norm: 0 where the clean sample is misclassified, ∞ where the attack
            does not break it.

    Returns:
        Attack → its optimality; empty where no attack breaks a sample that is classified correctly.
    """
    found = {name: np.asarray(values, dtype=np.float64) for name, values in distances.items()}
    best = np.min(list(found.values()), axis=0)
    counted = (best > 0) & np.isfinite(best)
    if not counted.any():
        return {}
    best, limit = best[counted], best[counted].max()
    gained = float((limit - best).sum())
    results = {}
    for name, values in found.items():
        own = values[counted]
        # Where all samples are equally far, the areas are none and the shares say it all.
        area = float(np.maximum(limit - own, 0).sum()) / gained if gained > 0 else float((own <= best).mean())
        results[name] = Optimality(area, float((own <= best * _EQUAL).mean()))
    return results
