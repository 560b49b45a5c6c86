"""The estimated difference of two groups of networks in one metric, with its variance over seeds and samples.

Accuracies are means over samples. The AUROC and the calibration error are not; their variance over samples is estimated
here, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.special import bdtr

from robustprune.comparison.metric import SHARE, Floats, MetricValue
from robustprune.metrics import confidence_bins, shares_below
from robustprune.metrics.detection import bootstrap_counts
from robustprune.metrics.seeds import CrossedDifference, least_variance, paired_difference, unpaired_difference

_MOST_BIAS = 0.3
"""Largest bias of a bin's calibration error that the correction leaves, in standard errors."""
# A bin that is so many standard errors from 0 has no bias.
_NEAR = 2.5


def estimate_difference(
    dense: Sequence[MetricValue], own: Sequence[MetricValue], *, paired: bool, trim: bool = False
) -> CrossedDifference:
    """Return the mean difference ``own`` − ``dense`` on equal samples, in pairs of networks or not, corrected for bias.

    If ``trim``, it is the interquartile mean over the seeds.
    """
    values = [np.array([outcome.value - outcome.bias for outcome in side]) for side in (dense, own)]
    both = [*dense, *own]
    scale, least = both[0].scale, 0.0
    covariance = np.zeros((len(own) if paired else len(both),) * 2)
    for part in range(len(both[0].samples)):
        arrays = np.stack([outcome.samples[part] for outcome in both]).astype(np.float64)  # (networks, n)
        compared = arrays[len(dense) :] - arrays[: len(dense)] if paired else arrays
        covariance = covariance + scale**2 * _covariance(compared) / arrays.shape[1]
        if scale == SHARE:
            least += scale**2 * least_variance(arrays, len(dense))
    replicates = [outcome.replicates for outcome in both if outcome.replicates is not None]
    if replicates:
        drawn = np.stack(replicates)
        covariance = covariance + _covariance(drawn[len(dense) :] - drawn[: len(dense)] if paired else drawn)
    # The networks of a group share this error, so more of them do not reduce it.
    shared = sum(float(np.mean([outcome.bias_error for outcome in side])) ** 2 for side in (dense, own))
    if paired:
        found = paired_difference(values[1] - values[0], covariance, least + shared, trim=trim)
    else:
        found = unpaired_difference(values[0], values[1], covariance, least + shared, trim=trim)
    if found.spreads is None:
        return found
    n_images = both[0].n_samples or sum(len(each) for each in both[0].samples)
    of_images = math.hypot(found.spreads.images, math.sqrt(shared))
    spreads = replace(found.spreads, images=of_images, n_images=n_images, of_share=scale == SHARE)
    return replace(found, spreads=spreads)


def _covariance(arrays: Floats) -> Floats:
    """Return the covariance (K, K) of the rows of (K, n); 0 where there is one column."""
    centred = arrays - arrays.mean(axis=1, keepdims=True)
    return np.asarray(centred @ centred.T / max(1, arrays.shape[1] - 1))


def placements(inside: Floats, outside: Floats) -> tuple[Floats, Floats]:
    """Return for each score the share of the other kind's scores that it is on the right side of, ties counting half.

    The mean of either is the AUROC, and the AUROC varies with the samples as the sum of both means (DeLong et al. 1988,
    "Comparing the areas under two or more correlated receiver operating characteristic curves").
    """
    return (1 - shares_below(inside, outside)).astype(np.float32), shares_below(outside, inside).astype(np.float32)


def calibration_spread(confidence: Floats, right: Floats, resamples: int, seed: int) -> tuple[Floats, float, float]:
    """Return how the expected calibration error varies with the samples, and its bias.

    Each bin adds |s|, s the mean of right − confidence over all samples, σ its standard error. |s| exceeds the true |μ|
    by up to 0.8 σ where a network is well calibrated, and by nothing where it is far from calibrated. No estimate of
    |μ| is unbiased (Cai & Low 2011, "Testing composite hypotheses, Hermite polynomials and optimal estimation of a
    nonsmooth functional"); |s| − 1.3 σ·exp(−1.4 (s/σ)²) is, to `_MOST_BIAS` σ. Confidence and right are (n,).

    Returns:
        Estimates (R,) of the true error from samples drawn with replacement; the estimated bias of the measured error;
        and the standard deviation of the error of that bias, if all bins err in the same direction.
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
    # The standard deviation of a uniform distribution between −bound and bound.
    return replicates, float(_excess(means, errors)), _MOST_BIAS * float(errors[is_near].sum()) / math.sqrt(3)


def _excess(means: Floats, errors: Floats) -> Floats:
    """Return the estimated bias of Σ |mean| (…,) of means (…, B) with standard errors (B,)."""
    excess: Floats = (1.3 * errors * np.exp(-1.4 * (means / errors) ** 2)).sum(axis=-1)
    return excess


@lru_cache(maxsize=1)
def _counts(n: int, resamples: int, seed: int) -> Floats:
    # As floats, which matrices are multiplied by.
    return bootstrap_counts(n, resamples, seed).astype(np.float32)


def mcnemar(lost: int, gained: int) -> float:
    """Return the two-sided p-value of McNemar's test, exact for any number of samples.

    Where neither network is better, a sample on which they differ is as likely to be lost (only the first has it
    right) as to be gained (McNemar 1947). So the number lost is binomial, and χ² is not needed.
    """
    return float(min(1.0, 2 * bdtr(min(lost, gained), lost + gained, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that the family-wise error rate is α at a threshold of α.

    Holm 1979, "A simple sequentially rejective multiple test procedure", which allows any dependence of the tests.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepwise = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepwise))
    return [float(value) for value in adjusted]
