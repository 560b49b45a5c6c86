"""Carrying an attack through all samples, in waves of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.answers import Oracle
from robustprune.attacks.engine.batching import Batches
from robustprune.attacks.engine.checks import perturbation_sizes
from robustprune.attacks.engine.goal import Goal, are_predictions
from robustprune.attacks.engine.ledger import Tally
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.replica import Replica
from robustprune.attacks.engine.settings import TOGETHER, Samples
from robustprune.attacks.engine.stages import Keeper
from robustprune.attacks.engine.state import SavedState
from robustprune.attacks.engine.verdict import predict_once
from robustprune.attacks.registry import AttackFunction
from robustprune.attacks.requests import Attack
from robustprune.errors import AttackError
from robustprune.models import to_unit_range

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
    broken_in_stage: Tensor
    queries: Tensor


def join(waves: Iterable[Outcome]) -> Outcome:
    """Return the outcome of all waves, in their order."""
    columns = zip(*(vars(wave).values() for wave in waves), strict=True)
    return Outcome(*(torch.cat(column) for column in columns))


class Run:
    """One attack on one model, wave after wave."""

    def __init__(
        self,
        model: nn.Module,
        attack: AttackFunction,
        options: dict[str, Any],
        request: Attack,
        progress: WorkDone,
        saved: SavedState | None = None,
    ) -> None:
        """Prepare to attack ``model``, which the caller has guarded by the time a wave comes."""
        self.tally = Tally()
        self.details: dict[str, Any] = {}
        self.stages: list[str] = [""]
        self.is_random = False
        self.clean_logits: list[Tensor] = []
        self.replica = Replica(model, request.frozen)
        self.model, self.attack, self._options = model, attack, options
        self._request, self._progress, self._saved = request, progress, saved
        self._oracle = Oracle(self.tally, Batches(request.batch_size), progress.advance, request.eot)
        self._wave = -1

    def attack_wave(self, samples: Samples, place: torch.device) -> Outcome:
        """Attack some of the samples, on the device ``place``."""
        self._wave += 1
        # A copy made here is an ordinary tensor, even of images that come from inference mode.
        images = to_unit_range(samples.images.to(place)).clone()
        labels = samples.labels.to(place).clone()
        targets = None if samples.targets is None else samples.targets.to(place).clone()
        clean_logits = self._oracle.predict(self.model, images)
        _check_clean(clean_logits, labels, targets)
        self.clean_logits.append(clean_logits.cpu())
        single = self._predict_once(images, samples.ids) if self._request.eot > 1 else None
        problem = AttackProblem(
            self._oracle,
            self.model,
            images,
            labels,
            clean_logits,
            samples.ids,
            self._request,
            targets=targets,
            single=single,
        )
        problem.stages.names = self.stages
        if samples.carried is not None:
            problem.ledger.carry(samples.carried.to(place), samples.carried_broken.to(place))
        goal = Goal(labels, targets)
        clean_logits = clean_logits if single is None else single
        predictions = self._attack_replica_first(problem, goal, clean_logits)
        self._progress.finish(len(samples))
        return self._outcome(problem, samples.images, clean_logits, predictions, goal)

    def _attack_replica_first(self, problem: AttackProblem, goal: Goal, clean_logits: Tensor) -> Tensor:
        """Return the model's logits (N, K) at the points found, given those at the images.

        Of what the frozen copy takes for broken, the model itself has the last word; where it disagrees, as
        it may on the very boundary, the sample is attacked once more, on the model itself.
        """
        if (~problem.ledger.is_broken).any():
            problem.model = self.replica.get(problem.images)
        if self._saved is not None:
            self._saved.attach(self._wave, problem, self.tally)
        self._propose(problem)
        predictions = self._verdict(problem, clean_logits)
        doubtful = problem.ledger.is_broken & ~goal.is_reached(predictions)
        # Of a network that draws at random, another attempt would be a second draw.
        if problem.model is not self.model and self._request.eot == 1 and bool(doubtful.any()):
            problem.model = self.model
            problem.stages.keeper = Keeper()
            problem.reopen(doubtful)
            self._propose(problem, only=doubtful)
            predictions = self._verdict(problem, clean_logits)
        return predictions

    def _verdict(self, problem: AttackProblem, clean_logits: Tensor) -> Tensor:
        """Return the model's logits (N, K) at the points kept; samples wrong to begin with still have their image."""
        logits, points = clean_logits.clone(), problem.ledger.points
        attacked = ~problem.goal.is_reached(logits)
        if not bool(attacked.any()):
            return logits
        if self._request.eot > 1:
            # Once, as the network is used; all of them, as only batches of the same samples draw the same.
            ids = [problem.sample_id(row) for row in range(len(points))]
            logits[attacked] = self._predict_once(points, ids)[attacked]
        else:
            logits[attacked] = self._oracle.predict(self.model, points[attacked])
        return logits

    def _predict_once(self, images: Tensor, sample_ids: list[int]) -> Tensor:
        self.tally.forwards += len(images)
        return predict_once(self.model, images, sample_ids, seed=self._request.seed, batches=self._oracle.batches)

    def _propose(self, problem: AttackProblem, only: Tensor | None = None) -> None:
        for restart in range(self._request.restarts):
            problem.begin_restart(restart, only)
            # The first is run in any case: the attack then looks at its options.
            if restart > 0 and not problem.active.any():
                return
            problem.stages.run(problem, "", self.attack, self._options)
            self.details.update(problem.details)
            self.is_random |= problem.has_drawn
            if not problem.has_drawn:
                return

    def _outcome(
        self, problem: AttackProblem, images: Tensor, clean_logits: Tensor, predictions: Tensor, goal: Goal
    ) -> Outcome:
        """Measure the returned points afresh: what the attack saw on the way does not count."""
        ledger = problem.ledger
        broken = goal.is_reached(clean_logits) | goal.is_reached(predictions)
        seen = torch.where(ledger.first_broken < 0, problem.queries, ledger.first_broken)
        parts = (
            ledger.points,
            broken,
            clean_logits.argmax(dim=1),
            predictions.argmax(dim=1),
            goal.labels,
            # Against the caller's images: an attack may have written into the problem's.
            perturbation_sizes(ledger.points.cpu(), to_unit_range(images.cpu()), problem.norm),
            torch.where(broken, seen, -1),
            torch.where(broken, ledger.stage, -1),
            ledger.asked,
        )
        return Outcome(*(part.cpu() for part in parts))


