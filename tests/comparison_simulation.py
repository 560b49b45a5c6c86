"""Right and wrong answers of pairs of networks whose true difference is known, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from robustprune.comparison.difference import estimate_difference
from robustprune.comparison.metric import SHARE, MetricValue
from robustprune.comparison.verdict import VERDICTS, WINNING, judge


@dataclass(frozen=True)
class World:
    """How differences, candidate − dense, come about; shares and not percent.

    Attributes:
        seeds: Pairs of networks that are trained.
        images: Images of the test set, the same for all.
        difference: The true one, over all seeds and images there could be.
        discordance: Images that tell two networks of a pair apart.
        seed_deviation: Standard deviation of the true difference over seeds, σₐ.
        fixed: Images on which all pairs agree who is right, one half for either; σ_b² of them.
    """

    seeds: int
    images: int
    difference: float = 0.0
    discordance: float = 0.1
    seed_deviation: float = 0.0
    fixed: float = 0.0

    def draw(self, random: np.random.Generator) -> tuple[Any, float]:
        """Return differences (seeds, images) of −1, 0 and 1, and the true difference of these networks."""
        rest = 1 - self.fixed
        chance = (self.discordance - self.fixed) / rest
        own = np.clip(
            (self.difference + self.seed_deviation * random.standard_normal(self.seeds)) / rest, -chance, chance
        )
        drawn = random.random((self.seeds, self.images))
        lost, gained = ((chance - own) / 2)[:, None], ((chance + own) / 2)[:, None]
        found = (drawn < gained).astype(np.int8) - (drawn > 1 - lost)
        agreed = random.random(self.images) < self.fixed
        found[:, agreed] = random.choice([-1, 1], int(agreed.sum()))
        return found, float(own.mean()) * rest


def estimate(differences: Any, *, paired: bool = True) -> Any:
    """Return the estimate of differences (seeds, images) of −1, 0 and 1."""
    dense, own = ([_outcome(row) for row in side] for side in (differences <= 0, differences >= 0))
    return estimate_difference(dense, own, paired=paired)


def _outcome(right: Any) -> MetricValue:
    return MetricValue(SHARE * float(right.mean()), (right,), SHARE)


def shares(world: World, draws: int = 2000, *, tolerance: float = 1.0, seed: int = 0) -> dict[str, float]:
    """Return how often the interval holds the truth and each verdict, or one of those that win, is given, in percent.

    The truth is that of these networks where there are fewer than three, else that of all there could be.
    """
    random = np.random.default_rng(seed)
    counts = dict.fromkeys(["covered", "wins", *VERDICTS], 0)
    for _ in range(draws):
        differences, own = world.draw(random)
        found = estimate(differences)
        low, high = found.interval()
        truth = SHARE * (world.difference if found.of_method else own)
        counts["covered"] += low <= truth <= high
        verdict = judge((low, high), found.interval(0.9), tolerance)
        counts[verdict] += 1
        counts["wins"] += verdict in WINNING
    return {name: 100 * count / draws for name, count in counts.items()}
