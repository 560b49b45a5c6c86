"""What votes under noise certify: randomized smoothing (Cohen, Rosenfeld & Kolter 2019, arXiv:1902.02918).

The smoothed classifier g answers with the class that a network most often gives to x + N(0, σ²I). Where that class has
a probability of at least p > 1/2, g answers with it at all points within σ·Φ⁻¹(p) of x in L2 (theorem 1 there, with
1 − p for the probability of the runner-up). Of p, votes give a lower confidence bound.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, ndtri

from robustprune.errors import EvaluationError

Floats = NDArray[np.float64]


def probability_low(counts: ArrayLike, n: int, alpha: float = 0.001) -> Floats:
    """Return lower bounds (N,) of a probability, each above it in at most a share α of all samples.

    Args:
        counts: (N,) how often the event occurred in ``n`` draws.
        n: Draws.
        alpha: One minus the confidence of the bound, which is one-sided.

    Returns:
        The probabilities under which so many events or more have probability α (Clopper & Pearson 1934); 0 for none.

    Raises:
        EvaluationError: Counts that are not whole numbers from 0 to ``n``, or an α outside (0, 1).
    """
    hits = _counts(counts, n)
    _check_alpha(alpha)
    low: Floats = np.where(hits > 0, betaincinv(np.maximum(hits, 1), n - hits + 1, alpha), 0.0)
    return low


def certified_radius(counts: ArrayLike, n: int, *, sigma: float, alpha: float = 0.001) -> Floats:
    """Return the L2 radii (N,) within which a smoothed classifier's answer is proven, each with confidence 1 − α.

    ``σ·Φ⁻¹(p)`` with p the `probability_low` of the class, and 0 where p is at most 1/2: there it abstains. The class
    has to be chosen by other draws than those that are counted (CERTIFY there).

    Args:
        counts: (N,) how many of ``n`` noisy copies of an image the network gave that class.
        n: Noisy copies of each image.
        sigma: Standard deviation of the noise, in the unit of the radii.
        alpha: The largest probability that a radius is wrong.

    Raises:
        EvaluationError: As `probability_low`, or a σ that is not above 0.
    """
    if not 0 < sigma < math.inf:
        raise EvaluationError(f"sigma must be a finite number above 0, got {sigma!r}")
    low = probability_low(counts, n, alpha)
    radii: Floats = np.where(low > 0.5, sigma * ndtri(np.maximum(low, 0.5)), 0.0)
    return radii


def is_majority(first: ArrayLike, second: ArrayLike, alpha: float = 0.001) -> NDArray[np.bool_]:
    """Return (N,) bool, whether a class has more votes than the runner-up by more than chance (PREDICT there).

    Args:
        first: (N,) votes of the class that has most.
        second: (N,) votes of the next one.
        alpha: Level of the two-sided binomial test that both are equally likely (Hung & Fithian 2019,
            arXiv:1605.01485): g answers with another class with probability α at most.

    Raises:
        EvaluationError: Counts that are not whole numbers, the second above the first, or an α outside (0, 1).
    """
    cast = int(max(np.max(first, initial=0), np.max(second, initial=0)))
    most, next_most = _counts(first, cast), _counts(second, cast)
    if np.any(next_most > most):
        raise EvaluationError("the second of two classes has more votes than the first; exchange them")
    _check_alpha(alpha)
    upper_tail = np.where(most > 0, betainc(np.maximum(most, 1), next_most + 1, 0.5), 1.0)
    is_clear: NDArray[np.bool_] = np.minimum(2 * upper_tail, 1) <= alpha
    return is_clear


def certified_accuracy(radii: ArrayLike, right: ArrayLike, radius: float = 0.0) -> float:
    """Return the share of images whose label is proven within an L2 radius: those that abstain are not among them.

    Args:
        radii: (N,) of `certified_radius`; 0 where it abstains.
        right: (N,) bool, whether the class that is certified is the label.
        radius: At least 0, in the unit of the radii.

    Raises:
        EvaluationError: No images, other shapes, or a negative radius.
    """
    return float(np.mean(proven(radii, right, radius)))


def average_certified_radius(radii: ArrayLike, right: ArrayLike) -> float:
    """Return the mean radius of all images, which is 0 where the class is wrong or abstains (Zhai et al. 2020).

    That is the area under `certified_accuracy` against the radius (arXiv:2001.02378). Arguments are those.

    Raises:
        EvaluationError: No images, or other shapes.
    """
    own, is_right = _radii(radii, right)
    return float(np.mean(own * is_right))


def proven(radii: ArrayLike, right: ArrayLike, radius: float = 0.0) -> NDArray[np.bool_]:
    """Return (N,) bool, of which images the label is proven within a radius; arguments as `certified_accuracy`."""
    own, is_right = _radii(radii, right)
    if not radius >= 0:
        raise EvaluationError(f"a certified radius is at least 0, got {radius!r}")
    found: NDArray[np.bool_] = is_right & (own > 0) & (own >= radius)
    return found


def _radii(radii: ArrayLike, right: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    own, is_right = np.asarray(radii, dtype=np.float64), np.asarray(right, dtype=bool)
    if own.ndim != 1 or own.shape != is_right.shape or not len(own):
        raise EvaluationError(
            f"radii and whether the class is right are (N,) each with N ≥ 1, got {own.shape} and {is_right.shape}"
        )
    return own, is_right


def _counts(counts: ArrayLike, n: int) -> NDArray[np.int64]:
    found = np.asarray(counts)
    if n < 0 or n % 1 or np.any(found < 0) or np.any(found > n) or np.any(found % 1 != 0):
        raise EvaluationError(f"votes are whole numbers from 0 to the {n} that were cast, got {found}")
    return found.astype(np.int64)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise EvaluationError(f"alpha must lie between 0 and 1, got {alpha!r}")
