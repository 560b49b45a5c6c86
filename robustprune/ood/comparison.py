"""A network with its detectors ready, compared with one foreign set after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from robustprune.corruptions import HEADLINE, SEVERITIES
from robustprune.ood.attack import ScoreAttackSettings, attack_detectors
from robustprune.ood.extraction import Extractor
from robustprune.ood.figures import Found, as_samples, compare_sets, join_found, selective_prediction
from robustprune.ood.foreign import ForeignSet
from robustprune.ood.groups import group_of
from robustprune.ood.outputs import Outputs
from robustprune.ood.result import AttackedEntry, OodEntry, Samples, SelectiveEntry
from robustprune.ood.scoring import FittedDetector, Scores, score_outputs
from robustprune.ood.shifted import corrupt_evenly
from robustprune.runtime.work import Progress, labelled


@dataclass(eq=False)
class Comparison:
    """What detectors say of a network's own images, and then of foreign ones.

    Attributes:
        dataset: Name of the in-distribution set.
        extractor: Of the network.
        fitted: Its detectors.
        resamples: Of the bootstrap.
        seed: Of resamples and corruptions.
        attack: How detectors are attacked.
        progress: Called as work proceeds.
        entries: One per foreign set so far.
        samples: Scores per image so far, see `OodResult`.
        shifted: Detectors with scores for corrupted images.
    """

    dataset: str
    extractor: Extractor
    fitted: dict[str, FittedDetector]
    resamples: int
    seed: int
    attack: ScoreAttackSettings
    progress: Progress | None
    entries: list[OodEntry] = field(default_factory=list)
    samples: Samples = field(default_factory=dict)
    shifted: list[str] = field(default_factory=list)

    def look_at_own(self, images: Tensor, labels: Tensor, indices: Tensor, full_spectrum: bool) -> None:
        """Score the in-distribution images (N, C, H, W), and with ``full_spectrum`` as many corrupted ones."""
        self._inside = self.extractor.run(images, labels, progress=labelled(self.progress, self.dataset))
        self._found_in: Found = self._score(self._inside, self.fitted)
        self._found_full: Found = {}
        self.samples |= as_samples("ood_in", indices, self._found_in)
        if full_spectrum:
            corrupted = corrupt_evenly(images, indices, HEADLINE, SEVERITIES, self.seed)
            outputs = self.extractor.run(corrupted, progress=labelled(self.progress, f"{self.dataset}, corrupted"))
            found = self._score(outputs, self.fitted)
            self.samples |= as_samples("ood_shifted", indices, found)
            self.shifted = [name for name, scores in found.items() if not isinstance(scores, str)]
            self._found_full = join_found(self._found_in, found)

    def look_at_foreign(self, foreign: ForeignSet, names: Iterable[str]) -> None:
        """Score a foreign set by some of the detectors, and add the entry on it."""
        outputs = self.extractor.run(foreign.images, progress=labelled(self.progress, foreign.name))
        found = self._score(outputs, names)
        remarks = {name: self.fitted[name].detector.remark for name in found}
        compared = compare_sets(self._found_in, found, self.resamples, self.seed, remarks)
        told_apart = {name: found[name] for name, entry in compared.items() if entry.auroc is not None}
        self.samples |= as_samples(f"ood{len(self.entries)}", foreign.indices, told_apart)
        in_full = {}
        if self._found_full:
            in_full = compare_sets(self._found_full, found, self.resamples, self.seed, remarks)
        self.entries.append(
            OodEntry(
                dataset=foreign.name,
                group=group_of(self.dataset, foreign.name),
                n_in=len(self._inside),
                n_out=len(outputs),
                conversions=foreign.conversions,
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
        few_inside, few_outside = self._inside.evenly(self.attack.limit), outside.evenly(self.attack.limit)
        fitted = {name: self.fitted[name] for name in names}
        return [
            attack_detectors(self.extractor, fitted, few_inside, few_outside, epsilon, self.attack, self.progress)
            for epsilon in self.attack.epsilons
        ]
