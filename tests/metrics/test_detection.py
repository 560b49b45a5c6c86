"""Oracles: scikit-learn, and cases counted by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from robustprune.errors import EvaluationError
from robustprune.metrics import detection_figures, detection_intervals
from robustprune.metrics.detection import bootstrap_counts


def by_scikit_learn(inside, outside, weights=None):
    scores = np.concatenate([inside, outside])
    is_out = np.repeat([0, 1], [len(inside), len(outside)])

    def fpr95(positive, scores):
        fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False, sample_weight=weights)
        return fpr[np.argmax(tpr >= 0.95)]

    return {
        "auroc": roc_auc_score(is_out, scores, sample_weight=weights),
        "aupr_in": average_precision_score(1 - is_out, -scores, sample_weight=weights),
        "aupr_out": average_precision_score(is_out, scores, sample_weight=weights),
        "fpr95_ood_positive": fpr95(is_out, scores),
        "fpr95_id_positive": fpr95(1 - is_out, -scores),
        "prevalence": is_out.mean(),
    }


# Few distinct values make ties the rule.
scores = st.lists(st.integers(-4, 4), min_size=1, max_size=60)


@given(scores, scores)
def test_all_figures_are_those_of_scikit_learn_with_ties(inside, outside):
    found = vars(detection_figures(np.array(inside, float), np.array(outside, float)))
    assert found == pytest.approx(by_scikit_learn(inside, outside), abs=1e-12)


@pytest.mark.parametrize("sizes", [(1000, 400), (37, 900), (20, 20), (100, 1), (1, 100)])
def test_all_figures_are_those_of_scikit_learn_without_ties(sizes):
    generator = np.random.default_rng(3)
    inside, outside = generator.normal(size=sizes[0]), generator.normal(0.7, size=sizes[1])
    assert vars(detection_figures(inside, outside)) == pytest.approx(by_scikit_learn(inside, outside), abs=1e-12)


def test_constant_scores_tell_nothing():
    found = detection_figures(np.zeros(30), np.zeros(10))
    assert (found.auroc, found.fpr95_ood_positive, found.fpr95_id_positive) == (0.5, 1, 1)
    assert (found.aupr_in, found.aupr_out, found.prevalence) == (0.75, 0.25, 0.25)


def test_counted_by_hand():
    # Pairs won by the OOD sample: 4 over 1, 2, 3; 2 over 1, half of one tie: 4.5 of 6.
    found = detection_figures(np.array([1.0, 2, 3]), np.array([2.0, 4]))
    assert found.auroc == 0.75
    # To flag both OOD ones, everything at or above 2 is flagged: 2 and 3 of the three.
    assert found.fpr95_ood_positive == pytest.approx(2 / 3)
    # To accept all three of the others, everything up to 3 is accepted: one of the two.
    assert found.fpr95_id_positive == 0.5
    # Flagging 4: precision 1, recall 1/2. Down to 3 nothing is gained; down to 2: precision 2/4.
    assert found.aupr_out == pytest.approx(0.5 * 1 + 0.5 * 0.5)


def test_the_two_conventions_of_fpr95_differ_widely():
    inside = np.concatenate([np.zeros(94), np.full(6, 5.0)])
    found = detection_figures(inside, np.full(100, 1.0))
    assert found.fpr95_ood_positive == pytest.approx(0.06)
    assert found.fpr95_id_positive == 1


def test_the_sweep_takes_weights_as_scikit_learn_does():
    generator = np.random.default_rng(0)
    inside, outside = generator.integers(0, 9, 80).astype(float), generator.integers(3, 12, 50).astype(float)
    counts = bootstrap_counts(80, 20, 0), bootstrap_counts(50, 20, 1)
    expected = [by_scikit_learn(inside, outside, np.concatenate(rows)) for rows in zip(*counts, strict=True)]
    found = detection_intervals(inside, outside, resamples=20, confidence=0.9, seed=0)
    for name, interval in found.items():
        assert interval == pytest.approx(np.quantile([each[name] for each in expected], [0.05, 0.95]), abs=1e-12)


def test_draws_are_those_of_a_bootstrap():
    counts = bootstrap_counts(50, 400, 7)
    assert (counts.sum(axis=1) == 50).all()
    # A count is binomial(n, 1/n): mean 1, variance 1 − 1/n; 20,000 of them.
    assert counts.var() == pytest.approx(0.98, abs=0.03)
    assert not np.array_equal(counts, bootstrap_counts(50, 400, 8))


def test_the_interval_of_the_auroc_has_the_width_of_theory():
    # For exponential scores with means 1 and 3, A = 3/4 and Hanley & McNeil's (1982) variance is exact.
    generator = np.random.default_rng(5)
    n, m, area = 400, 300, 0.75
    inside, outside = generator.exponential(1, n), generator.exponential(3, m)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (m - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / (n * m)
    low, high = detection_intervals(inside, outside, resamples=1000)["auroc"]
    assert (high - low) == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.15)
    assert low < detection_figures(inside, outside).auroc < high


@pytest.mark.parametrize(
    ("inside", "outside", "complaint"),
    [
        (np.zeros(0), np.zeros(3), "N ≥ 1"),
        (np.zeros(3), np.zeros((3, 1)), "shape"),
        (np.zeros(3), np.array([0, np.nan, np.inf]), "2 of 3 scores are NaN or infinite"),
    ],
)
def test_what_cannot_be_ranked_is_a_clean_error(inside, outside, complaint):
    with pytest.raises(EvaluationError, match=complaint):
        detection_figures(inside, outside)


def test_intervals_need_resamples():
    with pytest.raises(EvaluationError, match="20 resamples"):
        detection_intervals(np.zeros(3), np.ones(3), resamples=5)


def test_one_sample_says_nothing_of_others():
    assert detection_figures(np.zeros(1), np.ones(1)).auroc == 1
    for inside, outside in ((np.zeros(1), np.ones(50)), (np.zeros(50), np.ones(1))):
        assert detection_intervals(inside, outside) == {}
