"""A network with its detectors ready, tried on one out-of-distribution set after the other: from scores to figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from robustprune.corruptions import HEADLINE, SEVERITIES
from robustprune.metrics import area_under_risk_coverage, detection_figures, detection_intervals, risk_coverage
from robustprune.ood.attack import attack_detectors, score_attack
from robustprune.ood.detector_scores import FittedDetector, Scores, score_outputs
from robustprune.ood.extraction import Extractor
from robustprune.ood.image_sets import OODSet, corrupt_evenly, group_of
from robustprune.ood.ood_result import AttackedEntry, DetectorEntry, OodEntry, Samples, SelectiveEntry
from robustprune.ood.outputs import Outputs
from robustprune.ood.requests import OOD
from robustprune.runtime.work import Progress, labelled

Found = Mapping[str, Scores | str]
"""Scores, or the reason why there are none, by detector."""

_COVERAGES = np.arange(1, 21) / 20


@dataclass(eq=False)
class DetectionTrial:
    """What detectors say of a network's own images, and then of out-of-distribution ones.

    Attributes:
        dataset: Name of the in-distribution set.
        extractor: Of the network.
        fitted: Its detectors.
        asked: Resamples, corrupted images, and how detectors are attacked.
        seed: Of resamples, corruptions and attacks.
        batch_size: Of attacks.
        progress: Called as work proceeds.
        entries: One per out-of-distribution set so far.
        samples: Scores per image so far, see `OodResult`.
        shifted: Detectors with scores for corrupted images.
    """

    dataset: str
    extractor: Extractor
    fitted: dict[str, FittedDetector]
    asked: OOD
    seed: int
    batch_size: int
    progress: Progress | None
    entries: list[OodEntry] = field(default_factory=list)
    samples: Samples = field(default_factory=dict)
    shifted: list[str] = field(default_factory=list)

    def look_at_own(self, images: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Score the in-distribution images (N, C, H, W), and as many corrupted ones where these count, too."""
        self._inside = self.extractor.run(images, labels, progress=labelled(self.progress, self.dataset))
        self._found_in: Found = self._score(self._inside, self.fitted)
        self._found_full: Found = {}
        self.samples |= as_samples("ood_in", indices, self._found_in)
        if self.asked.full_spectrum:
            corrupted = corrupt_evenly(images, indices, HEADLINE, SEVERITIES, self.seed)
            outputs = self.extractor.run(corrupted, progress=labelled(self.progress, f"{self.dataset}, corrupted"))
            found = self._score(outputs, self.fitted)
            self.samples |= as_samples("ood_shifted", indices, found)
            self.shifted = [name for name, scores in found.items() if not isinstance(scores, str)]
            self._found_full = join_found(self._found_in, found)

    def look_at_others(self, others: OODSet, names: Iterable[str]) -> None:
        """Score an out-of-distribution set by some of the detectors, and add the entry on it."""
        outputs = self.extractor.run(others.images, progress=labelled(self.progress, others.name))
        found = self._score(outputs, names)
        remarks = {name: self.fitted[name].detector.remark for name in found}
        compared = compare_sets(self._found_in, found, self.asked.resamples, self.seed, remarks)
        told_apart = {name: found[name] for name, entry in compared.items() if entry.auroc is not None}
        self.samples |= as_samples(f"ood{len(self.entries)}", others.indices, told_apart)
        in_full = {}
        if self._found_full:
            in_full = compare_sets(self._found_full, found, self.asked.resamples, self.seed, remarks)
        self.entries.append(
            OodEntry(
                dataset=others.name,
                group=group_of(self.dataset, others.name),
                n_in=len(self._inside),
                n_out=len(outputs),
                conversions=others.conversions,
                detectors=compared,
                full_spectrum=in_full,
                attacks=self._attack(outputs, found),
            )
        )

    def selective(self) -> dict[str, SelectiveEntry]:
        """Return selective prediction on the in-distribution images, by detector."""
        return selective_prediction(self._found_in, self._inside)

    def _score(self, outputs: Outputs, names: Iterable[str]) -> dict[str, Scores | str]:
        return {name: score_outputs(self.fitted[name], outputs) for name in names}

    def _attack(self, outside: Outputs, names: Iterable[str]) -> list[AttackedEntry]:
        limit = self.asked.attack_limit
        few_inside, few_outside = self._inside.evenly(limit), outside.evenly(limit)
        fitted = {name: self.fitted[name] for name in names}
        how = {"steps": self.asked.attack_steps, "seed": self.seed, "batch_size": self.batch_size}
        return [
            attack_detectors(
                self.extractor, fitted, few_inside, few_outside, score_attack(epsilon=epsilon, **how), self.progress
            )
            for epsilon in self.asked.attack_epsilons
        ]


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
