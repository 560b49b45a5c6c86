"""Choosing the options of detectors on validation images and a foreign set that is used for nothing else.

As OpenOOD's automatic parameter search does, over its values: those that best tell up to 1,000 validation images from
up to 1,000 of the foreign set are taken. Test images, of either kind, decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Any

from robustprune.metrics import detection_figures
from robustprune.ood.detector import Detector, make_detector
from robustprune.ood.outputs import Outputs
from robustprune.ood.scoring import FittedDetector, fit_detector, score_outputs

IMAGES = 1000

Chosen = dict[str, dict[str, Any]]
"""Options, and the AUROC they won with, by detector."""


def tune_detectors(
    names: Iterable[str], train: Outputs, held_out: Outputs, foreign: Outputs
) -> tuple[dict[str, FittedDetector], Chosen]:
    """Return fitted detectors with the options that do best, and what those are.

    One that is named with options keeps them. Of equals the defaults win, then the earlier values.

    Args:
        names: As `make_detector` takes them.
        train: Outputs of training images, with labels.
        held_out: Outputs of validation images, likewise.
        foreign: Outputs of images of the set to tune on.
    """
    train, held_out = train.double(), held_out.double()
    inside, outside = held_out.evenly(IMAGES), foreign.double().evenly(IMAGES)
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
