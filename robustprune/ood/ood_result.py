"""What an evaluation of out-of-distribution detection found, as it stands in a record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

Interval = tuple[float, float]
Samples = dict[str, np.ndarray[Any, Any]]


class _Finding(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class DetectorEntry(_Finding):
    """One detector on one out-of-distribution set; all figures are None where there is a reason for it.

    Attributes:
        auroc: With all up to ``prevalence`` as in :class:`robustprune.metrics.DetectionFigures`.
        intervals: Bootstrap interval (95 %) of each figure.
        reason: Why there are no figures, or what is odd about them; None if nothing is.
    """

    auroc: float | None = None
    aupr_in: float | None = None
    aupr_out: float | None = None
    fpr95_ood_positive: float | None = None
    fpr95_id_positive: float | None = None
    prevalence: float | None = None
    intervals: dict[str, Interval] = {}
    reason: str | None = None


class AttackedDetector(_Finding):
    """One detector whose score was attacked; AUROCs are over the attacked sample of both sets.

    Attributes:
        auroc_clean: Without an attack.
        auroc_in_attacked: In-distribution images were changed to score high.
        auroc_out_attacked: Out-of-distribution images were changed to score low.
        auroc_both_attacked: Both.
        valid: Whether no check of the attack failed.
        checks: ``{name, verdict, detail}`` of both attacks.
        reason: Why there are no figures.
    """

    auroc_clean: float | None = None
    auroc_in_attacked: float | None = None
    auroc_out_attacked: float | None = None
    auroc_both_attacked: float | None = None
    valid: bool = False
    checks: list[dict[str, str]] = []
    reason: str | None = None


class AttackedEntry(_Finding):
    """All detectors under attack at one ε (L∞)."""

    epsilon: float
    steps: int
    n_in: int
    n_out: int
    detectors: dict[str, AttackedDetector]


class OodEntry(_Finding):
    """One out-of-distribution set.

    Attributes:
        dataset: Its name.
        group: ``near``, ``far``, ``sanity``, ``shifted`` (corrupted images of the set itself) or ``other``.
        n_in: In-distribution images.
        n_out: Images of this set.
        conversions: What was done to them to fit the network.
        detectors: By name.
        full_spectrum: The same where corrupted in-distribution images count as in-distribution too; empty if that
            was not asked for.
        attacks: The same under attack, by ε.
    """

    dataset: str
    group: str
    n_in: int
    n_out: int
    conversions: dict[str, Any]
    detectors: dict[str, DetectorEntry]
    full_spectrum: dict[str, DetectorEntry] = {}
    attacks: list[AttackedEntry] = []


class GroupMean(_Finding):
    """Unweighted means over the sets of a group, by detector; None where one of them has no figure."""

    group: str
    full_spectrum: bool
    datasets: list[str]
    detectors: dict[str, dict[str, float | None]]


class SelectiveEntry(_Finding):
    """Answering only the in-distribution images that a detector trusts most.

    Attributes:
        aurc: Mean error rate over all coverages.
        coverage: Shares answered.
        risk: Error rate at each.
        reason: Why there are no figures.
    """

    aurc: float | None = None
    coverage: list[float] = []
    risk: list[float] = []
    reason: str | None = None


class OodSummary(_Finding):
    """What holds for all out-of-distribution sets.

    Attributes:
        groups: Means over near and far sets.
        shifted: Detectors with scores for corrupted images, of which there are as many as of others.
        missing: Sets of a group that are not on this machine, with the reason.
        selective: Selective prediction on the in-distribution images, by detector.
        protocol: What was fitted on what, seeds, estimators.
    """

    groups: list[GroupMean]
    shifted: list[str] = []
    missing: dict[str, str]
    selective: dict[str, SelectiveEntry]
    protocol: dict[str, Any]


@dataclass(frozen=True, eq=False)
class OodResult:
    """What `evaluate_ood` returns.

    Attributes:
        entries: One per out-of-distribution set.
        summary: What holds for all of them.
        samples: Scores per image: ``ood_in_index`` and ``ood_in_DETECTOR`` of the in-distribution images,
            ``ood_shifted_…`` of corrupted ones, and for entry i ``ood{i}_…`` of the others. The scores of two
            networks over the same images give paired differences.
    """

    entries: list[OodEntry]
    summary: OodSummary
    samples: Samples = field(repr=False)
