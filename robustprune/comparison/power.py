"""How many seeds, and how many images, a verdict takes.

The chance of a verdict is that of the rule that gives it, :func:`robustprune.comparison.verdict.judge`, on intervals as
:class:`robustprune.metrics.seeds.CrossedDifference` has them, where differences are normal: given the variance over
seeds as it comes out, the difference lies between two bounds, and over that variance, a multiple of χ², the chance is
integrated by quadrature. Seeds alone are the noncentral t-test and the exact power of two one-sided tests (Phillips
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
"""Numbers of seeds that tables and curves have."""
MOST_SEEDS = 500
TOLERANCE = 1.0
"""ξ of accuracy in percentage points, see :data:`robustprune.comparison.verdict.TOLERANCES`."""
_MOST_IMAGES = 100_000_000
_NODES = {1: 200, 2: 48}  # of the quadrature over the variance of each side


@dataclass(frozen=True)
class _Rule:
    """What a verdict is given for: a true difference in the candidate's favour, a tolerance, a confidence."""

    difference: float
    tolerance: float
    confidence: float

    @property
    def true_verdicts(self) -> tuple[Verdict, ...]:
        """Those that are true, and so to be hoped for."""
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
    """Return how likely each verdict is: from 0 to 1.

    ``equivalent`` counts those that are better by less than the tolerance as well, and ``no worse`` all that win in the
    sense of eq. 1.

    Args:
        spreads: What differences vary with.
        n_seeds: Seeds on either side, three or more.
        n_images: Of the test set.
        difference: The true one in the candidate's favour, in the unit of the spreads.
        tolerance: ξ in that unit.
        confidence: Of the interval, and of either bound.
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
        """Return how likely the difference found lies above a limit."""
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
    """Return variances (sides, nodes) as they come out, where the true ones are 1, and the weight (nodes,) of each."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES[sides])
    drawn = chdtri(n_seeds - 1, (1 + nodes) / 2) / (n_seeds - 1)
    grid = np.meshgrid(*[drawn] * sides, indexing="ij")
    together = weights / 2 if sides == 1 else np.outer(weights, weights) / 4
    return np.stack([each.ravel() for each in grid]), together.ravel()


@dataclass(frozen=True)
class Needed:
    """What a verdict takes to be given with the power that is wanted; None where no number is enough.

    Attributes:
        verdict: Which.
        n_images: Of the test set.
        n_seeds: The fewest.
        n_seeds_at_most: The fewest where seeds vary as much as the pilot allows, by its upper bound of 80 %.
    """

    verdict: Verdict
    n_images: int
    n_seeds: int | None
    n_seeds_at_most: int | None


@dataclass(frozen=True)
class Chance:
    """How likely a verdict is from so many seeds and images.

    Attributes:
        verdict: Which.
        n_seeds: On either side.
        n_images: Of the test set.
        chance: From 0 to 1.
        chance_at_least: The same where seeds vary as much as the pilot allows, by its upper bound of 80 %.
        images_needed: The fewest images from which so many seeds have the power that is wanted; None where no number
            is enough.
    """

    verdict: Verdict
    n_seeds: int
    n_images: int
    chance: float
    chance_at_least: float
    images_needed: int | None


@dataclass(frozen=True)
class SeedPlan:
    """How many seeds a verdict takes.

    Attributes:
        name: What is compared, for readers.
        spreads: What differences vary with.
        difference: The true one that is supposed, candidate − dense.
        tolerance: ξ.
        unit: Of both.
        confidence: Of the verdict.
        power: The chance that is wanted.
        chances: Of each verdict that would be true, by seeds and images.
        needed: For each verdict and number of images, how many seeds.
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
        """Those that would be true."""
        return tuple(dict.fromkeys(each.verdict for each in self.needed))

    @property
    def images(self) -> tuple[int, ...]:
        """The numbers of images that were asked for."""
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
    """Return how many seeds, and how many images, each verdict takes that is true at a difference.

    Args:
        pilot: A row of a comparison of three seeds or more, or the spreads of a difference in accuracy.
        images: Numbers of images of the test set; by default that of the pilot.
        seeds: Numbers of seeds to give chances for.
        difference: The true difference that is supposed, candidate − dense, in the unit of the row.
        tolerance: ξ; by default that of the row, or of accuracy.
        confidence: Of the verdicts.
        power: How likely a verdict is to be.

    Raises:
        ComparisonError: The row does not tell spreads, a number is out of range, or no verdict is true at the
            difference.
    """
    if isinstance(pilot, ComparisonRow):
        spreads, margin, unit = _spreads_of(pilot), pilot.tolerance or 0.0, pilot.unit
        name, sign = f"{pilot.candidate} against {pilot.against}, {pilot.label}", 1 if pilot.higher_is_better else -1
    else:
        spreads, margin, unit, name, sign = pilot, TOLERANCE, POINTS, "accuracy", 1
    margin = margin if tolerance is None else tolerance
    _check(images, seeds, margin, confidence, power)
    rule, most = _Rule(sign * difference, margin, confidence), spreads.at_most()
    if not rule.true_verdicts:
        raise ComparisonError(
            f"at a true difference of −ξ, {-margin:g}, no verdict but undecided is right; suppose another difference"
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
    """Return the spreads of a row, or say why it tells none."""
    if row.spreads is not None:
        return row.spreads
    if row.reason:
        why = row.reason
    elif row.statement == "settings":
        why = "it is of a mean over settings; give the records of one"
    elif row.over_seeds != "mean":
        why = "trainings failed, and no number of seeds makes a method equivalent, better or no worse that fails"
    else:
        why = f"it has {row.n_seeds}, and {LEAST_SEEDS} seeds on either side are the fewest that tell how seeds differ"
    raise ComparisonError(f"the pilot of {row.candidate}, {row.label}, does not tell how many seeds it takes: {why}")


def _check(images: Sequence[int], seeds: Sequence[int], tolerance: float, confidence: float, power: float) -> None:
    if not 0.5 <= confidence < 1:
        raise ComparisonError(f"the confidence is from 0.5 to below 1, such as 0.95, got {confidence}")
    if not 0 < power < 1:
        raise ComparisonError(f"the power is a chance between 0 and 1, such as 0.8, got {power}")
    if tolerance < 0:
        raise ComparisonError(f"the tolerance is 0 or more, got {tolerance:g}")
    if not seeds or min(seeds) < LEAST_SEEDS:
        raise ComparisonError(
            f"a verdict on a method takes {LEAST_SEEDS} seeds or more, got {', '.join(map(str, seeds))}"
        )
    if images and min(images) < 2:
        raise ComparisonError(f"a test set has two images or more, got {min(images)}")


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
