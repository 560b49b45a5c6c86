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
import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from robustprune.data import ImageData, stratified_indices
from robustprune.errors import DetectorError, EvaluationError, RobustPruneError
from robustprune.metrics import detection_figures
from robustprune.ood.detector import Detector, make_detector
from robustprune.ood.extraction import Extractor
from robustprune.ood.image_sets import OODSet
from robustprune.ood.outputs import Outputs
from robustprune.runtime.work import Progress, labelled

Scores = np.ndarray[Any, np.dtype[np.float64]]

# Images scored at a time: a detector may hold some copies of their features in float64.
_CHUNK = 4096

TUNING_IMAGES = 1000

Chosen = dict[str, dict[str, Any]]
"""Options, and the AUROC they won with, by detector."""


@dataclass(frozen=True, eq=False)
class FittedDetector:
    """A detector ready to score, or the reason why it is not."""

    name: str
    detector: Detector
    reason: str | None = None


def fit_detectors(names: Iterable[str], train: Outputs | None, held_out: Outputs | None) -> dict[str, FittedDetector]:
    """Return detectors by name, each fitted or with a reason why it cannot be.

    Args:
        names: As `make_detector` takes them.
        train: Outputs of training images, not augmented, with labels; None if there are none.
        held_out: Outputs of validation images likewise.

    Raises:
        UnknownNameError: There is no detector of a name.
        EvaluationError: It does not take the options given, or a plug-in failed.
    """
    detectors = {name: make_detector(name) for name in names}
    train = None if train is None else train.double()
    held_out = None if held_out is None else held_out.double()
    return {name: fit_detector(name, each, train, held_out) for name, each in detectors.items()}


def fit_detector(name: str, detector: Detector, train: Outputs | None, held_out: Outputs | None) -> FittedDetector:
    """Return one detector, fitted or with a reason why it cannot be; outputs are in float64."""
    return FittedDetector(name, detector, _fit(name, detector, train, held_out))


def needs_fitting(detector: Detector) -> bool:
    """Return whether a detector learns anything from training images."""
    return type(detector).fit is not Detector.fit


def score_outputs(fitted: FittedDetector, outputs: Outputs) -> Scores | str:
    """Return scores (N,) float64, all finite, or the reason why there are none.

    Raises:
        EvaluationError: A plug-in failed.
    """
    if fitted.reason is not None:
        return fitted.reason
    if len(outputs) == 0:
        return "there are no images to score"
    parts: list[Scores] = []
    with torch.no_grad():
        for chunk in outputs.chunks(_CHUNK):
            try:
                found = fitted.detector(chunk.double())
            except (DetectorError, LinAlgError) as error:
                return str(error)
            except RobustPruneError:
                raise
            except Exception as error:
                raise _failure(fitted.name, error) from error
            parts.append(_as_array(fitted.name, found, len(chunk)))
    scores = np.concatenate(parts)
    bad = int((~np.isfinite(scores)).sum())
    return _why_not_finite(bad, outputs) if bad else scores


def _fit(name: str, detector: Detector, train: Outputs | None, held_out: Outputs | None) -> str | None:
    if not needs_fitting(detector):
        return None
    if train is None or len(train) == 0:
        return "the data set has no training images to fit on"
    if held_out is None:
        # Only a detector that looks at them can tell that they are missing.
        held_out = Outputs(train.logits[:0], labels=train.need_labels()[:0])
    try:
        with torch.no_grad():
            detector.fit(train, held_out)
    except (DetectorError, LinAlgError) as error:
        return str(error)
    except RobustPruneError:
        raise
    except Exception as error:
        raise _failure(name, error) from error
    return None


def _as_array(name: str, scores: Any, n: int) -> Scores:
    if not isinstance(scores, torch.Tensor) or scores.shape != (n,):
        found = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise EvaluationError(f"detector {name!r} must return a tensor of shape ({n},), it returned {found}")
    return np.asarray(scores.double().cpu().numpy())


def _why_not_finite(bad: int, outputs: Outputs) -> str:
    causes = [
        f"{what} of {count} are"
        for what, tensor in (("logits", outputs.logits), ("features", outputs.features))
        if tensor is not None and (count := int((~tensor.isfinite()).any(dim=1).sum()))
    ]
    explanation = f"; the {' and the '.join(causes)} so themselves" if causes else ""
    return f"the scores of {bad} of {len(outputs)} images are NaN or infinite{explanation}"


