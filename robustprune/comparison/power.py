"""Plans the number of seeds and images for a verdict.

The chance of a verdict is the probability that :func:`robustprune.comparison.verdict.judge` gives it, for normal
differences and the intervals of :class:`robustprune.metrics.seeds.CrossedDifference`. For a given sample variance over
seeds, the difference has to lie between two bounds; quadrature integrates this probability over the sample variance, a
multiple of χ². With seeds alone, these are the noncentral t-test and the exact power of two one-sided tests (Phillips
1990, "Power of the two one-sided tests procedure in bioequivalence").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import chdtri, ndtr, stdtrit

from robustprune.comparison.comparison_row import ComparisonRow
from robustprune.comparison.metric import POINTS, Floats
from robustprune.comparison.verdict import Verdict
from robustprune.errors import ComparisonError
from robustprune.metrics.seeds import LEAST_SEEDS, joint_freedom
from robustprune.metrics.spreads import Spreads

SEEDS = (3, 4, 5, 7, 10, 15, 20, 30, 50)
"""Numbers of seeds in tables and curves."""
MOST_SEEDS = 500
TOLERANCE = 1.0
"""ξ of accuracy in percentage points, see :data:`robustprune.comparison.verdict.TOLERANCES`."""
_MOST_IMAGES = 100_000_000
_NODES = {1: 200, 2: 48}  # of the quadrature over the variance of each side


@dataclass(frozen=True)
class _Rule:
    """The true difference in favour of the candidate, tolerance and confidence that a verdict is planned for."""

    difference: float
    tolerance: float
    confidence: float

    @property
    def true_verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts that are true at this difference."""
        d, margin = self.difference, self.tolerance
        of_each: dict[Verdict, bool] = {
            "better": d > 0,
            "equivalent": abs(d) < margin,
            "no worse": d > -margin,
            "worse": d < -margin,
        }
        return tuple(verdict for verdict, is_true in of_each.items() if is_true)


def chances(
    spreads: Spreads,
    n_seeds: int,
    n_images: int,
    *,
    difference: float = 0.0,
    tolerance: float = 1.0,
    confidence: float = 0.95,
) -> dict[Verdict, float]:
    """Return the probability of each verdict, from 0 to 1.

    ``equivalent`` includes better by less than the tolerance, and ``no worse`` every verdict that wins in the sense of
    eq. 1.

    Args:
        spreads: The parts of the variance of the difference.
        n_seeds: Seeds of each group, three or more.
        n_images: Number of test images.
        difference: True difference in favour of the candidate, in the unit of the spreads.
        tolerance: ξ in that unit.
        confidence: Confidence level of the interval, and of each bound.
    """
    true = [variance / n_seeds for variance in spreads.of_seeds(n_images)]
    of_images = spreads.of_images(n_images)
    drawn, weights = _variances(len(true), n_seeds)
    parts = np.array(true)[:, None] * drawn  # (sides, nodes)
    seeds, images = parts.sum(axis=0), of_images + spreads.least(n_seeds, n_images)
    squares = (parts**2).sum(axis=0) / (n_seeds - 1)
    own = np.divide(seeds**2, squares, out=np.ones_like(seeds), where=squares > 0)
    freedom, width = joint_freedom(own, seeds, images), np.sqrt(seeds + images)
    bound, half = (stdtrit(freedom, level) * width for level in (confidence, (1 + confidence) / 2))
    scale = max(math.sqrt(sum(true) + of_images), 1e-12)

    def above(limit: Floats) -> Floats:
        """Return the probability that the estimated difference lies above a limit."""
        share: Floats = ndtr((difference - limit) / scale)
        return share

    within: Floats = np.maximum(0.0, above(bound - tolerance) - above(tolerance - bound))
    found: dict[Verdict, Floats] = {
        "better": above(half),
        "equivalent": within,
        "no worse": above(bound - tolerance),
        "worse": 1 - above(-tolerance - bound),
    }
    return {verdict: float(values @ weights) for verdict, values in found.items()}


