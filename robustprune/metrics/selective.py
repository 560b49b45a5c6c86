"""Selective prediction: how the error falls when a network may keep silent on what it is least sure of.

El-Yaniv & Wiener 2010; Geifman, Uziel, El-Yaniv 2019 (arXiv:1805.08206) for the area.
"""

from __future__ import annotations

import numpy as np

from robustprune.errors import EvaluationError
from robustprune.metrics.arrays import Floats
from robustprune.runtime.arrays import Array, to_numpy


def risk_coverage(scores: Array, is_correct: Array) -> tuple[Floats, Floats]:
    """Return coverages 1/N, 2/N, …, 1 and the error rate among the samples answered at each.

    The samples of lowest score are answered first. Within a tie no order is preferred: the error rate is the
    one expected of a random order, which makes the curve independent of the order of the samples.

    Args:
        scores: (N,) finite; larger = less trusted, as an out-of-distribution score.
        is_correct: (N,) booleans, whether the answer would be right.

    Returns:
        Two arrays (N,) float64.

    Raises:
        EvaluationError: No samples, shapes that do not fit, scores that are not finite.
    """
    values = to_numpy(scores, "scores").astype(np.float64)
    correct = to_numpy(is_correct, "correctness")
    if not np.isin(correct, (False, True)).all():
        raise EvaluationError(f"whether an answer is right is true or false, got {correct.dtype} of other values")
    wrong = ~correct.astype(bool)
    if values.ndim != 1 or len(values) == 0 or wrong.shape != values.shape:
        raise EvaluationError(f"expected scores and correctness (N,) each, got {values.shape} and {wrong.shape}")
    if not np.isfinite(values).all():
        raise EvaluationError("some scores are NaN or infinite, so there is no order to answer in")
    order = np.argsort(values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1) + 1
    # The expected number of errors grows evenly within a tie.
    answered = np.arange(1, len(values) + 1)
    errors = np.interp(answered, np.append(0, ends), np.append(0, np.cumsum(wrong[order])[ends - 1]))
    return answered / len(values), errors / answered


def area_under_risk_coverage(scores: Array, is_correct: Array) -> float:
    """Return the mean error rate over all coverages, AURC; lower is better. Arguments as `risk_coverage`."""
    return float(risk_coverage(scores, is_correct)[1].mean())
