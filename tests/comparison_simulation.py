"""Right and wrong answers of pairs of networks whose true difference is known, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from robustprune.comparison.difference import estimate_difference
from robustprune.comparison.failures import failed_trainings, spare_trainings
from robustprune.comparison.interim_look import InterimLook
from robustprune.comparison.metric import SHARE, MetricValue
from robustprune.comparison.verdict import VERDICTS, WINNING, judge
from robustprune.metrics.sequential import plan_looks


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


def estimate(differences: Any, *, paired: bool = True, trim: bool = False) -> Any:
    """Return the estimate of differences (seeds, images) of −1, 0 and 1."""
    dense, own = ([_outcome(row) for row in side] for side in (differences <= 0, differences >= 0))
    return estimate_difference(dense, own, paired=paired, trim=trim)


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


def sequential_shares(world: World, draws: int = 2000, *, tolerance: float = 1.0, seed: int = 0) -> dict[str, float]:
    """Return how often each verdict is the last one, in percent, where seeds are added until it is decided.

    ``wins`` is how often the last verdict is one of those that win, and ``seeds`` how many seeds it took on average;
    ``world`` has the most there may be.
    """
    random = np.random.default_rng(seed)
    counts: dict[str, float] = dict.fromkeys(["wins", "seeds", *VERDICTS], 0)
    looks = [InterimLook(place, plan_looks(world.seeds)) for place in range(1, len(plan_looks(world.seeds)) + 1)]
    confidences = [look.own_confidence for look in looks]
    for _ in range(draws):
        differences, _ = world.draw(random)
        for look, confidence in zip(looks, confidences, strict=True):
            found = estimate(differences[: look.seeds[look.number - 1]])
            verdict = judge(found.interval(confidence), found.interval(2 * confidence - 1), tolerance)
            if look.decides([verdict]):
                break
        counts[verdict] += 1
        counts["wins"] += verdict in WINNING
        counts["seeds"] += look.seeds[look.number - 1] / 100
    return {name: 100 * count / draws for name, count in counts.items()}


def failing_shares(seeds: int, images: int, draws: int = 2000, *, deviation: float = 0.003) -> dict[str, float]:
    """Return what is said, in percent of draws, of a candidate that is as good as the dense network where it trains.

    One of its trainings in ten fails: the network loses 70 points. The truth is the interquartile mean of all its
    trainings, failed ones among them; with σ the deviation of those that did not fail, that is
    1.8 σ (φ(Φ⁻¹(1/6)) − φ(Φ⁻¹(13/18))). ``mean covered`` is how often the interval of the mean holds the true mean.
    """
    random = np.random.default_rng(7)
    truth = 1.8 * deviation * (stats.norm.pdf(stats.norm.ppf(1 / 6)) - stats.norm.pdf(stats.norm.ppf(13 / 18)))
    counts = dict.fromkeys(["none failed", "judged", "covered", "mean covered"], 0)
    for _ in range(draws):
        collapsed = random.random(seeds) < 0.1
        differences, _ = World(seeds, images, 0.0, 0.08, deviation).draw(random)
        differences[collapsed] = -(random.random((int(collapsed.sum()), images)) < 0.7).astype(np.int8)
        trained = np.where(collapsed, 0.28, 0.98) + 0.002 * random.standard_normal(seeds)
        failed = failed_trainings(trained, classes=10)
        assert collapsed.all() or failed == set(np.flatnonzero(collapsed).tolist())
        low, high = estimate(differences).interval()
        counts["mean covered"] += low <= -7.0 <= high
        counts["none failed"] += not failed
        if len(failed) > spare_trainings(seeds):
            continue
        low, high = estimate(differences, trim=bool(failed)).interval()
        counts["judged"] += 1
        counts["covered"] += low <= SHARE * truth <= high
    judged = counts.pop("judged")
    found = {name: 100 * count / draws for name, count in counts.items()}
    return found | {"judged": 100 * judged / draws, "covered": 100 * counts["covered"] / judged}
