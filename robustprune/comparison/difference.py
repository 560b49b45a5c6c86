"""The difference of two groups of networks in one metric, with what is known of each sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robustprune.comparison.estimate import Estimate, estimate_paired, estimate_unpaired, least_variance
from robustprune.comparison.outcomes import SHARE, Floats, Outcome


def estimate_difference(dense: Sequence[Outcome], own: Sequence[Outcome], *, paired: bool) -> Estimate:
    """Return the mean difference of ``own`` to ``dense``, in pairs or not, on equal samples, without known bias."""
    values = [np.array([outcome.value - outcome.bias for outcome in side]) for side in (dense, own)]
    both = [*dense, *own]
    scale, covariance, least = both[0].scale, np.zeros(()), 0.0
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
    # Networks of one side are biased alike: more of them make it no surer.
    least += sum(float(np.mean([outcome.doubt for outcome in side])) ** 2 for side in (dense, own))
    if paired:
        return estimate_paired(values[1] - values[0], covariance, least)
    return estimate_unpaired(values[0], values[1], covariance, least)


def _covariance(arrays: Floats) -> Floats:
    """Return the covariance (K, K) of the rows of (K, n); 0 where there is one column."""
    centred = arrays - arrays.mean(axis=1, keepdims=True)
    return np.asarray(centred @ centred.T / max(1, arrays.shape[1] - 1))
