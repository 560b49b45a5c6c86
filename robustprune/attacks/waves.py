"""Carrying an attack through all samples, in waves of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.checks import perturbation_sizes
from robustprune.attacks.ledger import Tally
from robustprune.attacks.problem import AttackProblem
from robustprune.attacks.registry import Attack
from robustprune.attacks.settings import Samples, Settings
from robustprune.errors import AttackError
from robustprune.inference import run_model, to_unit_range

# Samples are attacked together up to these bounds, as a problem holds a handful of copies of its images.
WAVE_SAMPLES = 4096
WAVE_BYTES = 2**28


@dataclass(frozen=True)
class Outcome:
    """Per-sample results, of a wave or of all of them: the fields of `AttackResult` of these names."""

    adversarial: Tensor
    broken: Tensor
    clean_predictions: Tensor
    adversarial_predictions: Tensor
    labels: Tensor
    perturbation_norms: Tensor
    broken_at_step: Tensor


def join(waves: Iterable[Outcome]) -> Outcome:
    """Return the outcome of all waves, in their order."""
    columns = zip(*(vars(wave).values() for wave in waves), strict=True)
    return Outcome(*(torch.cat(column) for column in columns))


class Run:
    """One attack on one model, wave after wave."""

    def __init__(
        self,
        model: nn.Module,
        attack: Attack,
        options: dict[str, Any],
        settings: Settings,
        progress: Progress,
    ) -> None:
        """Prepare to attack ``model``, which the caller has guarded by the time a wave comes."""
        self.tally = Tally()
        self.details: dict[str, Any] = {}
        self.is_random = False
        self._model, self._attack, self._options = model, attack, options
        self._settings, self._progress = settings, progress

    def attack_wave(self, samples: Samples, place: torch.device) -> Outcome:
        """Attack some of the samples, on the device ``place``."""
        # A copy made here is an ordinary tensor, even of images that come from inference mode.
        images = to_unit_range(samples.images.to(place)).clone()
        labels = samples.labels.to(place).clone()
        clean_logits = self._predict(images)
        _check_clean(clean_logits, labels)
        problem = AttackProblem(
            self._forward,
            images,
            labels,
            clean_logits,
            samples.ids,
            self._settings,
            self.tally,
            self._progress.advance,
        )
        self._propose(problem)
        self._progress.finish(len(samples))
        return self._judge(problem, samples.images, clean_logits.argmax(dim=1))

    def _propose(self, problem: AttackProblem) -> None:
        for restart in range(self._settings.restarts):
            problem.begin_restart(restart)
            # The first is run in any case: the attack then looks at its options.
            if restart > 0 and not problem.active.any():
                return
            self._attack(problem, **self._options)
            self.details.update(problem.details)
            self.is_random |= problem.has_drawn
            if not problem.has_drawn:
                return

    def _judge(self, problem: AttackProblem, images: Tensor, clean_predictions: Tensor) -> Outcome:
        """Measure the returned points afresh: what the attack saw on the way does not count."""
        adversarial = problem.ledger.points
        predictions = self._predict(adversarial)
        was_wrong = clean_predictions != problem.labels
        is_finite = predictions.isfinite().all(dim=1)
        adversarial_predictions = predictions.argmax(dim=1)
        broken = was_wrong | ((adversarial_predictions != problem.labels) & is_finite)
        first = problem.ledger.first_broken
        seen = torch.where(first < 0, problem.queries, first)
        parts = (
            adversarial,
            broken,
            clean_predictions,
            adversarial_predictions,
            problem.labels,
            # Against the caller's images: an attack may have written into the problem's.
            perturbation_sizes(adversarial.cpu(), to_unit_range(images.cpu()), problem.norm),
            torch.where(broken, seen, -1),
        )
        return Outcome(*(part.cpu() for part in parts))

    def _forward(self, batch: Tensor) -> Tensor:
        return run_model(self._model, batch)

    def _predict(self, images: Tensor) -> Tensor:
        self.tally.forwards += len(images)
        with torch.no_grad():
            return torch.cat([self._forward(batch) for batch in torch.split(images, self._settings.batch_size)])


class Progress:
    """Work done out of the most there can be: one unit is one sample in one query."""

    def __init__(
        self,
        report: Callable[[int, int], None] | None,
        n: int,
        settings: Settings,
        options: dict[str, Any],
    ) -> None:
        """Report to ``report(done, total)``, if there is anyone to report to."""
        steps = options.get("steps")
        # A gradient per step and a last look; for an attack without steps, a guess of two queries.
        self._per_sample = settings.restarts * ((steps if isinstance(steps, int) else 1) + 1)
        self._report = report
        self._total = n * self._per_sample
        self._done = self._finished = 0

    def advance(self, samples: int) -> None:
        """Count samples of one query."""
        self._tell(min(self._done + samples, self._total))

    def finish(self, samples: int) -> None:
        """Close a wave: what early stopping saved is done too, and what a guess left out is not counted."""
        self._finished += samples * self._per_sample
        self._tell(max(self._done, self._finished))

    def _tell(self, done: int) -> None:
        self._done = done
        if self._report is not None:
            self._report(done, self._total)


def split_waves(samples: Samples, batch_size: int) -> Iterator[Samples]:
    """Yield the samples in runs of bounded memory, of whole batches; the outcome does not depend on it."""
    bytes_each = 4 * samples.images[0].numel()
    size = max(1, min(WAVE_SAMPLES, WAVE_BYTES // bytes_each) // batch_size) * batch_size
    for start in range(0, len(samples), size):
        part = slice(start, start + size)
        yield Samples(samples.images[part], samples.labels[part], samples.ids[part])


def _check_clean(logits: Tensor, labels: Tensor) -> None:
    bad = int((~logits.isfinite()).any(dim=1).sum())
    if bad:
        raise AttackError(
            f"the model's logits are NaN or infinite on {bad} of {len(logits)} clean images; it has diverged "
            f"or is not the model meant"
        )
    low, high = (int(bound) for bound in labels.aminmax())
    if low < 0 or high >= logits.shape[1]:
        raise AttackError(f"labels run from {low} to {high}, the model has {logits.shape[1]} classes")
