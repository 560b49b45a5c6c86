"""What networks of several seeds say together: their mean, and how sure it is.

Two statistics answer two questions. Student's interval (:func:`mean_over_seeds`) says where the mean lies for networks
of other seeds, on these images. :class:`CrossedDifference` says how sure a difference is over seeds and images at once.

All networks see the same images, so seeds and images are crossed: the difference on image i for seed s is taken for
μ + aₛ + bᵢ + eₛᵢ. A bootstrap of such data draws seeds, and images jointly for all seeds; of a mean, its variance is
known without drawing:

    var(mean) = σₐ²/S + σ_b²/n + σₑ²/(S n)

The spread of the seeds' means estimates σₐ² + σₑ²/n (with S − 1, not S: of three seeds the plain bootstrap sees two
thirds of it), that of the images' means the rest. Each part has the quantile of its own degrees of freedom, Student's
for the few seeds, and a difference the mean of these quantiles weighted by the parts (Cochran 1964, "Approximate
significance levels of the Behrens-Fisher test"): exact where one part outweighs the other, else a little wide. Of two
groups of seeds that are not paired, the spreads add up, with the degrees of freedom of Welch 1947.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

_Floats = NDArray[Any]

LEAST_SEEDS = 3
"""From fewer, nothing is said of other networks than these."""
_SMALLEST = 1e-15  # p-value


@dataclass(frozen=True)
class SeedMean:
    """A mean over networks and Student's interval of it, whose ends are None where one network says nothing of it."""

    mean: float
    low: float | None
    high: float | None

    @property
    def ends(self) -> tuple[float, float]:
        """The interval, or the mean twice."""
        return (self.mean if self.low is None else self.low, self.mean if self.high is None else self.high)


def mean_over_seeds(values: Sequence[float], *, bounds: tuple[float, float] = (-math.inf, math.inf)) -> SeedMean:
    """Return the mean of one value a network, with Student's 95 % interval, kept within bounds."""
    mean, interval = float(np.mean(values)), mean_interval(values)
    return SeedMean(mean, *(None, None) if interval is None else np.clip(interval, *bounds).tolist())


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return Student's interval for the mean of what the values, one a run, are a sample of; None for fewer than two.

    It takes the values for independent and normal, as differences between runs of different seeds about are; with
    three of them it reaches 2.5 standard deviations to either side.
    """
    if len(values) < 2:
        return None
    deviation = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = deviation * float(stdtrit(len(values) - 1, (1 + confidence) / 2))
    mean = float(np.mean(values))
    return mean - half, mean + half


def mean_and_half_width(values: Sequence[float], form: str = "{:+.2f}") -> str:
    """Return the mean with half the width of its interval as text, ``+0.33 ± 0.12``; the mean alone of one value."""
    mean, interval = form.format(float(np.mean(values))), mean_interval(values)
    mean = mean.replace("-", "−")
    return mean if interval is None else f"{mean} ± {(interval[1] - interval[0]) / 2:.2f}"


@dataclass(frozen=True)
class CrossedDifference:
    """A difference of means over seeds and images, and where its uncertainty comes from.

    Attributes:
        difference: Of means.
        images: Variance that comes from the choice of images.
        seeds: Variance that comes from the choice of seeds.
        freedom: Degrees of freedom of that; None where the difference is that of these very networks.
    """

    difference: float
    images: float
    seeds: float = 0.0
    freedom: float | None = None

    @property
    def of_method(self) -> bool:
        """Whether it says something about networks of other seeds."""
        return self.freedom is not None

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return lower and upper end."""
        half = self._reach((1 - confidence) / 2)
        return self.difference - half, self.difference + half

    @property
    def p_value(self) -> float:
        """Two-sided p-value of no difference: the confidence at which the interval ends at zero, from above."""
        target = abs(self.difference)
        if target == 0:
            return 1.0
        if target >= self._reach(_SMALLEST):
            return 2 * _SMALLEST
        from scipy.optimize import brentq  # slow to import, and every evaluation imports metrics

        # On a logarithmic scale, as p-values of many digits are of interest.
        found = brentq(lambda log: self._reach(math.exp(log)) - target, math.log(_SMALLEST), math.log(0.5), xtol=1e-10)
        return min(1.0, 2 * math.exp(found))

    def _reach(self, tail: float) -> float:
        """Return half the width of the interval that leaves ``tail`` out on either side."""
        variance = self.images + self.seeds
        if variance == 0:
            return 0.0
        student = 0.0 if self.freedom is None else float(stdtrit(self.freedom, tail))
        return -(float(ndtri(tail)) * self.images + student * self.seeds) / math.sqrt(variance)


def paired_difference(differences: _Floats, covariance: _Floats, least: float = 0.0) -> CrossedDifference:
    """Return the mean of differences (S,) of pairs of networks, one pair for each seed.

    ``covariance`` (S, S) is that of these as the images are drawn anew, ``least`` see :func:`least_variance`.
    """
    return _estimate(float(np.mean(differences)), [(differences, covariance)], float(np.mean(covariance)), least)


def unpaired_difference(first: _Floats, second: _Floats, covariance: _Floats, least: float = 0.0) -> CrossedDifference:
    """Return the difference of the mean of ``second`` to that of ``first``, networks of other seeds on equal images.

    There is one value for each network, (S,) and (T,); ``covariance`` (S + T, S + T) is that of both as the images are
    drawn anew, ``least`` see :func:`least_variance`.
    """
    count = len(first)
    contrast = np.concatenate([np.full(count, -1 / count), np.full(len(second), 1 / len(second))])
    sides = [(first, covariance[:count, :count]), (second, covariance[count:, count:])]
    return _estimate(float(np.mean(second) - np.mean(first)), sides, float(contrast @ covariance @ contrast), least)


def _estimate(
    difference: float, sides: Sequence[tuple[_Floats, _Floats]], drawing_images: float, least: float
) -> CrossedDifference:
    """Return an estimate; ``drawing_images`` is the variance of the difference as images are drawn, seeds held."""
    if min(len(values) for values, _ in sides) < LEAST_SEEDS:
        return CrossedDifference(difference, drawing_images + least)
    parts, squares, interaction = 0.0, 0.0, 0.0
    for values, covariance in sides:
        count = len(values)
        part = float(np.var(values, ddof=1)) / count
        parts, squares = parts + part, squares + part**2 / (count - 1)
        # σₑ²/(S n), what differs from image to image in another way for each seed, is in both spreads: once too often.
        interaction += float(np.trace(covariance) / count - np.mean(covariance)) / (count - 1)
    # Where seeds do not differ at all, any will do.
    freedom = parts**2 / squares if squares else 1.0
    return CrossedDifference(difference, max(0.0, drawing_images - interaction) + least, parts, freedom)


def least_variance(values: _Floats, dense: int) -> float:
    """Return the variance to add for two images that were not seen, one for either side, as telling as any that were.

    Without, ten images on which all networks agree would prove that they always do. For right and wrong answers of
    one pair it is what Bonett and Price 2012 (doi 10.3102/1076998611411915) add to McNemar's table; of more pairs,
    the images may be as telling of all together as the most telling one, or of each by itself.

    Values (K, n) in [0, 1] are of n images for each of K networks, of which the dense ones come first.
    """
    n: int = values.shape[1]
    of_each = float(np.ptp(values, axis=0).max())
    if of_each == 0:
        return 2 / n**2
    of_all = float(np.abs(values[dense:].mean(axis=0) - values[:dense].mean(axis=0)).max())
    return 2 * max(of_all**2, of_each**2 / min(dense, len(values) - dense)) / n**2
