"""What samples contribute to metrics that are no mean over them: the AUROC and the calibration error."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from robustprune.comparison.outcomes import Floats
from robustprune.metrics import confidence_bins, shares_below
from robustprune.metrics.detection import bootstrap_counts


def placements(inside: Floats, outside: Floats) -> tuple[Floats, Floats]:
    """Return for each score the share of those of the other kind that it is on the right side of, ties half.

    Either's mean is the AUROC, and the AUROC varies with the samples as the sum of both means does (DeLong et al.
    1988, "Comparing the areas under two or more correlated receiver operating characteristic curves").
    """
    return (1 - shares_below(inside, outside)).astype(np.float32), shares_below(outside, inside).astype(np.float32)


def drawn_calibration_errors(confidence: Floats, right: Floats, resamples: int, seed: int) -> Floats:
    """Return the expected calibration error of samples drawn with replacement, (R,)."""
    bins = confidence_bins(confidence.astype(np.float64))
    gaps = np.zeros((len(bins), int(bins.max()) + 1), np.float32)
    gaps[np.arange(len(bins)), bins] = right - confidence
    drawn: Floats = np.abs(_counts(len(bins), resamples, seed) @ gaps).sum(axis=1) / len(bins)
    return drawn


@lru_cache(maxsize=1)
def _counts(n: int, resamples: int, seed: int) -> Floats:
    # As floats, which matrices are multiplied by.
    return bootstrap_counts(n, resamples, seed).astype(np.float32)