@lru_cache(maxsize=1024)
def _variances(sides: int, n_seeds: int) -> tuple[Floats, Floats]:
    """Return sample variances (sides, nodes) for true variances of 1, and the weight (nodes,) of each node."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES[sides])
    drawn = chdtri(n_seeds - 1, (1 + nodes) / 2) / (n_seeds - 1)
    grid = np.meshgrid(*[drawn] * sides, indexing="ij")
    together = weights / 2 if sides == 1 else np.outer(weights, weights) / 4
    return np.stack([each.ravel() for each in grid]), together.ravel()


@dataclass(frozen=True)
class Needed:
    """The number of seeds that a verdict takes for the wanted power; None where no number is enough.

    Attributes:
        verdict: The verdict.
        n_images: Number of test images.
        n_seeds: Fewest seeds.
        n_seeds_at_most: Fewest seeds at the upper bound (80 %) of the variance over seeds in the pilot.
    """

    verdict: Verdict
    n_images: int
    n_seeds: int | None
    n_seeds_at_most: int | None


@dataclass(frozen=True)
class Chance:
    """The probability of a verdict at a number of seeds and images.

    Attributes:
        verdict: The verdict.
        n_seeds: Seeds of each group.
        n_images: Number of test images.
        chance: Probability of the verdict, from 0 to 1.
        chance_at_least: The same at the upper bound (80 %) of the variance over seeds in the pilot.
        images_needed: Fewest images for the wanted power with so many seeds; None where no number is enough.
    """

    verdict: Verdict
    n_seeds: int
    n_images: int
    chance: float
    chance_at_least: float
    images_needed: int | None


@dataclass(frozen=True)
class SeedPlan:
    """The number of seeds and images that each true verdict takes.

    Attributes:
        name: The comparison, for readers.
        spreads: The parts of the variance of the difference.
        difference: Assumed true difference, candidate − reference.
        tolerance: ξ.
        unit: Unit of difference and tolerance.
        confidence: Confidence of the verdicts.
        power: Wanted probability of a verdict.
        chances: Probability of each true verdict, by seeds and images.
        needed: Number of seeds for each true verdict and number of images.
    """

    name: str
    spreads: Spreads
    difference: float
    tolerance: float
    unit: str
    confidence: float
    power: float
    chances: tuple[Chance, ...]
    needed: tuple[Needed, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts that are true at the assumed difference."""
        return tuple(dict.fromkeys(each.verdict for each in self.needed))

    @property
    def images(self) -> tuple[int, ...]:
        """The numbers of images of the plan."""
        return tuple(dict.fromkeys(each.n_images for each in self.needed))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


def plan_seeds(
    pilot: ComparisonRow | Spreads,
    *,
    images: Sequence[int] = (),
    seeds: Sequence[int] = SEEDS,
    difference: float = 0.0,
    tolerance: float | None = None,
    confidence: float = 0.95,
    power: float = 0.8,
) -> SeedPlan:
    """Return how many seeds and images each verdict takes that is true at an assumed difference.

    Args:
        pilot: A row of a comparison of three seeds or more, or the spreads of a difference in accuracy.
        images: Numbers of test images; by default that of the pilot.
        seeds: Numbers of seeds to compute probabilities for.
        difference: Assumed true difference, candidate − reference, in the unit of the row.
        tolerance: ξ; by default that of the row, or of accuracy.
        confidence: Confidence of the verdicts.
        power: Wanted probability of a verdict.

    Raises:
        ComparisonError: The row has no spreads, a number is out of range, or no verdict is true at the difference.
    """
    if isinstance(pilot, ComparisonRow):
        spreads, margin, unit = _spreads_of(pilot), pilot.tolerance or 0.0, pilot.unit
        name, sign = f"{pilot.candidate} vs. {pilot.against}, {pilot.label}", 1 if pilot.higher_is_better else -1
    else:
        spreads, margin, unit, name, sign = pilot, TOLERANCE, POINTS, "accuracy", 1
    margin = margin if tolerance is None else tolerance
    _check(images, seeds, margin, confidence, power)
    rule, most = _Rule(sign * difference, margin, confidence), spreads.at_most()
    if not rule.true_verdicts:
        raise ComparisonError(
            f"at a true difference of −ξ, {-margin:g}, no verdict but undecided is true; assume another difference"
        )
    numbers = sorted(set(images)) or [spreads.n_images]
    found, needed = [], []
    for verdict in rule.true_verdicts:
        for n in numbers:
            fewest = (_fewest_seeds(verdict, each, n, rule, power) for each in (spreads, most))
            needed.append(Needed(verdict, n, *fewest))
        for count in sorted(set(seeds)):
            enough = _fewest_images(verdict, spreads, count, rule, power)
            both = [
                (_chance(verdict, spreads, count, n, rule), _chance(verdict, most, count, n, rule)) for n in numbers
            ]
            found += [Chance(verdict, count, n, *each, enough) for n, each in zip(numbers, both, strict=True)]
    return SeedPlan(name, spreads, difference, margin, unit, confidence, power, tuple(found), tuple(needed))


