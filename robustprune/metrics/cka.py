"""Linear centred kernel alignment: how alike two representations of the same images are.

CKA(X, Y) = HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L)) with K = XXᵀ, L = YYᵀ (Kornblith et al. 2019, arXiv:1905.00414).
HSIC is the unbiased estimator of Song et al. 2012 (JMLR 13), here as the mean product of U-centred Gram matrices, to
which it is equal (Székely and Rizzo 2014, arXiv:1310.2926). Being unbiased it can be averaged over minibatches,
numerator and denominators each (Nguyen, Raghu and Kornblith 2021, arXiv:2010.15327); the biased one is near 1
wherever features outnumber images.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robustprune.errors import EvaluationError
from robustprune.runtime.arrays import Array, to_tensor

Floats = NDArray[np.float64]

LEAST_SAMPLES = 4
"""Samples that the unbiased estimator needs in a batch."""

_COLUMNS = 1 << 14  # features converted to float64 at a time
# Squared variation of float32 features of a given size that is no more than their rounding.
_ROUNDING = 1e-13


def linear_cka(first: Array, second: Array, batch_size: int | None = None) -> float:
    """Return the linear CKA of two representations: 1 alike, 0 unrelated in expectation, and a little below at times.

    It is NaN where a representation does not vary. Neither rotating a representation, nor scaling it, nor moving it
    changes the value.

    Args:
        first: (N, …) features.
        second: (N, …) features of the same samples, of any shape.
        batch_size: Average over batches of so many, as for sets whose Gram matrix (N, N) is too large; by
            default one batch. Up to three samples left over at the end are left out.

    Raises:
        EvaluationError: Numbers of samples that differ or are below 4, or features that are not finite.
    """
    first, second = _features(first), _features(second)
    if len(first) != len(second):
        raise EvaluationError(f"CKA compares features of the same samples, got {len(first)} and {len(second)}")
    size = len(first) if batch_size is None else batch_size
    mean = MeanCka()
    for start in range(0, max(len(first) - LEAST_SAMPLES + 1, 1), max(size, 1)):
        part = slice(start, start + size)
        mean.add(centred_gram(first[part]), centred_gram(second[part]))
    return mean.value


class MeanCka:
    """CKA over minibatches that come one after the other."""

    def __init__(self) -> None:
        """Start with no batch."""
        self._sums = np.zeros(3)

    def add(self, first: Floats, second: Floats) -> None:
        """Add a batch, given as the two U-centred Gram matrices (n, n); larger batches weigh more."""
        count = len(first)
        products = [np.vdot(first, second), np.vdot(first, first), np.vdot(second, second)]
        # HSIC is the product over n(n − 3); n samples weigh n times as much as one.
        self._sums += np.array(products) / (count - 3)

    @property
    def value(self) -> float:
        """The alignment so far; NaN where a representation has not varied."""
        both, first, second = (float(value) for value in self._sums)
        return both / math.sqrt(first * second) if first > 0 and second > 0 else math.nan


def centred_gram(features: Array) -> Floats:
    """Return the U-centred linear Gram matrix (n, n) of features (n, …), exactly 0 where they do not vary.

    Raises:
        EvaluationError: Fewer than four samples, or features that are not finite.
    """
    features = _features(features)
    count = len(features)
    if count < LEAST_SAMPLES:
        raise EvaluationError(f"unbiased CKA needs batches of at least {LEAST_SAMPLES} samples, got {count}")
    flat = features.detach().cpu().reshape(count, -1)
    gram, size = np.zeros((count, count)), 0.0
    for start in range(0, flat.shape[1], _COLUMNS):
        columns = flat[:, start : start + _COLUMNS].double().numpy()
        size += float(np.vdot(columns, columns))
        if not math.isfinite(size):
            raise EvaluationError("features are NaN or infinite; the model has diverged")
        # Moving features changes nothing but the digits that are left of a difference of large numbers.
        columns = columns - columns.mean(axis=0)
        gram += columns @ columns.T
    if np.trace(gram) <= _ROUNDING * size:
        return np.zeros_like(gram)
    np.fill_diagonal(gram, 0)
    row_sums = gram.sum(axis=0)
    gram += row_sums.sum() / ((count - 1) * (count - 2)) - (row_sums[:, None] + row_sums[None, :]) / (count - 2)
    np.fill_diagonal(gram, 0)
    return gram


def _features(values: Array) -> Tensor:
    features = to_tensor(values, "features")
    if features.ndim == 0:
        raise EvaluationError("expected features (N, …), got a single number")
    return features
