"""What networks of several seeds say together: their mean, and how sure it is.

Two statistics answer two questions. Student's interval (:func:`mean_over_seeds`) says where the mean lies for networks
of other seeds, on these images. :class:`CrossedDifference` says how sure a difference is over seeds and images at once.

All networks see the same images, so seeds and images are crossed: the difference on image i for seed s is taken for
μ + aₛ + bᵢ + eₛᵢ. A bootstrap of such data draws seeds, and images jointly for all seeds; of a mean, its variance is
known without drawing:

    var(mean) = σₐ²/S + σ_b²/n + σₑ²/(S n)

The spread of the seeds' means estimates σₐ² + σₑ²/n (with S − 1, not S: of three seeds the plain bootstrap sees two
thirds of it), that of the images' means the rest. So the variance is a part A of few degrees of freedom ν = S − 1 and a
part B of as many as there are images, and Student's quantile that of

    ν (1 + (B/A)²)

degrees: those of Satterthwaite 1946 ("An approximate distribution of estimates of variance components"), which are
(A + B)²/(A²/ν), without the product 2AB; with it three seeds would cover the truth in 92 % where they are most of the
variance. By quadrature it is held in 94.3 to 95.8 % at any ratio of the parts and from three seeds on, and the 90 %
interval in 90.0 to 91.4. Of two groups of seeds that are not paired, the spreads add up, with the degrees of freedom of
Welch 1947.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from robustprune.metrics.spreads import Spreads

_Floats = NDArray[Any]

LEAST_SEEDS = 3
"""From fewer, nothing is said of other networks than these."""
_MANY = 1e9  # degrees of freedom, as good as infinitely many


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
        spreads: What one network a side would vary with; None for these very networks, and for interquartile means.
    """

    difference: float
    images: float
    seeds: float = 0.0
    freedom: float | None = None
    spreads: Spreads | None = None

    @property
    def of_method(self) -> bool:
        """Whether it says something about networks of other seeds."""
        return self.freedom is not None

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return lower and upper end."""
        half = float(stdtrit(self.all_freedom, (1 + confidence) / 2)) * self.standard_error
        return self.difference - half, self.difference + half

    @property
    def p_value(self) -> float:
        """Two-sided p-value of no difference: the interval of confidence 1 − p ends at zero."""
        return min(1.0, 2 * self._p_above(-abs(self.difference)))

    def p_equivalent(self, tolerance: float) -> float:
        """Return the p-value of two one-sided tests that the difference is ``tolerance`` or more to either side.

        At most α where the interval of confidence 1 − 2α lies within ±``tolerance`` (Schuirmann 1987, "A comparison of
        the two one-sided tests procedure and the power approach").
        """
        return max(self._p_above(self.difference - tolerance), self._p_above(-self.difference - tolerance))

    def _p_above(self, difference: float) -> float:
        """Return the one-sided p-value of a difference that is expected to be below 0."""
        if self.standard_error == 0:
            return 0.5 if difference == 0 else float(difference > 0)
        return float(stdtr(self.all_freedom, difference / self.standard_error))

    @property
    def standard_error(self) -> float:
        """Of the difference."""
        return math.sqrt(self.images + self.seeds)

    @property
    def all_freedom(self) -> float:
        """Degrees of freedom of both parts of the variance together."""
        return _MANY if self.freedom is None else float(joint_freedom(self.freedom, self.seeds, self.images))


def joint_freedom(freedom: Any, seeds: Any, images: Any) -> _Floats:
    """Return the degrees of freedom of the sum of two variances, of which only that of the seeds has few.

    Numbers, or arrays (…) of them.
    """
    squares = np.square(np.asarray(seeds, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(np.square(images) / squares, posinf=_MANY)  # 0 / 0 is of no image
    return np.asarray(np.minimum(freedom * (1 + ratio), _MANY))


def interquartile_mean(values: _Floats) -> float:
    """Return the mean of values (S,) without the lowest and the highest quarter of them, rounded down."""
    return float(values[_inner_half(values)].mean())


def paired_difference(
    differences: _Floats, covariance: _Floats, least: float = 0.0, *, trim: bool = False
) -> CrossedDifference:
    """Return the mean of differences (S,) of pairs of networks, one pair for each seed.

    ``covariance`` (S, S) is that of these as the images are drawn anew, ``least`` see :func:`least_variance`. If
    ``trim``, it is the interquartile mean, in the manner of Tukey and McLaughlin 1963 ("Less vulnerable confidence and
    significance procedures for location based on a single sample"): the spread of the seeds is that of Winsorized
    values, as Yuen 1974 estimates it, and has the degrees of freedom of the seeds that are left.
    """
    return _estimate([(differences, 1.0)], covariance, least, trim)


def unpaired_difference(
    first: _Floats, second: _Floats, covariance: _Floats, least: float = 0.0, *, trim: bool = False
) -> CrossedDifference:
    """Return the difference of the mean of ``second`` to that of ``first``, networks of other seeds on equal images.

    There is one value for each network, (S,) and (T,); ``covariance`` (S + T, S + T) is that of both as the images are
    drawn anew, ``least`` see :func:`least_variance`. If ``trim``, means are interquartile means, as Yuen 1974 compares
    them ("The two-sample trimmed t for unequal population variances").
    """
    return _estimate([(first, -1.0), (second, 1.0)], covariance, least, trim)


def _estimate(
    sides: Sequence[tuple[_Floats, float]], covariance: _Floats, least: float, trim: bool
) -> CrossedDifference:
    """Return the estimate of the sum of the sides' means, each with its sign."""
    contrast = np.zeros(len(covariance))
    difference, parts, squares, interaction, start = 0.0, 0.0, 0.0, 0.0, 0
    spreads: list[tuple[float, float]] = []
    fewest = len(covariance)
    for values, sign in sides:
        kept = _inner_half(values) if trim else np.arange(len(values))
        inner, count = values[kept], len(kept)
        own = covariance[np.ix_(start + kept, start + kept)]
        contrast[start + kept] = sign / count
        difference += sign * float(inner.mean())
        fewest, start = min(fewest, count), start + len(values)
        if count > 1:
            squared = np.var(np.clip(values, inner.min(), inner.max())) * len(values)
            part = float(squared) / (count * (count - 1))
            parts, squares = parts + part, squares + part**2 / (count - 1)
            # σₑ²/(S n), what differs from image to image in another way for each seed, is in both: once too often.
            mixed = float(np.trace(own) / count - np.mean(own)) / (count - 1)
            interaction += mixed
            spreads.append((max(0.0, count * (part - mixed)), max(0.0, count * mixed)))
    drawing_images = float(contrast @ covariance @ contrast)  # with seeds held
    if fewest < LEAST_SEEDS:
        return CrossedDifference(difference, drawing_images + least)
    # Where seeds do not differ at all, any will do.
    freedom = parts**2 / squares if squares else 1.0
    images = max(0.0, drawing_images - interaction)
    found = None if trim else _spreads(spreads, images, [len(values) for values, _ in sides])
    return CrossedDifference(difference, images + least, parts, freedom, found)


def _spreads(variances: Sequence[tuple[float, float]], images: float, n_seeds: Sequence[int]) -> Spreads:
    """Return the spreads of variances: for each side that of the seeds, and that of seed and image together.

    The images are taken for one; how many they are, whoever has them knows.
    """
    seeds, both = (tuple(map(math.sqrt, own)) for own in zip(*variances, strict=True))
    return Spreads(seeds, math.sqrt(images), both, n_images=1, n_seeds=tuple(n_seeds))


def _inner_half(values: _Floats) -> NDArray[np.intp]:
    """Return where values (S,) lie that are neither in the lowest nor in the highest quarter."""
    cut = len(values) // 4
    return np.argsort(values, kind="stable")[cut : len(values) - cut]


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