def _spreads_of(row: ComparisonRow) -> Spreads:
    """Return the spreads of a row, or raise an error that says why it has none."""
    if row.spreads is not None:
        return row.spreads
    if row.reason:
        why = row.reason
    elif row.statement == "settings":
        why = "it is a mean over settings; give the records of one setting"
    elif row.over_seeds != "mean":
        why = "trainings failed; with any number of seeds, a method that fails is never equivalent, better or no worse"
    else:
        own = f"{row.n_seeds} seed{'s' * (row.n_seeds > 1)}"
        why = f"it has {own}, and the variance over seeds takes {LEAST_SEEDS} seeds of each group or more"
    raise ComparisonError(f"no number of seeds can be planned from the pilot of {row.candidate}, {row.label}: {why}")


def _check(images: Sequence[int], seeds: Sequence[int], tolerance: float, confidence: float, power: float) -> None:
    if not 0.5 <= confidence < 1:
        raise ComparisonError(f"the confidence must be at least 0.5 and below 1, such as 0.95, got {confidence}")
    if not 0 < power < 1:
        raise ComparisonError(f"the power must lie between 0 and 1, such as 0.8, got {power}")
    if tolerance < 0:
        raise ComparisonError(f"the tolerance must be 0 or more, got {tolerance:g}")
    if not seeds or min(seeds) < LEAST_SEEDS:
        raise ComparisonError(
            f"a verdict on a method takes {LEAST_SEEDS} seeds or more, got {', '.join(map(str, seeds))}"
        )
    if images and min(images) < 2:
        raise ComparisonError(f"a test set needs two images or more, got {min(images)}")


def _chance(verdict: Verdict, spreads: Spreads, n_seeds: int, n_images: int, rule: _Rule) -> float:
    asked = {"difference": rule.difference, "tolerance": rule.tolerance, "confidence": rule.confidence}
    return chances(spreads, n_seeds, n_images, **asked)[verdict]


def _fewest_seeds(verdict: Verdict, spreads: Spreads, n_images: int, rule: _Rule, power: float) -> int | None:
    return _fewest(lambda n: _chance(verdict, spreads, n, n_images, rule) >= power, LEAST_SEEDS, MOST_SEEDS)


def _fewest_images(verdict: Verdict, spreads: Spreads, n_seeds: int, rule: _Rule, power: float) -> int | None:
    found = _fewest(lambda n: _chance(verdict, spreads, n_seeds, n, rule) >= power, 2, _MOST_IMAGES)
    if found is None:
        return None
    digit: int = 10 ** max(0, len(str(found)) - 3)  # three digits, rounded up
    return -(-found // digit) * digit


def _fewest(is_enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """Return the fewest that are enough, by bisection; None where not even the most are."""
    if not is_enough(most):
        return None
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if is_enough(middle) else (middle + 1, most)
    return most
