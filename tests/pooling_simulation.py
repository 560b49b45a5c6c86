"""Differences in several settings whose true mean is known, and how often intervals hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from robustprune.comparison.pooling import judge_pooled
from robustprune.comparison.verdict import WINNING
from robustprune.metrics.pooled import pool_settings


@dataclass(frozen=True)
class Settings:
    """How differences in settings come about, in percentage points.

    Attributes:
        settings: How many there are.
        seeds: Pairs of networks in each.
        deviation: Standard deviation of true differences between settings, τ.
        deviations: The lowest and the highest of the settings' standard deviations over seeds; they are in even steps.
        difference: The true mean difference.
    """

    settings: int
    seeds: int
    deviation: float = 0.0
    deviations: tuple[float, float] = (0.6, 0.6)
    difference: float = 0.0

    def draw(self, random: np.random.Generator) -> Any:
        """Return differences (settings + 1, seeds); the last setting is a further one, of the mean deviation."""
        own = self.difference + self.deviation * random.standard_normal((self.settings + 1, 1))
        spread = np.append(np.linspace(*self.deviations, self.settings), np.mean(self.deviations))[:, None]
        return own + spread * random.standard_normal((self.settings + 1, self.seeds))


def pooled_shares(world: Settings, draws: int = 2000, *, tolerance: float = 1.0, seed: int = 0) -> dict[str, float]:
    """Return in percent of draws how often intervals hold the true mean, and how often a candidate is found to win.

    ``weighted`` is the interval of Hartung and Knapp with weights 1/(vⱼ + τ²) and τ² by Paule and Mandel.
    """
    random = np.random.default_rng(seed)
    counts = dict.fromkeys(("covered", "weighted", "equivalent", "wins", "better", "predicted"), 0)
    for _ in range(draws):
        drawn = world.draw(random)
        values, further = drawn[:-1], float(drawn[-1].mean())
        means, variances = values.mean(axis=1), values.var(axis=1, ddof=1) / world.seeds
        found, between = pool_settings(means, variances, np.full(world.settings, world.seeds - 1.0))
        low, high = found.interval()
        counts["covered"] += low <= world.difference <= high
        low_weighted, high_weighted = hartung_knapp(means, variances)
        counts["weighted"] += low_weighted <= world.difference <= high_weighted
        verdict = judge_pooled((found, between), tolerance, 0.95)["verdict"]
        for name in ("equivalent", "better"):
            counts[name] += verdict == name
        counts["wins"] += verdict in WINNING
        if between.prediction is not None:
            counts["predicted"] += between.prediction[0] <= further <= between.prediction[1]
    return {name: 100 * count / draws for name, count in counts.items()}


def hartung_knapp(means: Any, variances: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Return Hartung and Knapp's interval with weights, for τ² of Paule and Mandel 1982."""
    k = len(means)

    def weigh(between: float) -> tuple[Any, float, float]:
        weights = 1 / (variances + between)
        mean = float(weights @ means / weights.sum())
        return weights, mean, float(weights @ (means - mean) ** 2)

    low, high = 0.0, float(np.ptp(means)) ** 2 + 1e-12
    if weigh(low)[2] > k - 1:
        for _ in range(25):
            middle = (low + high) / 2
            low, high = (middle, high) if weigh(middle)[2] > k - 1 else (low, middle)
    weights, mean, squares = weigh(low)
    half = float(stdtrit(k - 1, (1 + confidence) / 2)) * (squares / (k - 1) / weights.sum()) ** 0.5
    return mean - half, mean + half
