"""What a difference of means varies with, taken apart: so it is foretold for other numbers of seeds and images.

In the crossed model of :mod:`robustprune.metrics.seeds` these are the deviations of a(seed), b(image) and
e(seed, image).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import bdtrc, chdtri

from robustprune.errors import ComparisonError

_PERCENT = 100.0


@dataclass(frozen=True)
class Spreads:
    """Standard deviations of the difference between two networks, in its unit, by what they come from.

    Attributes:
        seeds: From the seed: of the difference of a pair; where networks are not paired, of a network of either side.
        images: From the choice of ``n_images`` images, as far as networks of all seeds differ on them alike.
        both: From that choice, as far as networks of one seed differ on them and not those of another; for each of
            ``seeds``.
        n_images: How many images ``images`` and ``both`` are of; they shrink with the root of that.
        n_seeds: From how many networks a side this was estimated; empty where it was stated.
        of_share: Whether it is a share in percent, of which an image can change 100/n at most.
    """

    seeds: tuple[float, ...]
    images: float
    both: tuple[float, ...]
    n_images: int
    n_seeds: tuple[int, ...] = ()
    of_share: bool = False

    @classmethod
    def stated(
        cls, seed_deviation: float, discordance: float, consistent: float = 0.0, *, n_images: int = 10_000
    ) -> Spreads:
        """Return the spreads of a difference in accuracy, in percentage points, of networks in pairs.

        Args:
            seed_deviation: Standard deviation of the true difference over seeds, in percentage points.
            discordance: Percent of images on which two networks of a pair differ: only one of them is right.
            consistent: Percent of images on which the same side is right for every seed; part of ``discordance``.
            n_images: Of the test set.

        Raises:
            ComparisonError: A negative number, or shares that cannot be.
        """
        if not (0 <= consistent <= discordance <= 100 and seed_deviation >= 0 and n_images >= 1):
            raise ComparisonError(
                f"the deviation over seeds, {seed_deviation:g}, is 0 or more; of the images, in percent, those on "
                f"which a pair differs, {discordance:g}, are at least those on which all seeds differ alike, "
                f"{consistent:g}, and both lie between 0 and 100"
            )
        agreeing, rest = (math.sqrt(_PERCENT * each / n_images) for each in (consistent, discordance - consistent))
        return cls((seed_deviation,), agreeing, (rest,), n_images, of_share=True)

    def of_seeds(self, n_images: int) -> tuple[float, ...]:
        """Return the variance of one network, or pair of networks, over seeds on so many images; for each side."""
        ratio = self.n_images / n_images
        return tuple(seed**2 + ratio * both**2 for seed, both in zip(self.seeds, self.both, strict=True))

    def of_images(self, n_images: int) -> float:
        """Return the variance that comes from the choice of so many images, whatever the number of seeds."""
        return self.images**2 * self.n_images / n_images

    def least(self, n_seeds: int, n_images: int) -> float:
        """Return about what :func:`robustprune.metrics.seeds.least_variance` adds for so many seeds and images.

        On the most telling of the images all pairs differ where one can be expected that does so for every seed;
        else as many differ as on the most telling of n images by chance.
        """
        if not self.of_share:
            return 0.0
        per_image = self.n_images / _PERCENT**2
        if self.images**2 * per_image * n_images >= 1:
            most = 1.0
        else:
            discordance = (self.images**2 + sum(both**2 for both in self.both)) * per_image
            counts = np.arange(1, n_seeds + 1)
            reached = 2 * n_images * bdtrc(counts - 1, n_seeds, min(0.5, discordance / 2)) >= 1
            most = int(reached.sum()) / n_seeds
        return 2 * max(most**2, 1 / n_seeds) * (_PERCENT / n_images) ** 2

    def at_most(self, confidence: float = 0.8) -> Spreads:
        """Return them with the deviation over seeds at its upper bound, by the χ² distribution of a variance.

        Browne 1995 ("On the use of a pilot sample for sample size determination", doi 10.1002/sim.4780141709) plans
        with the bound of 80 %. Stated spreads are taken for known.
        """
        if not self.n_seeds:
            return self
        bounds = []
        for both, variance, count in zip(self.both, self.of_seeds(self.n_images), self.n_seeds, strict=True):
            highest = variance * (count - 1) / float(chdtri(count - 1, confidence))
            bounds.append(math.sqrt(max(0.0, highest - both**2)))
        return replace(self, seeds=tuple(bounds))
