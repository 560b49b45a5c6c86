"""How well a score tells out-of-distribution samples from in-distribution ones, where larger means out.

One sweep over the distinct scores counts what lies at or above each, for many weightings of the samples at
once: with a weight of one each it gives the figures, with bootstrap counts as weights their intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustprune.errors import EvaluationError
from robustprune.runtime.arrays import Array, to_numpy

Floats = NDArray[np.float64]

TRUE_POSITIVE_RATE = 0.95
AUPR_ESTIMATOR = "average precision: the sum over distinct scores of precision times gain in recall"
# Elements of a block of weightings; small enough that the sweep's arrays stay in the cache.
_BLOCK = 1 << 18


@dataclass(frozen=True)
class DetectionFigures:
    """How well a score detects out-of-distribution samples; everything lies in [0, 1].

    Attributes:
        auroc: Probability that an out-of-distribution sample scores above an in-distribution one, ties half.
        aupr_in: Average precision with in-distribution as the positive class; chance level 1 − prevalence.
        aupr_out: Average precision with out-of-distribution as the positive class; chance level prevalence.
        fpr95_ood_positive: Share of in-distribution samples flagged where at least 95 % of the others are.
        fpr95_id_positive: Share of the out-of-distribution samples accepted where at least 95 % of the
            in-distribution ones are. The literature calls both "FPR95".
        prevalence: Share of out-of-distribution samples.
    """

    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95_ood_positive: float
    fpr95_id_positive: float
    prevalence: float


def detection_figures(scores_in: Array, scores_out: Array) -> DetectionFigures:
    """Return all figures of a score.

    Scores are of in-distribution samples (N,) and of out-of-distribution ones (M,), which should be larger.

    Raises:
        EvaluationError: Either is empty, not one-dimensional, or not finite.
    """
    inside, outside = _checked(scores_in), _checked(scores_out)
    columns = _columns(inside, outside, np.ones((1, len(inside))), np.ones((1, len(outside))))
    auroc, aupr_in, aupr_out, fpr95_ood, fpr95_id = (float(column[0]) for column in columns)
    prevalence = len(outside) / (len(inside) + len(outside))
    return DetectionFigures(auroc, aupr_in, aupr_out, fpr95_ood, fpr95_id, prevalence)


def detection_intervals(
    scores_in: Array, scores_out: Array, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return a bootstrap percentile interval of each figure, by name; the prevalence is fixed and has none.

    None at all where there is one sample of either kind: however often it is drawn, it says nothing of others.

    In- and out-of-distribution samples are drawn anew separately, with replacement (Efron & Tibshirani 1993,
    chapter 13). Equal seeds and numbers of samples draw the same ones, so that detectors are resampled alike.

    Raises:
        EvaluationError: As `detection_figures`, too few resamples, or a confidence outside (0, 1).
    """
    check_resampling(resamples, confidence)
    inside, outside = _checked(scores_in), _checked(scores_out)
    if min(len(inside), len(outside)) < 2:
        return {}
    drawn_in = bootstrap_counts(len(inside), resamples, seed)
    drawn_out = bootstrap_counts(len(outside), resamples, seed + 1)
    step = max(1, _BLOCK // (len(inside) + len(outside)))
    blocks = [
        _columns(inside, outside, drawn_in[start : start + step], drawn_out[start : start + step])
        for start in range(0, resamples, step)
    ]
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    names = [name for name in DetectionFigures.__dataclass_fields__ if name != "prevalence"]
    bounds = (np.quantile(np.concatenate(column), tails) for column in zip(*blocks, strict=True))
    return {name: (float(low), float(high)) for name, (low, high) in zip(names, bounds, strict=True)}


def check_resampling(resamples: int, confidence: float = 0.95) -> None:
    """Check what :func:`detection_intervals` takes, before there are scores.

    Raises:
        EvaluationError: No whole number of resamples from 20 up, or a confidence outside (0, 1).
    """
    if resamples < 20 or resamples % 1 or not 0 < confidence < 1:
        raise EvaluationError(f"an interval needs ≥ 20 resamples and 0 < confidence < 1, got {resamples}, {confidence}")


def shares_below(scores: NDArray[Any], others: NDArray[Any]) -> Floats:
    """Return for each score (N,) the share of others (M,) below it, ties half; the mean is the area under the curve."""
    # In order, as looking up neighbours one after the other is several times as fast.
    order, others = np.argsort(scores), np.sort(others)
    twice = np.searchsorted(others, scores[order], "left") + np.searchsorted(others, scores[order], "right")
    shares = np.empty(len(scores))
    shares[order] = twice / (2 * len(others))
    return shares


@lru_cache(maxsize=4)
def bootstrap_counts(n: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    """Return how often each of ``n`` samples is drawn in each resample, (resamples, n); rows sum to n."""
    generator = np.random.Generator(np.random.PCG64(seed))
    counts = np.empty((resamples, n), dtype=np.uint16)
    for row in counts:
        row[:] = np.bincount(generator.integers(n, size=n), minlength=n)
    counts.flags.writeable = False
    return counts


def _columns(inside: Floats, outside: Floats, weights_in: Any, weights_out: Any) -> tuple[Floats, ...]:
    """Return auroc, aupr_in, aupr_out, fpr95_ood_positive, fpr95_id_positive, (B,) each, for B weightings."""
    scores = np.concatenate([inside, outside])
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    is_outside = order >= len(inside)
    flagged_in = _cumulate(weights_in[:, order[~is_outside]], np.cumsum(~is_outside)[last_of_ties])
    flagged_out = _cumulate(weights_out[:, order[is_outside] - len(inside)], np.cumsum(is_outside)[last_of_ties])
    # Seen from below, what is accepted is what is not flagged.
    accepted_in, accepted_out = (each[:, -1:] - each[:, ::-1] for each in (flagged_in, flagged_out))
    return (
        _area_under_roc(flagged_out, flagged_in),
        _average_precision(accepted_in, accepted_out),
        _average_precision(flagged_out, flagged_in),
        _false_positive_rate(flagged_out, flagged_in),
        _false_positive_rate(accepted_in, accepted_out),
    )


def _cumulate(weights: Any, ends: Any) -> Floats:
    """Return the weight of the first 0 and ``ends`` (G,) samples of each row of weights (B, n), (B, G + 1)."""
    totals = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=totals[:, 1:])
    return np.asarray(totals[:, np.append(0, ends)])


# Below, true and false are the weights (B, G + 1) found rightly and wrongly as the threshold is relaxed, from 0.


def _area_under_roc(true: Floats, false: Floats) -> Floats:
    twice = np.einsum("bg,bg->b", np.diff(false, axis=1), true[:, 1:] + true[:, :-1])
    return np.asarray(twice / (2 * true[:, -1] * false[:, -1]))


def _average_precision(true: Floats, false: Floats) -> Floats:
    found = (true + false)[:, 1:]
    precision = np.divide(true[:, 1:], found, out=np.zeros_like(found), where=found > 0)
    return np.asarray(np.einsum("bg,bg->b", np.diff(true, axis=1), precision) / true[:, -1])


def _false_positive_rate(true: Floats, false: Floats) -> Floats:
    """Return the false positive rate at the first threshold that finds enough of the positives."""
    # Divided, as a user would: 0.95 · n rounds to more than the whole number it stands for, for some n.
    first = (true / true[:, -1:] >= TRUE_POSITIVE_RATE).argmax(axis=1)
    return np.asarray(false[np.arange(len(false)), first] / false[:, -1])


def _checked(scores: Array) -> Floats:
    values = to_numpy(scores, "scores").astype(np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise EvaluationError(f"expected scores (N,) with N ≥ 1, got shape {values.shape}")
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise EvaluationError(f"{bad} of {len(values)} scores are NaN or infinite")
    return values
