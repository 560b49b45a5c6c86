"""What samples contribute to metrics that are no mean over them: the AUROC and the calibration error."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from robustprune.comparison.outcomes import Floats
from robustprune.metrics import confidence_bins, shares_below
from robustprune.metrics.detection import bootstrap_counts

DOUBT = 0.3
"""What is left of the bias of a bin's calibration error, at most, in standard errors."""
# Beyond so many standard errors from 0 a bin has no bias.
_NEAR = 2.5


def placements(inside: Floats, outside: Floats) -> tuple[Floats, Floats]:
    """Return for each score the share of those of the other kind that it is on the right side of, ties half.

    Either's mean is the AUROC, and the AUROC varies with the samples as the sum of both means does (DeLong et al.
    1988, "Comparing the areas under two or more correlated receiver operating characteristic curves").
    """
    return (1 - shares_below(inside, outside)).astype(np.float32), shares_below(outside, inside).astype(np.float32)


def calibration_spread(confidence: Floats, right: Floats, resamples: int, seed: int) -> tuple[Floats, float, float]:
    """Return how the expected calibration error varies with the samples, and how far it lies above the true one.

    Of each bin it takes |s|, s the mean of right − confidence over all samples, σ its standard error. That lies above
    the true |μ| by up to 0.8 σ where a network is well calibrated, and by nothing far from there. No estimate of |μ|
    is unbiased (Cai & Low 2011, "Testing composite hypotheses, Hermite polynomials and optimal estimation of a
    nonsmooth functional"); |s| − 1.3 σ·exp(−1.4 (s/σ)²) is, to `DOUBT` σ.

    Args:
        confidence: (n,).
        right: (n,) booleans.
        resamples: How often samples are drawn anew.
        seed: Of the draws.

    Returns:
        Estimates (R,) of the true error from samples drawn with replacement, the estimated bias of the error as it is
        measured, and the standard deviation of what that estimate may be off by, where all bins err alike.
    """
    bins = confidence_bins(confidence.astype(np.float64))
    gaps = np.zeros((len(bins), int(bins.max()) + 1), np.float32)
    gaps[np.arange(len(bins)), bins] = right - confidence
    errors = gaps.std(axis=0, dtype=np.float64) / math.sqrt(len(bins))
    # A bin without samples is 0 whatever is drawn.
    gaps, errors = gaps[:, errors > 0], errors[errors > 0]
    means = gaps.mean(axis=0, dtype=np.float64)
    drawn = _counts(len(bins), resamples, seed) @ gaps / np.float32(len(bins))
    replicates: Floats = np.abs(drawn).sum(axis=1) - _excess(drawn, errors)
    is_near = np.abs(means) < _NEAR * errors
    # A bound on either side has the standard deviation of what is uniform within.
    return replicates, float(_excess(means, errors)), DOUBT * float(errors[is_near].sum()) / math.sqrt(3)


def _excess(means: Floats, errors: Floats) -> Floats:
    """Return the estimated bias of Σ |mean| (…,) of means (…, B) with standard errors (B,)."""
    excess: Floats = (1.3 * errors * np.exp(-1.4 * (means / errors) ** 2)).sum(axis=-1)
    return excess


@lru_cache(maxsize=1)
def _counts(n: int, resamples: int, seed: int) -> Floats:
    # As floats, which matrices are multiplied by.
    return bootstrap_counts(n, resamples, seed).astype(np.float32)
