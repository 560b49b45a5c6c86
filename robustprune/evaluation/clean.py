"""Accuracy and calibration on images as they are."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from robustprune.data import Sample
from robustprune.data.image_data import images_at
from robustprune.errors import EvaluationError
from robustprune.metrics import (
    accuracy,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    sample_figures,
    wilson_interval,
)
from robustprune.models import predict_logits
from robustprune.records import CleanResult, Samples
from robustprune.runtime.processes import ALONE, Processes


def evaluate_clean(
    network: nn.Module, sample: Sample, dataset: str, *, batch_size: int, processes: Processes = ALONE
) -> tuple[CleanResult, Samples]:
    """Return accuracy and calibration on a sample, and the outcomes per image.

    Raises:
        EvaluationError: The data set has labels that the network has no output for.
        ModelError: The network does not run on these images.
    """
    images, labels = sample.images, sample.labels
    (logits,) = processes.spread(
        len(labels),
        batch_size,
        lambda places: [predict_logits(network, images_at(images, places), batch_size=batch_size)],
    )
    _check_labels(logits, labels, dataset)
    figures = {name: values.astype(np.float32) for name, values in sample_figures(logits, labels).items()}
    predictions = logits.argmax(dim=1).numpy()
    outcomes = {"index": sample.indices.numpy(), "label": labels.numpy(), "clean_prediction": predictions}
    return _measure(logits, labels), outcomes | figures


def _check_labels(logits: Tensor, labels: Tensor, dataset: str) -> None:
    if int(labels.max()) >= logits.shape[1]:
        raise EvaluationError(
            f"{dataset} has labels up to {int(labels.max())}, the network only {logits.shape[1]} outputs; "
            "evaluate it on the data set it was trained for"
        )


def _measure(logits: Tensor, labels: Tensor) -> CleanResult:
    correct = int((logits.argmax(dim=1) == labels).sum())
    return CleanResult(
        accuracy=accuracy(logits, labels),
        interval=wilson_interval(correct, len(labels)),
        nll=negative_log_likelihood(logits, labels),
        ece=expected_calibration_error(logits, labels),
        brier=brier_score(logits, labels),
    )
