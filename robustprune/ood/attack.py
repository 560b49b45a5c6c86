"""Attacks on the score of a detector: out-of-distribution images that hide, in-distribution ones that alarm.

The attack engine sees a classifier of two classes, "as it should be" and "over the threshold", whose margin is the
score; so it brings everything it does for classifiers: the ε-ball, the box, the seeds, and the checks that tell
robustness from a gradient that is not there. The threshold lies beyond the scores of all samples, so that none is
misclassified from the start and each is driven as far as it goes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from robustprune.attacks import Attack, AttackResult, run_attack
from robustprune.errors import AttackError, DetectorError
from robustprune.metrics import detection_figures
from robustprune.ood.detector import Detector
from robustprune.ood.detector_scores import FittedDetector, Scores, score_outputs
from robustprune.ood.extraction import Extractor
from robustprune.ood.ood_result import AttackedDetector, AttackedEntry
from robustprune.ood.outputs import Outputs
from robustprune.runtime.work import Progress

RAISE, LOWER = 1.0, -1.0


class ScoreAsClassifier(nn.Module):
    """A network behind a detector, as logits (n, 2) whose difference is the score past a threshold."""

    def __init__(self, extractor: Extractor, detector: Detector, direction: float, threshold: float, scale: float):
        """Take the network in, so that whoever guards this module guards it."""
        super().__init__()
        self.network = extractor.network
        self._extractor, self._detector = extractor, detector
        self._direction, self._threshold, self._scale = direction, threshold, scale

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, 2) of images (n, …)."""
        scores = self._detector(self._extractor.attached(images).double())
        past = self._direction * (scores - self._threshold) / self._scale
        return torch.stack([torch.zeros_like(past), past], dim=1).float().to(images.device)


def attack_detectors(
    extractor: Extractor,
    fitted: Mapping[str, FittedDetector],
    inside: Outputs,
    outside: Outputs,
    attack: Attack,
    progress: Progress | None = None,
) -> AttackedEntry:
    """Return how well detectors separate two small sets when either, or both, are attacked.

    In-distribution images are made to score high, out-of-distribution ones to score low, by a `score_attack`.
    """
    found: dict[str, AttackedDetector] = {}
    for name, each in fitted.items():
        try:
            found[name] = _attack(extractor, each, inside, outside, attack)
        except (AttackError, DetectorError, LinAlgError) as error:
            found[name] = AttackedDetector(reason=str(error))
        if progress is not None:
            progress(f"attack on detectors, ε={attack.epsilon:.4g}", len(found), len(fitted))
    return AttackedEntry(
        epsilon=attack.epsilon,
        steps=attack.options["steps"],
        n_in=len(inside),
        n_out=len(outside),
        detectors=found,
    )


def score_attack(*, epsilon: float, steps: int, seed: int = 0, batch_size: int = 256) -> Attack:
    """Return the attack that moves scores. Past the threshold it goes on: the score itself is what counts."""
    return Attack(
        "pgd", epsilon=epsilon, steps=steps, loss="margin", seed=seed, batch_size=batch_size, early_stop=False
    )


def _attack(
    extractor: Extractor, fitted: FittedDetector, inside: Outputs, outside: Outputs, attack: Attack
) -> AttackedDetector:
    clean_in, clean_out = _scores(fitted, inside), _scores(fitted, outside)
    raised = drive(extractor, fitted.detector, inside, clean_in, RAISE, attack)
    lowered = drive(extractor, fitted.detector, outside, clean_out, LOWER, attack)
    attacked_in, attacked_out = (
        _scores(fitted, extractor.run(result.adversarial, keep=False), "after the attack, ")
        for result in (raised, lowered)
    )
    return AttackedDetector(
        auroc_clean=detection_figures(clean_in, clean_out).auroc,
        auroc_in_attacked=detection_figures(attacked_in, clean_out).auroc,
        auroc_out_attacked=detection_figures(clean_in, attacked_out).auroc,
        auroc_both_attacked=detection_figures(attacked_in, attacked_out).auroc,
        valid=raised.valid and lowered.valid,
        checks=[
            {"name": f"{check.name} ({which})", "verdict": check.verdict, "detail": check.detail}
            for which, result in (("in", raised), ("out", lowered))
            for check in result.checks
            if check.name != "sample size"  # which is about accuracy
        ],
    )


def _scores(fitted: FittedDetector, outputs: Outputs, when: str = "") -> Scores:
    found = score_outputs(fitted, outputs)
    if isinstance(found, str):
        raise DetectorError(when + found)
    return found


def drive(
    extractor: Extractor, detector: Detector, outputs: Outputs, clean: Scores, direction: float, attack: Attack
) -> AttackResult:
    """Return the attack that moves scores, which are ``clean`` without it, in a direction as far as it can."""
    assert outputs.images is not None
    scale = float(np.std(clean)) or 1.0
    threshold = direction * float((direction * clean).max()) + direction * scale
    return run_attack(
        ScoreAsClassifier(extractor, detector, direction, threshold, scale),
        outputs.images,
        torch.zeros(len(outputs), dtype=torch.int64),
        attack,
    )
