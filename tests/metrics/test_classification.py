import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from robustprune.errors import EvaluationError
from robustprune.metrics import (
    accuracy,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    sample_figures,
    wilson_interval,
)

METRICS = [accuracy, negative_log_likelihood, brier_score, expected_calibration_error]


@pytest.fixture
def predictions():
    random = np.random.default_rng(0)
    return random.normal(size=(200, 7)) * 3, random.integers(0, 7, 200)


def logits_of(probabilities):
    return np.log(np.asarray(probabilities))


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_interval_is_that_of_scipy(n, share, confidence):
    successes = round(n * share)
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    low, high = wilson_interval(successes, n, confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= successes / n <= high <= 1


@pytest.mark.parametrize(("successes", "n", "confidence"), [(0, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1)])
def test_wilson_interval_refuses(successes, n, confidence):
    with pytest.raises(EvaluationError):
        wilson_interval(successes, n, confidence)


def test_accuracy_nll_and_brier_are_those_of_sklearn(predictions):
    logits, labels = predictions
    probabilities = softmax(logits, axis=1)
    assert accuracy(logits, labels) == accuracy_score(labels, logits.argmax(1))
    assert negative_log_likelihood(logits, labels) == pytest.approx(log_loss(labels, probabilities), abs=1e-12)
    by_class = sum(brier_score_loss(labels == k, probabilities[:, k]) for k in range(7))
    assert brier_score(logits, labels) == pytest.approx(by_class, abs=1e-12)


def test_figures_of_single_samples_are_those_of_sklearn(predictions):
    logits, labels = predictions
    found = sample_figures(logits, labels)
    probabilities = softmax(logits, axis=1)
    np.testing.assert_allclose(found["confidence"], probabilities.max(axis=1))
    for i in range(0, 200, 17):
        own, truth = probabilities[i : i + 1], labels[i : i + 1]
        assert found["nll"][i] == pytest.approx(log_loss(truth, own, labels=range(7)))
        assert found["brier"][i] == pytest.approx(np.sum((own - np.eye(7)[truth]) ** 2))


def test_nll_of_a_very_sure_mistake_is_finite():
    assert negative_log_likelihood(np.array([[1e4, 0.0]]), np.array([1])) == pytest.approx(1e4)


def test_calibration_error_by_hand():
    # Confidences .9 .9 .6 .6, correct 1 0 1 1: bins .9 → |.5 − .9|, .6 → |1 − .6|, half the samples each.
    logits = logits_of([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]])
    assert expected_calibration_error(logits, np.array([0, 0, 0, 1])) == pytest.approx(0.4)


def test_calibration_error_with_one_bin_is_confidence_minus_accuracy(predictions):
    logits, labels = predictions
    gap = abs(softmax(logits, axis=1).max(1).mean() - accuracy(logits, labels))
    assert expected_calibration_error(logits, labels, bins=1) == pytest.approx(gap)


def test_calibration_bins_are_half_open_and_the_last_is_closed():
    # .5 opens the second of two bins, and a confidence of exactly 1 falls into the last.
    logits = np.array([[0.0, 0.0], [1e4, 0.0]])
    assert expected_calibration_error(logits, np.array([1, 0]), bins=2) == pytest.approx(abs(0.5 - 0.75))


@pytest.mark.parametrize("metric", METRICS)
def test_tensors_and_arrays_give_the_same(metric, predictions):
    logits, labels = (torch.from_numpy(each) for each in predictions)
    assert metric(logits, labels) == metric(*predictions)
    assert metric(logits.bfloat16().requires_grad_(), labels.int()) == pytest.approx(metric(*predictions), abs=0.05)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("logits", "labels", "complaint"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "no samples"),
        (np.array([[np.nan, 0]]), np.array([0]), "NaN"),
        (np.array([[np.inf, 0]]), np.array([0]), "infinite"),
        (np.zeros((2, 3)), np.zeros(3, int), "expected logits"),
        (np.zeros((2, 3)), np.array([0, 3]), "3 classes"),
        (np.zeros((2, 3)), np.array([0, -1]), "from -1"),
        (np.zeros((2, 3)), np.zeros(2), "integers"),
        (np.full((1, 3), -np.inf), np.array([0]), "diverged"),
        (np.zeros((2, 3), complex), np.zeros(2, int), "real numbers"),
        (np.array([["1", "2"]]), np.array([0]), "real numbers"),
    ],
)
def test_nonsense_is_a_clean_error(metric, logits, labels, complaint):
    with pytest.raises(EvaluationError, match=complaint):
        metric(logits, labels)


def test_no_bins_is_a_clean_error(predictions):
    with pytest.raises(EvaluationError, match="bins"):
        expected_calibration_error(*predictions, bins=0)


@given(st.integers(1, 20), st.integers(2, 6), st.integers(1, 4), st.integers(0, 1000))
def test_classes_that_are_ruled_out_change_nothing(n, classes, others, seed):
    random = np.random.default_rng(seed)
    logits, labels = random.normal(size=(n, classes)), random.integers(classes, size=n)
    masked = np.concatenate([logits, np.full((n, others), -np.inf)], axis=1)
    order = random.permutation(classes + others)
    moved = np.argsort(order)[labels]
    for metric in METRICS:
        assert metric(masked[:, order], moved) == pytest.approx(metric(logits, labels), abs=1e-12)


def test_a_label_that_is_ruled_out():
    logits, labels = np.array([[0, 0, -np.inf], [0, 0, 0]]), np.array([2, 2])
    assert sample_figures(logits, labels)["nll"].tolist() == [np.inf, pytest.approx(np.log(3))]
    assert brier_score(logits, labels) == pytest.approx(((2 * 0.25 + 1) + (2 / 9 + 4 / 9)) / 2)
    with pytest.raises(EvaluationError, match=r"the label of 1 of 2 samples is ruled out"):
        negative_log_likelihood(logits, labels)


def test_an_interval_takes_whole_numbers_of_any_type():
    assert wilson_interval(np.int64(2), 5.0) == wilson_interval(2, 5)  # type: ignore[arg-type]
    assert all(type(end) is float for end in wilson_interval(np.int64(2), np.int32(5)))  # type: ignore[arg-type]
    for successes, n in ((1.5, 3), (1, 2.5), (float("nan"), 3)):
        with pytest.raises(EvaluationError, match="whole"):
            wilson_interval(successes, n)  # type: ignore[arg-type]
