"""The whole protocol: fit detectors on in-distribution images, score OOD sets, say how well the two are separated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from robustprune.corruptions import HEADLINE, SEVERITIES
from robustprune.data import AnyData, ImageData, Sample, as_data
from robustprune.metrics import area_under_risk_coverage, detection_figures, detection_intervals, risk_coverage
from robustprune.metrics.detection import AUPR_ESTIMATOR, TRUE_POSITIVE_RATE
from robustprune.models import as_network, placed
from robustprune.ood.attack import attack_detectors, score_attack
from robustprune.ood.detection_sets import DetectionSets, find_sets
from robustprune.ood.detector_scores import FittedDetector, Scores, prepare_detectors, score_outputs
from robustprune.ood.extraction import PROBES, Extractor
from robustprune.ood.image_sets import FAR, IN_HAND, NEAR, OODSet, corrupt_evenly, group_of
from robustprune.ood.ood_result import (
    AttackedEntry,
    DetectorEntry,
    GroupMean,
    OodEntry,
    OodResult,
    OodSummary,
    Samples,
    SelectiveEntry,
)
from robustprune.ood.outputs import Outputs
from robustprune.ood.requests import OOD
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Progress, labelled

Found = Mapping[str, Scores | str]
"""Scores, or the reason why there are none, by detector."""

_COVERAGES = np.arange(1, 21) / 20
_AVERAGED = ("auroc", "aupr_in", "aupr_out", "fpr95_ood_positive", "fpr95_id_positive")


def evaluate_ood(
    model: nn.Module,
    data: AnyData,
    ood: OOD | str | Collection[str] | AnyData = (NEAR, FAR),
    *,
    images: Mapping[str, AnyData] | None = None,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    device: Device = None,
    progress: Progress | None = None,
) -> OodResult:
    """Measure how well detectors tell a network's own kind of images from out-of-distribution ones.

    The network runs once over each set, as a frozen copy, and is left as it was. Detectors are fitted on the
    training images as they are, temperatures on the validation images.

    Args:
        model: Maps float images in [0, 1] to logits (N, K); normalization is inside it.
        data: The image set it was trained on, or test images as for :func:`robustprune.as_data`.
        ood: What is asked for, or names of out-of-distribution sets alone; or one such set, in any of those forms, of
            any labels or none.
        images: Sets of your own, in any of those forms, by the names that ``ood`` calls them:
            ``evaluate_ood(model, data, OOD("mine", detectors="energy"), images={"mine": loader})``.
        split: Which images of ``data`` are the in-distribution ones.
        limit: Take so many of them, stratified, and at most so many of each other set.
        seed: Of every choice and draw.
        batch_size: Images per forward pass; changes no result.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        progress: Called with what is being done, how much is done, and how much there is.

    Raises:
        EvaluationError: Nothing to compare with, or settings that make no sense.
        DataError: A set that was named is missing or damaged; one of a group is left out and listed.
        UnknownNameError: There is no detector or set of a name.
        ModelError: The model does not run on such images.
    """
    data, images = as_data(data, "test"), dict(images or {})
    if _is_in_hand(ood):
        name = ood.name if isinstance(ood, ImageData) else IN_HAND
        ood, images = name, {**images, name: ood}
    asked = OOD.of(ood)
    found = find_sets(asked, data, images, split=split, limit=limit, seed=seed)
    return detect(
        placed(as_network(model), device), data, asked, found, seed=seed, batch_size=batch_size, progress=progress
    )


def detect(
    network: nn.Module,
    data: ImageData,
    asked: OOD,
    sets: DetectionSets,
    *,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> OodResult:
    """Measure how well detectors separate sets that are read already; all else is as in :func:`evaluate_ood`."""
    extractor = Extractor(network, sets.own.images[:PROBES], batch_size=batch_size, cache=asked.cache)
    fitted, account = prepare_detectors(
        sets.detectors, extractor, data, fit_limit=asked.fit_limit, tune_on=sets.tune_on, seed=seed, progress=progress
    )
    trial = _Trial(data.name, extractor, fitted, asked, seed, batch_size, progress)
    trial.look_at_own(sets.own)
    for each in sets.others:
        trial.look_at_others(each)
    protocol = {
        "in_distribution": {"dataset": data.name, "split": sets.split, "n": len(sets.own.labels)},
        **account,
        "augmented": False,
        "full_spectrum": {"corruptions": list(HEADLINE), "severities": list(SEVERITIES)}
        if asked.full_spectrum
        else None,
        "feature_layer": extractor.describe_head(),
        "aupr": AUPR_ESTIMATOR,
        "fpr95": f"at the first threshold with a true positive rate of at least {TRUE_POSITIVE_RATE}",
        "resamples": asked.resamples,
        "seed": seed,
    }
    summary = OodSummary(
        groups=group_means(trial.entries),
        missing=sets.missing,
        selective=trial.selective(),
        shifted=trial.shifted,
        protocol=protocol,
    )
    return OodResult(trial.entries, summary, trial.samples)


def _is_in_hand(ood: Any) -> bool:
    """Return whether it holds images, and does not name sets of them."""
    if isinstance(ood, Mapping):
        return not ood.keys() <= OOD.model_fields.keys()
    is_several = isinstance(ood, list | tuple | set | frozenset)
    return not (isinstance(ood, OOD | str) or (is_several and all(isinstance(each, str) for each in ood)))


def group_means(entries: Iterable[OodEntry]) -> list[GroupMean]:
    """Return the means over near and far sets, each set counting once (OpenOOD's convention)."""
    entries = list(entries)
    means = []
    for group in (NEAR, FAR):
        members = [entry for entry in entries if entry.group == group]
        for is_full in (False, True):
            tables = [entry.full_spectrum if is_full else entry.detectors for entry in members]
            if any(tables):
                figures = {name: _mean([table[name] for table in tables]) for name in tables[0]}
                datasets = [entry.dataset for entry in members]
                means.append(GroupMean(group=group, full_spectrum=is_full, datasets=datasets, detectors=figures))
    return means


def _mean(entries: list[DetectorEntry]) -> dict[str, float | None]:
    values = {figure: [getattr(entry, figure) for entry in entries] for figure in _AVERAGED}
    return {figure: None if None in found else float(np.mean(found)) for figure, found in values.items()}


@dataclass(eq=False)
class _Trial:
    """What detectors say of in-distribution images, and then of out-of-distribution ones.

    Attributes:
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
        self._found_in = self._score(self._inside)
        self._keep("ood_in", own.indices, self._found_in)
        self._found_full: Found = {}
        if self.asked.full_spectrum:
            corrupted = corrupt_evenly(images, own.indices, HEADLINE, SEVERITIES, self.seed)
            outputs = self.extractor.run(corrupted, progress=labelled(self.progress, f"{self.dataset}, corrupted"))
            found = self._score(outputs)
            self._keep("ood_shifted", own.indices, found)
            self.shifted = [name for name, scores in found.items() if not isinstance(scores, str)]
            self._found_full = {name: _joined(self._found_in[name], scores) for name, scores in found.items()}

    def look_at_others(self, others: OODSet) -> None:
        """Score an out-of-distribution set, and add the entry on it."""
        outputs = self.extractor.run(others.images, progress=labelled(self.progress, others.name))
        found = self._score(outputs)
        compared = self._compare(self._found_in, found)
        scored = {name: found[name] for name, entry in compared.items() if entry.auroc is not None}
        self._keep(f"ood{len(self.entries)}", others.indices, scored)
        self.entries.append(
            OodEntry(
                dataset=others.name,
                group=group_of(self.dataset, others.name),
                n_in=len(self._inside),
                n_out=len(outputs),
                conversions=others.conversions,
                detectors=compared,
                full_spectrum=self._compare(self._found_full, found) if self._found_full else {},
                attacks=[self._attack(epsilon, outputs) for epsilon in self.asked.attack_epsilons],
            )
        )

    def selective(self) -> dict[str, SelectiveEntry]:
        """Return how the error falls when the images that a detector scores highest are left unanswered."""
        is_correct = (self._inside.logits.argmax(dim=1) == self._inside.need_labels()).numpy()
        return {name: _selective(scores, is_correct) for name, scores in self._found_in.items()}

    def _score(self, outputs: Outputs) -> Found:
        return {name: score_outputs(each, outputs) for name, each in self.fitted.items()}

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

    def _attack(self, epsilon: float, outside: Outputs) -> AttackedEntry:
        asked = self.asked
        attack = score_attack(epsilon=epsilon, steps=asked.attack_steps, seed=self.seed, batch_size=self.batch_size)
        few_inside, few_outside = (each.evenly(asked.attack_limit) for each in (self._inside, outside))
        return attack_detectors(self.extractor, self.fitted, few_inside, few_outside, attack, self.progress)


def compare_scores(
    inside: Scores | str, outside: Scores | str, *, resamples: int, seed: int = 0, remark: str | None = None
) -> DetectorEntry:
    """Return how well a detector separates two sets, given its scores of both or the reason why there are none.

    Intervals are of so many resamples, 0 for none; ``remark`` is what is odd about the detector itself.
    """
    if isinstance(inside, str) or isinstance(outside, str):
        reasons = dict.fromkeys(each for each in (inside, outside) if isinstance(each, str))
        return DetectorEntry(reason="; ".join(reasons))
    is_constant = min(inside.min(), outside.min()) == max(inside.max(), outside.max())
    odd = [remark, "all scores are equal, so nothing is detected" if is_constant else None]
    return DetectorEntry(
        **vars(detection_figures(inside, outside)),
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
