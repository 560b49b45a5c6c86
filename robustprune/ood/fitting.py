"""Getting detectors ready: which images they are fitted and tuned on, and what a record says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from robustprune.data import ImageData, stratified_indices
from robustprune.errors import EvaluationError
from robustprune.ood.detector import make_detector
from robustprune.ood.extraction import Extractor
from robustprune.ood.foreign import ForeignSet
from robustprune.ood.outputs import Outputs
from robustprune.ood.scoring import FittedDetector, fit_detectors, needs_fitting
from robustprune.ood.tuning import tune_detectors
from robustprune.runtime.work import Progress, labelled


def prepare_detectors(
    names: Sequence[str],
    extractor: Extractor,
    data: ImageData,
    *,
    fit_limit: int | None,
    tune_on: ForeignSet | None,
    seed: int,
    progress: Progress | None,
) -> tuple[dict[str, FittedDetector], dict[str, Any]]:
    """Return detectors fitted on training and tuned on validation images, and a JSON-able account of both.

    Args:
        names: As `make_detector` takes them.
        extractor: Of the network.
        data: The image set it was trained on; its images are taken as they are, not augmented.
        fit_limit: Fit on so many training images, stratified; None for all.
        tune_on: Foreign images to tune options on; None keeps the defaults.
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
    foreign = extractor.run(tune_on.images, progress=labelled(progress, tune_on.name))
    fitted, chosen = tune_detectors(names, reference["train"], reference["val"], foreign)
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
