"""The whole protocol: fit detectors on a network's own images, score other sets, say how well they are told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from robustprune.corruptions import HEADLINE, SEVERITIES
from robustprune.data import ImageData, canonical_name, take_sample
from robustprune.errors import EvaluationError
from robustprune.metrics.detection import AUPR_ESTIMATOR, TRUE_POSITIVE_RATE
from robustprune.ood.detection_trial import DetectionTrial
from robustprune.ood.detector import DETECTORS, make_detector
from robustprune.ood.detector_scores import TUNING_IMAGES, prepare_detectors
from robustprune.ood.extraction import Extractor
from robustprune.ood.image_sets import FAR, NEAR, expand_sets, is_corrupted, load_set, load_sets
from robustprune.ood.ood_result import DetectorEntry, GroupMean, OodEntry, OodResult, OodSummary
from robustprune.ood.requests import OOD
from robustprune.runtime.work import Progress

_AVERAGED = ("auroc", "aupr_in", "aupr_out", "fpr95_ood_positive", "fpr95_id_positive")


def evaluate_ood(
    model: nn.Module,
    data: ImageData,
    ood: OOD | str | Iterable[str] | Mapping[str, Sequence[str]] = (NEAR, FAR),
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> OodResult:
    """Measure how well detectors tell a network's own kind of images from out-of-distribution ones.

    The network runs once over each set, as a frozen copy, and is left as it was. Detectors are fitted on the
    training images as they are, temperatures on the validation images.

    Args:
        model: Maps float images in [0, 1] to logits (N, K); normalization is inside it.
        data: The image set it was trained on.
        ood: What is asked for, or names of out-of-distribution sets alone.
        split: Which images of ``data`` are the in-distribution ones.
        limit: Take so many of them, stratified, and at most so many of each other set.
        seed: Of every choice and draw.
        batch_size: Images per forward pass; changes no result.
        progress: Called with what is being done, how much is done, and how much there is.

    Raises:
        EvaluationError: Nothing to compare with, or settings that make no sense.
        DataError: A set that was named is missing or damaged; one of a group is left out and listed.
        UnknownNameError: There is no detector or set of a name.
        ModelError: The model does not run on such images.
    """
    asked = OOD.of(ood)
    chosen = plan_detection(asked, data.name)
    load: dict[str, Any] = {"data": data, "split": split, "seed": seed, "root": asked.root, "download": asked.download}
    named = asked.sets if isinstance(asked.sets, tuple) else tuple(asked.sets)
    sets, missing = load_sets(chosen, named, limit=limit, **load)
    # Corrupted images to tune on are of validation images: those of `split` judge.
    tune_on = asked.tune_on and load_set(asked.tune_on, limit=TUNING_IMAGES, **{**load, "split": "val"})

    own = take_sample(data, split, limit, seed)
    extractor = Extractor(model, own.images[:8], batch_size=batch_size, cache=asked.cache)
    names = list(dict.fromkeys(name for detectors in chosen.values() for name in detectors))
    fitted, account = prepare_detectors(
        names, extractor, data, fit_limit=asked.fit_limit, tune_on=tune_on or None, seed=seed, progress=progress
    )
    trial = DetectionTrial(data.name, extractor, fitted, asked, seed, batch_size, progress)
    trial.look_at_own(own)
    for each in sets:
        trial.look_at_others(each, chosen[each.name])
    protocol = {
        "in_distribution": {"dataset": data.name, "split": split, "n": len(own.labels)},
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
        missing=missing,
        selective=trial.selective(),
        shifted=trial.shifted,
        protocol=protocol,
    )
    return OodResult(trial.entries, summary, trial.samples)


def plan_detection(asked: OOD, dataset: str) -> dict[str, list[str]]:
    """Return the detectors of each out-of-distribution set, once all that can be checked without images is.

    Raises:
        EvaluationError: Nothing to compare with, or settings that make no sense.
        UnknownNameError: There is no detector of a name.
    """
    chosen = expand_sets(dataset, asked.sets, asked.detectors or DETECTORS.names())
    for name in {name: None for detectors in chosen.values() for name in detectors}:
        make_detector(name)  # what is misspelt is found before anything is computed
    if asked.tune_on is not None and any(_is_same_kind(asked.tune_on, name) for name in chosen):
        raise EvaluationError(f"{asked.tune_on} cannot both choose options and judge them; tune on another set")
    return chosen


def group_means(entries: Iterable[OodEntry]) -> list[GroupMean]:
    """Return the means over near and far sets, each set counting once (OpenOOD's convention)."""
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
    values = {figure: [getattr(entry, figure) for entry in entries] for figure in _AVERAGED}
    return {figure: None if None in found else float(np.mean(found)) for figure, found in values.items()}


def _is_same_kind(one: str, other: str) -> bool:
    return (is_corrupted(one) and is_corrupted(other)) or canonical_name(one) == canonical_name(other)