def _failure(name: str, error: Exception) -> EvaluationError:
    return EvaluationError(
        f"detector {name!r} failed: {type(error).__name__}: {error}; leave it out, or mend it if it is yours"
    )


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

    Args:
        names: As `make_detector` takes them.
        extractor: Of the network.
        data: The image set it was trained on; its images are taken as they are, not augmented.
        fit_limit: Fit on so many training images, stratified; None for all.
        tune_on: Out-of-distribution images to tune options on; None keeps the defaults.
        seed: Of the choice of training images.
        progress: Called as work proceeds.

    Raises:
        EvaluationError: Tuning needs training and validation images.
    """
    reference = {}
    if tune_on is not None or any(needs_fitting(make_detector(name)) for name in names):
        reference = _reference(extractor, data, fit_limit, seed, progress)
    account: dict[str, Any] = {
        "fitted_on": {name: len(outputs) for name, outputs in reference.items()},
        "tuned_on": None,
    }
    if tune_on is None:
        return fit_detectors(names, reference.get("train"), reference.get("val")), account
    if len(reference) < 2:
        raise EvaluationError(f"tuning needs training and validation images, {data.name!r} has {', '.join(reference)}")
    outside = extractor.run(tune_on.images, progress=labelled(progress, tune_on.name))
    fitted, chosen = tune_detectors(names, reference["train"], reference["val"], outside)
    account["tuned_on"] = {"dataset": tune_on.name, "conversions": tune_on.conversions, "chosen": chosen}
    return fitted, account


def _reference(
    extractor: Extractor, data: ImageData, limit: int | None, seed: int, progress: Progress | None
) -> dict[str, Outputs]:
    """Return the outputs of the training and validation images, as far as the set has any."""
    found = {}
    for name in ("train", "val"):
        part = data.splits().get(name)
        if part is not None:
            is_limited = name == "train" and limit is not None and limit < len(part)
            indices = stratified_indices(part.labels, limit or 0, seed) if is_limited else torch.arange(len(part))
            told = labelled(progress, f"{name} images of {data.name}")
            found[name] = extractor.run(part.take(indices).cpu(), part.labels[indices].cpu(), progress=told)
    return found


def tune_detectors(
    names: Iterable[str], train: Outputs, held_out: Outputs, others: Outputs
) -> tuple[dict[str, FittedDetector], Chosen]:
    """Return fitted detectors with the options that do best, and what those are.

    One that is named with options keeps them. Of equals the defaults win, then the earlier values.

    Args:
        names: As `make_detector` takes them.
        train: Outputs of training images, with labels.
        held_out: Outputs of validation images, likewise.
        others: Outputs of images of the set to tune on.
    """
    train, held_out = train.double(), held_out.double()
    inside, outside = held_out.evenly(TUNING_IMAGES), others.double().evenly(TUNING_IMAGES)
    fitted: dict[str, FittedDetector] = {}
    chosen: Chosen = {}
    for name in names:
        trials = [fit_detector(name, each, train, held_out) for each in _candidates(name)]
        if len(trials) == 1:
            fitted[name] = trials[0]
            continue
        aurocs = [_auroc(trial, inside, outside) for trial in trials]
        fitted[name] = trials[aurocs.index(max(aurocs))]
        options = {option: getattr(fitted[name].detector, option) for option in fitted[name].detector.tried}
        chosen[name] = {**options, "auroc": max(aurocs) if max(aurocs) >= 0 else None}
    return fitted, chosen


def _candidates(name: str) -> list[Detector]:
    default = make_detector(name)
    if ":" in name or not default.tried:
        return [default]
    trials = (dict(zip(default.tried, values, strict=True)) for values in product(*default.tried.values()))
    return [default, *(replace(default, **options) for options in trials)]  # type: ignore[type-var]


def _auroc(fitted: FittedDetector, inside: Outputs, outside: Outputs) -> float:
    """Return the AUROC, or −1 where there are no scores."""
    scores_in, scores_out = score_outputs(fitted, inside), score_outputs(fitted, outside)
    if isinstance(scores_in, str) or isinstance(scores_out, str):
        return -1.0
    return detection_figures(scores_in, scores_out).auroc
