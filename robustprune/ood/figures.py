"""From scores to figures: detectors compared set by set, means of groups, selective prediction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from robustprune.metrics import area_under_risk_coverage, detection_figures, detection_intervals, risk_coverage
from robustprune.ood.groups import FAR, NEAR
from robustprune.ood.outputs import Outputs
from robustprune.ood.result import DetectorEntry, GroupMean, OodEntry, Samples, SelectiveEntry
from robustprune.ood.scoring import Scores

Found = Mapping[str, Scores | str]
"""Scores, or the reason why there are none, by detector."""

_FIGURES = ("auroc", "aupr_in", "aupr_out", "fpr95_ood_positive", "fpr95_id_positive")
_COVERAGES = np.arange(1, 21) / 20


def compare_sets(
    inside: Found, outside: Found, resamples: int, seed: int, remarks: Mapping[str, str | None] | None = None
) -> dict[str, DetectorEntry]:
    """Return how well each detector tells two sets apart; intervals with at least one resample.

    ``remarks`` say what is odd about a detector itself.
    """
    remarks = remarks or {}
    return {
        name: _compare(inside[name], scores, resamples, seed, remarks.get(name)) for name, scores in outside.items()
    }


def _compare(
    inside: Scores | str, outside: Scores | str, resamples: int, seed: int, remark: str | None
) -> DetectorEntry:
    reasons = dict.fromkeys(each for each in (inside, outside) if isinstance(each, str))
    if isinstance(inside, str) or isinstance(outside, str):
        return DetectorEntry(reason="; ".join(reasons))
    lowest, highest = min(inside.min(), outside.min()), max(inside.max(), outside.max())
    odd = [remark, "all scores are equal, so nothing is told apart" if lowest == highest else None]
    return DetectorEntry(
        **detection_figures(inside, outside).to_dict(),
        intervals=detection_intervals(inside, outside, resamples=resamples, seed=seed) if resamples else {},
        reason="; ".join(filter(None, odd)) or None,
    )


def group_means(entries: Iterable[OodEntry]) -> list[GroupMean]:
    """Return the means over near and over far sets, each set counting once (OpenOOD's convention)."""
    entries = list(entries)
    means = []
    for group in (NEAR, FAR):
        members = [entry for entry in entries if entry.group == group]
        for is_full in (False, True):
            tables = [entry.full_spectrum if is_full else entry.detectors for entry in members]
            # Sets may come with detectors of their own: a mean is over all sets of the group, or not given.
            shared = [name for name in tables[0] if all(name in table for table in tables)] if tables else []
            if shared:
                figures = {name: _mean([table[name] for table in tables]) for name in shared}
                datasets = [entry.dataset for entry in members]
                means.append(GroupMean(group=group, full_spectrum=is_full, datasets=datasets, detectors=figures))
    return means


def _mean(entries: list[DetectorEntry]) -> dict[str, float | None]:
    values = {figure: [getattr(entry, figure) for entry in entries] for figure in _FIGURES}
    return {figure: None if None in found else float(np.mean(found)) for figure, found in values.items()}


def selective_prediction(inside: Found, outputs: Outputs) -> dict[str, SelectiveEntry]:
    """Return how the error falls when the images a detector scores highest are left unanswered."""
    is_correct = (outputs.logits.argmax(dim=1) == outputs.need_labels()).numpy()
    return {name: _selective(scores, is_correct) for name, scores in inside.items()}


def _selective(scores: Scores | str, is_correct: Any) -> SelectiveEntry:
    if isinstance(scores, str):
        return SelectiveEntry(reason=scores)
    coverage, risk = risk_coverage(scores, is_correct)
    # The first point that covers at least so much.
    places = np.minimum(np.searchsorted(coverage, _COVERAGES - 1e-9), len(coverage) - 1)
    return SelectiveEntry(
        aurc=area_under_risk_coverage(scores, is_correct),
        coverage=coverage[places].tolist(),
        risk=risk[places].tolist(),
    )


def join_found(first: Found, second: Found) -> Found:
    """Return the scores of two sets as those of one; a reason for none in either is one for both.

    Detectors are those of the second.
    """

    def joined(name: str) -> Scores | str:
        parts = [first[name], second[name]]
        reasons = [part for part in parts if isinstance(part, str)]
        return reasons[0] if reasons else np.concatenate(parts)

    return {name: joined(name) for name in second}


def as_samples(prefix: str, indices: Any, found: Found) -> Samples:
    """Return the places and scores of images under ``prefix_index`` and ``prefix_DETECTOR``; nothing without scores."""
    scores = {f"{prefix}_{name}": each for name, each in found.items() if not isinstance(each, str)}
    return {f"{prefix}_index": np.asarray(indices), **scores} if scores else {}
