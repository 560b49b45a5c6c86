"""Accuracy and calibration on images as they are."""

from __future__ import annotations

from torch import Tensor

from robustprune.errors import EvaluationError
from robustprune.metrics import (
    accuracy,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    wilson_interval,
)
from robustprune.records import CleanResult


def check_labels(logits: Tensor, labels: Tensor, name: str) -> None:
    """Check that every label has an output.

    Raises:
        EvaluationError: One has none.
    """
    if int(labels.max()) >= logits.shape[1]:
        raise EvaluationError(
            f"{name} has labels up to {int(labels.max())}, the network only {logits.shape[1]} outputs; "
            "evaluate it on the data set it was trained for"
        )


def measure_clean(logits: Tensor, labels: Tensor) -> CleanResult:
    """Return accuracy and calibration of logits (N, K) for labels (N,)."""
    correct = int((logits.argmax(dim=1) == labels).sum())
    return CleanResult(
        accuracy=accuracy(logits, labels),
        interval=wilson_interval(correct, len(labels)),
        nll=negative_log_likelihood(logits, labels),
        ece=expected_calibration_error(logits, labels),
        brier=brier_score(logits, labels),
    )