class WorkDone:
    """Work done out of the most there can be: one unit is one sample in one query."""

    def __init__(
        self,
        report: Callable[[float, float], None] | None,
        n: int,
        request: Attack,
        options: dict[str, Any],
    ) -> None:
        """Report to ``report(done, total)``, if there is anyone to report to."""
        steps = options.get("steps", options.get("queries"))
        # A gradient per step and a last look; for an attack without steps, a guess of two queries.
        self._per_sample = request.restarts * ((steps if isinstance(steps, int) else 1) + 1)
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


def split_waves(samples: Samples) -> Iterator[Samples]:
    """Yield the samples in runs of bounded memory; the outcome does not depend on it."""
    size = max(WAVE_BYTES // (4 * samples.images[0].numel()), 1)
    # Whole groups of those that attacks of other packages see together.
    size = min(WAVE_SAMPLES, size // TOGETHER * TOGETHER or size)
    for start in range(0, len(samples), size):
        yield samples.part(slice(start, start + size))


def _check_clean(logits: Tensor, labels: Tensor, targets: Tensor | None) -> None:
    bad = int((~are_predictions(logits)).sum())
    if bad:
        raise AttackError(
            f"the model's logits are NaN or infinite on {bad} of {len(logits)} clean images; it has diverged "
            f"or is not the model meant"
        )
    for what, classes in (("labels", labels), ("targets", targets)):
        if classes is not None:
            low, high = (int(bound) for bound in classes.aminmax())
            if low < 0 or high >= logits.shape[1]:
                raise AttackError(f"{what} run from {low} to {high}, the model has {logits.shape[1]} classes")
    masked = 0 if targets is None else int((logits.gather(1, targets[:, None]) == -torch.inf).sum())
    if masked:
        raise AttackError(f"{masked} targets are classes that the model masks (their logits are −∞), out of any reach")
