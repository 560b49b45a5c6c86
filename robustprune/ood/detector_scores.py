"""Fitting and tuning detectors, and scoring sets; with a reason wherever a network gives one nothing to work with.

Options are tuned as OpenOOD's automatic parameter search does, over its values: those that best tell up to 1,000
validation images from up to 1,000 of a set that is used for nothing else are taken. Test images decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from robustprune.data import ImageData, take_sample
from robustprune.errors import DetectorError, EvaluationError
from robustprune.metrics import detection_figures
from robustprune.ood.detector import Detector, make_detector
from robustprune.ood.extraction import Extractor
from robustprune.ood.image_sets import OODSet
from robustprune.ood.outputs import Outputs
from robustprune.ood.running import guarded_detector, scores_of
from robustprune.runtime.progress import counted
from robustprune.runtime.work import Progress, labelled

Scores = np.ndarray[Any, np.dtype[np.float64]]

TUNING_IMAGES = 1000


@dataclass(frozen=True, eq=False)
class FittedDetector:
    """A detector ready to score, or the reason why it is not."""

    name: str
    detector: Detector
    reason: str | None = None


def fit_detectors(
    names: Iterable[str], train: Outputs | None, held_out: Outputs | None, progress: Progress | None = None
) -> dict[str, FittedDetector]:
    """Return detectors by name, as `make_detector` takes it, each fitted or with a reason why it cannot be.

    Outputs are of training images, not augmented, and of validation images, with labels; None where there are none.

    Raises:
        UnknownNameError: There is no detector of a name.
        EvaluationError: It does not take the options given, or a plug-in failed.
    """
    detectors = {name: make_detector(name) for name in names}
    train = None if train is None else train.double()
    held_out = None if held_out is None else held_out.double()
    told = counted(detectors.items(), progress, "fitting detectors")
    return {name: _fit(name, each, train, held_out) for name, each in told}


def _fit(name: str, detector: Detector, train: Outputs | None, held_out: Outputs | None) -> FittedDetector:
    if not detector.needs_fitting:
        return FittedDetector(name, detector)
    if train is None or len(train) == 0:
        return FittedDetector(name, detector, "the data set has no training images to fit on")
    try:
        with guarded_detector(name):
            detector.fit(train, held_out)
    except DetectorError as error:
        return FittedDetector(name, detector, str(error))
    return FittedDetector(name, detector)


def score_outputs(fitted: FittedDetector, outputs: Outputs) -> Scores | str:
    """Return scores (N,) float64, all finite, or the reason why there are none.

    Raises:
        EvaluationError: A plug-in failed.
    """
    if fitted.reason is not None:
        return fitted.reason
    try:
        return scores_of(fitted.detector, outputs, fitted.name).numpy()
    except DetectorError as error:
        return str(error)


def prepare_detectors(
    names: Sequence[str],
    extractor: Extractor,
    data: ImageData,
    *,
    fit_limit: int | None,
    tune_on: OODSet | None,
    seed: int,
    progress: Progress | None,
) -> tuple[dict[str, FittedDetector], dict[str, Any]]:
    """Return detectors fitted on training and tuned on validation images, and a JSON-able account of both.

    Training images of ``data`` are taken as they are, not augmented: at most ``fit_limit``, stratified by the seed.
    Options are tuned where there is a set to tune them on.

    Raises:
        EvaluationError: Tuning needs training and validation images.
    """
    reference: dict[str, Outputs] = {}
    if tune_on is not None or any(make_detector(name).needs_fitting for name in names):
        for name in [each for each in data.splits() if each != "test"]:
            is_limited = name == "train" and fit_limit is not None and fit_limit < len(data.require(name))
            sample = take_sample(data, name, fit_limit if is_limited else None, seed)
            told = labelled(progress, f"{name} images of {data.name}")
            reference[name] = extractor.run(sample.images.cpu(), sample.labels, progress=told)
    account: dict[str, Any] = {
        "fitted_on": {name: len(outputs) for name, outputs in reference.items()},
        "tuned_on": None,
    }
    if tune_on is None:
        return fit_detectors(names, reference.get("train"), reference.get("val"), progress), account
    if len(reference) < 2:
        raise EvaluationError(f"tuning needs training and validation images, {data.name!r} has {', '.join(reference)}")
    outside = extractor.run(tune_on.images, progress=labelled(progress, tune_on.name))
    fitted, chosen = tune_detectors(names, reference["train"], reference["val"], outside, progress)
    account["tuned_on"] = {"dataset": tune_on.name, "conversions": tune_on.conversions, "chosen": chosen}
    return fitted, account


def tune_detectors(
    names: Sequence[str], train: Outputs, held_out: Outputs, others: Outputs, progress: Progress | None = None
) -> tuple[dict[str, FittedDetector], dict[str, dict[str, Any]]]:
    """Return fitted detectors with the options that do best; and what those are, with the AUROC they won with.

    One that is named with options keeps them. Of equals the defaults win, then the earlier values.

    Outputs are those of training and validation images, with labels, and of the set to tune on.
    """
    train, held_out = train.double(), held_out.double()
    inside, outside = held_out.evenly(TUNING_IMAGES), others.double().evenly(TUNING_IMAGES)
    fitted: dict[str, FittedDetector] = {}
    chosen: dict[str, dict[str, Any]] = {}
    for name in counted(names, progress, "tuning detectors"):
        default = make_detector(name)
        tried = [{option: getattr(default, option) for option in default.tried}]
        trials = [_fit(name, default, train, held_out)]
        best = 0
        if default.tried and ":" not in name:
            for values in product(*default.tried.values()):
                tried.append(dict(zip(default.tried, values, strict=True)))
                trials.append(_fit(name, replace(default, **tried[-1]), train, held_out))
            aurocs = [_auroc(trial, inside, outside) for trial in trials]
            best = aurocs.index(max(aurocs))
            chosen[name] = {**tried[best], "auroc": aurocs[best] if aurocs[best] >= 0 else None}
        fitted[name] = trials[best]
    return fitted, chosen


def _auroc(fitted: FittedDetector, inside: Outputs, outside: Outputs) -> float:
    """Return the AUROC, or −1 where there are no scores."""
    scores_in, scores_out = score_outputs(fitted, inside), score_outputs(fitted, outside)
    if isinstance(scores_in, str) or isinstance(scores_out, str):
        return -1.0
    return detection_figures(scores_in, scores_out).auroc
