"""Accuracy, the interval of a proportion, calibration, and selective prediction.

Selective prediction is how the error falls when a network may keep silent on what it is least sure of (El-Yaniv &
Wiener 2010; for the area under its curve Geifman, Uziel, El-Yaniv 2019, arXiv:1805.08206).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, ndtri, softmax

from robustprune.errors import EvaluationError
from robustprune.runtime.arrays import Array, to_numpy

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def accuracy(logits: Array, labels: Array) -> float:
    """Return the share of samples whose largest logit is that of the label.

    Args:
        logits: (N, K), finite; −∞ for a class that is ruled out.
        labels: (N,) integers 0…K−1.

    Raises:
        EvaluationError: No samples, shapes that do not fit, labels out of range, logits not finite.
    """
    scores, classes = _checked(logits, labels)
    return float(np.mean(scores.argmax(axis=1) == classes))


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval (low, high) of a proportion, both in [0, 1].

    Unlike the textbook ±z·√(p(1−p)/n) it stays inside [0, 1] and keeps a width at 0 and n successes (Wilson
    1927, "Probable inference, the law of succession, and statistical inference").

    Raises:
        EvaluationError: Counts that are not whole, ``n`` below 1, ``successes`` outside 0…n, or a ``confidence``
            outside (0, 1).
    """
    if n < 1 or not 0 <= successes <= n or n % 1 or successes % 1:
        raise EvaluationError(f"an interval needs whole 0 ≤ successes ≤ n and n ≥ 1, got {successes} of {n}")
    successes, n = int(successes), int(n)
    if not 0 < confidence < 1:
        raise EvaluationError(f"confidence must lie between 0 and 1, got {confidence}")
    z = float(ndtri(0.5 + confidence / 2))
    share = successes / n
    shrink = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half_width = z / shrink * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    # At the ends the bound is exactly 0 or 1; rounding would leave 1e-17 or 1 − 1e-16.
    low = 0.0 if successes == 0 else max(0.0, centre - half_width)
    high = 1.0 if successes == n else min(1.0, centre + half_width)
    return low, high


def negative_log_likelihood(logits: Array, labels: Array) -> float:
    """Return the mean of −log softmax(logits)[label], in nats. Arguments and errors as in `accuracy`.

    Raises:
        EvaluationError: Also where a label is ruled out by a logit of −∞, as its likelihood is 0 and the mean infinite.
    """
    values = sample_figures(logits, labels)["nll"]
    ruled_out = int(np.isinf(values).sum())
    if ruled_out:
        raise EvaluationError(
            f"the label of {ruled_out} of {len(values)} samples is ruled out by a logit of −∞, so that the negative "
            "log-likelihood is infinite; leave these samples out, or give the classes a finite logit"
        )
    return float(values.mean())


def brier_score(logits: Array, labels: Array) -> float:
    """Return the multi-class Brier score in [0, 2]: squared softmax errors, summed over classes, mean over samples.

    Brier 1950; the binary convention with one class only is half of it. Arguments and errors as in `accuracy`.
    """
    return float(sample_figures(logits, labels)["brier"].mean())


def sample_figures(logits: Array, labels: Array) -> dict[str, Floats]:
    """Return for each sample its ``confidence`` (largest softmax probability), ``nll`` and ``brier``, (N,) each.

    The means of the last two are `negative_log_likelihood` and `brier_score`. Arguments and errors as in `accuracy`.
    """
    scores, classes = _checked(logits, labels)
    own = np.arange(len(classes)), classes
    log_probabilities = log_softmax(scores, axis=1)
    errors = softmax(scores, axis=1)
    confidence = errors.max(axis=1)
    errors[own] -= 1
    return {"confidence": confidence, "nll": -log_probabilities[own], "brier": np.sum(errors**2, axis=1)}


def expected_calibration_error(logits: Array, labels: Array, bins: int = 15) -> float:
    """Return the gap between confidence and accuracy, averaged over bins weighted by their share of samples.

    ``bins`` equal-width bins [low, high) on the largest softmax probability, the last one closed (Guo et al.
    2017, eq. 3). Arguments and errors as in `accuracy`; no bins are one, too.
    """
    if bins < 1:
        raise EvaluationError(f"bins must be at least 1, got {bins}")
    scores, classes = _checked(logits, labels)
    confidences = softmax(scores, axis=1).max(axis=1)  # (N,)
    is_correct = scores.argmax(axis=1) == classes
    gaps = np.bincount(confidence_bins(confidences, bins), weights=is_correct - confidences, minlength=bins)
    return float(np.abs(gaps).sum() / len(classes))


def confidence_bins(confidences: Floats, bins: int = 15) -> Integers:
    """Return for confidences (N,) the number of the bin that each falls in, the bins of the calibration error."""
    return np.minimum((confidences * bins).astype(np.int64), bins - 1)


def risk_coverage(scores: Array, is_correct: Array) -> tuple[Floats, Floats]:
    """Return coverages 1/N, 2/N, …, 1 and the error rate among the samples answered at each.

    The samples of lowest score are answered first. Within a tie no order is preferred: the error rate is the
    one expected of a random order, which makes the curve independent of the order of the samples.

    Scores (N,) are larger where an answer is less trusted; ``is_correct`` (N,) says whether it would be right.

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


def _checked(logits: Array, labels: Array) -> tuple[Floats, Integers]:
    given, classes = to_numpy(logits, "logits"), to_numpy(labels, "labels")
    if given.dtype.kind not in "biuf":
        raise EvaluationError(f"logits must be real numbers, got {given.dtype}")
    scores = given.astype(np.float64)
    if scores.ndim != 2 or classes.shape != scores.shape[:1]:
        raise EvaluationError(f"expected logits (N, K) and labels (N,), got {scores.shape} and {classes.shape}")
    if scores.size == 0:
        raise EvaluationError("there are no samples to compute a metric of")
    # −∞ rules a class out; the largest of a row that holds NaN is NaN.
    bad = int((~np.isfinite(scores.max(axis=1))).sum())
    if bad:
        raise EvaluationError(f"{bad} of {len(scores)} rows of logits are NaN or infinite; the model has diverged")
    if not np.issubdtype(classes.dtype, np.integer):
        raise EvaluationError(f"labels must be integers, got {classes.dtype}")
    if classes.min() < 0 or classes.max() >= scores.shape[1]:
        raise EvaluationError(
            f"labels run from {classes.min()} to {classes.max()}, the logits have {scores.shape[1]} classes"
        )
    return scores, classes.astype(np.int64)
