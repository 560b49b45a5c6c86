"""A network with its detectors ready, tried on one out-of-distribution set after the other: from scores to figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robustprune.corruptions import HEADLINE, SEVERITIES
from robustprune.data import Sample
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

    def look_at_own(self, own: Sample) -> None:
        """Score the in-distribution images, and as many corrupted ones where these count, too."""
        images = own.images.cpu()
        self._inside = self.extractor.run(images, own.labels, progress=labelled(self.progress, self.dataset))
        self._found_in = self._score(self._inside, self.fitted)
        self._keep("ood_in", own.indices, self._found_in)
        self._found_full: Found = {}
        if self.asked.full_spectrum:
            corrupted = corrupt_evenly(images, own.indices, HEADLINE, SEVERITIES, self.seed)
            outputs = self.extractor.run(corrupted, progress=labelled(self.progress, f"{self.dataset}, corrupted"))
            found = self._score(outputs, self.fitted)
            self._keep("ood_shifted", own.indices, found)
            self.shifted = [name for name, scores in found.items() if not isinstance(scores, str)]
            self._found_full = {name: _joined(self._found_in[name], scores) for name, scores in found.items()}

    def look_at_others(self, others: OODSet, names: Iterable[str]) -> None:
        """Score an out-of-distribution set by some of the detectors, and add the entry on it."""
        outputs = self.extractor.run(others.images, progress=labelled(self.progress, others.name))
        found = self._score(outputs, names)
        compared = self._compare(self._found_in, found)
        told_apart = {name: found[name] for name, entry in compared.items() if entry.auroc is not None}
        self._keep(f"ood{len(self.entries)}", others.indices, told_apart)
        self.entries.append(
            OodEntry(
                dataset=others.name,
                group=group_of(self.dataset, others.name),
                n_in=len(self._inside),
                n_out=len(outputs),
                conversions=others.conversions,
                detectors=compared,
                full_spectrum=self._compare(self._found_full, found) if self._found_full else {},
                attacks=[self._attack(epsilon, outputs, found) for epsilon in self.asked.attack_epsilons],
            )
        )

    def selective(self) -> dict[str, SelectiveEntry]:
        """Return how the error falls when the images that a detector scores highest are left unanswered."""
        is_correct = (self._inside.logits.argmax(dim=1) == self._inside.need_labels()).numpy()
        return {name: _selective(scores, is_correct) for name, scores in self._found_in.items()}

    def _score(self, outputs: Outputs, names: Iterable[str]) -> Found:
        return {name: score_outputs(self.fitted[name], outputs) for name in names}

    def _keep(self, kind: str, indices: Any, found: Found) -> None:
        scores = {f"{kind}_{name}": each for name, each in found.items() if not isinstance(each, str)}
        if scores:
            self.samples |= {f"{kind}_index": np.asarray(indices), **scores}

    def _compare(self, inside: Found, outside: Found) -> dict[str, DetectorEntry]:
        how = {"resamples": self.asked.resamples, "seed": self.seed}
        return {
            name: compare_scores(inside[name], scores, **how, remark=self.fitted[name].detector.remark)
            for name, scores in outside.items()
        }

    def _attack(self, epsilon: float, outside: Outputs, names: Iterable[str]) -> AttackedEntry:
        asked, fitted = self.asked, {name: self.fitted[name] for name in names}
        attack = score_attack(epsilon=epsilon, steps=asked.attack_steps, seed=self.seed, batch_size=self.batch_size)
        few_inside, few_outside = (each.evenly(asked.attack_limit) for each in (self._inside, outside))
        return attack_detectors(self.extractor, fitted, few_inside, few_outside, attack, self.progress)


def compare_scores(
    inside: Scores | str, outside: Scores | str, *, resamples: int, seed: int = 0, remark: str | None = None
) -> DetectorEntry:
    """Return how well a detector tells two sets apart, given its scores of both or the reason why there are none.

    Args:
        inside: Of in-distribution images.
        outside: Of the others.
        resamples: For intervals; 0 for none.
        seed: Of the resamples.
        remark: What is odd about the detector itself.
    """
    if isinstance(inside, str) or isinstance(outside, str):
        reasons = dict.fromkeys(each for each in (inside, outside) if isinstance(each, str))
        return DetectorEntry(reason="; ".join(reasons))
    is_constant = min(inside.min(), outside.min()) == max(inside.max(), outside.max())
    odd = [remark, "all scores are equal, so nothing is told apart" if is_constant else None]
    return DetectorEntry(
        **detection_figures(inside, outside).to_dict(),
        intervals=detection_intervals(inside, outside, resamples=resamples, seed=seed) if resamples else {},
        reason="; ".join(filter(None, odd)) or None,
    )


def _joined(first: Scores | str, second: Scores | str) -> Scores | str:
    if isinstance(first, str):
        return first
    return second if isinstance(second, str) else np.concatenate([first, second])


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
