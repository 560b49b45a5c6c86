"""Out-of-distribution detection: how well detectors tell the evaluated images from foreign ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from robustprune.data import ImageData
from robustprune.errors import EvaluationError
from robustprune.ood import evaluate_ood
from robustprune.ood.result import OodEntry, OodSummary
from robustprune.records import Samples
from robustprune.runtime.work import Progress

OodRequest = str | Sequence[str] | Mapping[str, Sequence[str]]


def run_ood(
    network: nn.Module,
    data: ImageData,
    ood: OodRequest,
    detectors: str | Sequence[str] | None,
    options: Mapping[str, Any],
    *,
    progress: Progress | None = None,
    **settings: Any,
) -> tuple[list[OodEntry], OodSummary | None, Samples]:
    """Return an entry per foreign set, what holds for all, and the scores per image; nothing if none is asked for.

    Args:
        network: From images (N, C, H, W) to logits.
        data: The image set it was trained on.
        ood: Foreign sets, see :func:`robustprune.ood.evaluate_ood`.
        detectors: Names, or all.
        options: Of the evaluation that only it takes, such as ``attack_epsilons``.
        progress: Called as work proceeds.
        settings: What it shares with other evaluations: split, limit, seed, batch size.

    Raises:
        EvaluationError: Detectors or options without a foreign set, or those that make no sense.
    """
    if not ood:
        given = [*(["detectors"] if detectors else []), *options]
        if given:
            raise EvaluationError(f"{', '.join(given)} without a foreign image set; name one with ood")
        return [], None, {}
    result = evaluate_ood(network, data, ood, detectors, progress=progress, **settings, **options)
    return result.entries, result.summary, result.samples
