"""What differences that were measured in several settings say together: over image sets, architectures, or both.

The model is that of random effects: setting j has a true difference μ + uⱼ, and yⱼ is measured with variance vⱼ, which
seeds and images leave. Each setting counts once, so that the mean ȳ estimates the mean over settings and has variance
(τ² + v̄)/k, whatever the single vⱼ are. The spread of the yⱼ, s², estimates τ² + v̄ without bias, and

    ȳ ± t(k − 1) · s/√k

is the interval of Hartung and Knapp 2001 ("On tests of the overall treatment effect in meta-analysis with normally
distributed responses") and Sidik and Jonkman 2002, for equal weights. It is exact where the variances are equal. Where
they are not, its coverage is at least nominal: at 95 % for any k, and at 90 % up to k = 14 (Bakirov and
Székely 2005; Ibragimov and Müller 2010, "t-statistic based correlation and heterogeneity robust inference"). Weights
1/(vⱼ + τ²) would be better if the vⱼ were known. Estimated from three seeds they let the interval cover the truth in
87 to 93 % (``benchmarks/verdicts.py``), as a setting whose seeds agree by chance outweighs the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtr, fdtrc, stdtrit

from robustprune.metrics.seeds import CrossedDifference

_Floats = NDArray[Any]

LEAST_SETTINGS = 3
"""From fewer, nothing is said of a further setting."""
_CLOSE = 0.01
_MANY = 1e9


@dataclass(frozen=True)
class Heterogeneity:
    """How far settings differ from one another.

    Attributes:
        n_settings: How many there are.
        deviation: τ, the standard deviation of true differences over settings; 0 where seeds and images explain all.
        share: I², the part of the variance between settings that they do not explain.
        p_value: Of no true difference between settings: the F test of s²/v̄. For equal variances it is that of
            one-way analysis of variance.
        prediction: Interval for the difference that an equal comparison would find in a further setting, with the
            variance of seeds and images where that is wider; None of two.
        within: The mean difference with the variance that seeds and images alone leave it, v̄/k.
    """

    n_settings: int
    deviation: float
    share: float
    p_value: float
    prediction: tuple[float, float] | None
    within: CrossedDifference


def pool_settings(
    differences: _Floats, variances: _Floats, freedoms: _Floats, confidence: float = 0.95
) -> tuple[CrossedDifference, Heterogeneity]:
    """Return the mean difference over settings, and how far they differ.

    Differences (k,), k ≥ 2, are measured with estimated variances (k,), which have degrees of freedom (k,). In one case
    of a hundred settings agree more closely than these variances let one expect. That is chance and makes nothing
    more certain: then v̄ takes the place of s².

    τ² is max(0, s² − v̄) (Hedges 1983, "A random effects model for effect sizes"), I² = τ²/(τ² + v̄).
    """
    k = len(differences)
    spread, within = float(np.var(differences, ddof=1)), float(np.mean(variances))
    squares = float(np.sum(np.asarray(variances) ** 2 / freedoms))
    freedom = min(_MANY, (k * within) ** 2 / squares) if squares else _MANY  # of v̄ (Satterthwaite 1946)
    ratio = spread / within if within else math.inf if spread else 1.0
    used = within if fdtr(k - 1, freedom, ratio) < _CLOSE else spread
    found = CrossedDifference(float(np.mean(differences)), 0.0, used / k, float(k - 1))
    # However closely the settings agree, a further one has the noise of its seeds and images.
    each = ((used, k - 1), (within, freedom))
    half = max(float(stdtrit(own, (1 + confidence) / 2)) * math.sqrt(part * (1 + 1 / k)) for part, own in each)
    excess = max(0.0, spread - within)
    return found, Heterogeneity(
        n_settings=k,
        deviation=math.sqrt(excess),
        share=excess / spread if spread else 0.0,
        p_value=float(fdtrc(k - 1, freedom, ratio)) if math.isfinite(ratio) else 0.0,
        prediction=(found.difference - half, found.difference + half) if k >= LEAST_SETTINGS else None,
        within=CrossedDifference(found.difference, 0.0, within / k, freedom),
    )
