"""Carrying an attack through the samples of a process, in chunks of bounded memory, and joining what all found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.attack_counts import Counts
from robustprune.attacks.engine.checks import perturbation_sizes
from robustprune.attacks.engine.goal import are_predictions
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.queries import Batches, ModelQueries, predict_once
from robustprune.attacks.engine.resume import SavedChunk, state_file
from robustprune.attacks.engine.samples import TOGETHER, Samples
from robustprune.attacks.registry import ATTACKS, attack_options, get_attack, read_part
from robustprune.attacks.requests import Attack
from robustprune.errors import AttackError
from robustprune.inference import accelerate
from robustprune.models import to_unit_range
from robustprune.runtime.process_group import ProcessGroup
from robustprune.runtime.work import Work

# Samples are attacked together up to these bounds: what an interruption costs at most, and what a problem may hold in
# its handful of copies of images.
CHUNK_SAMPLES = 512
CHUNK_BYTES = 2**28

FOR_CHECKS = ("stage", "clean_logits", "rise", "late_rise", "was_silent", "not_transferred")


@dataclass
class Found:
    """What an attack found, and what of it the checks judge by.

    Attributes:
        samples: Tensors with a row for each sample: the fields of `AttackResult` of these names, and `FOR_CHECKS`:
            ``stage``, which of the stages broke it, −1 none; ``clean_logits``; ``rise`` and ``late_rise``, how far its
            best margin rose, see `LossPath`; ``was_silent``, whether it was broken on the way and came back unbroken;
            ``not_transferred``, whether it was broken on the frozen copy alone.
        stages: Names of the parts of the attack; the whole of it is ``""``.
        details: Options that the attack filled in.
    """

    samples: dict[str, Tensor] = field(default_factory=dict)
    stages: list[str] = field(default_factory=lambda: [""])
    counts: Counts = field(default_factory=Counts)
    details: dict[str, Any] = field(default_factory=dict)
    is_random: bool = False
    is_frozen: bool = False


class ChunkRunner:
    """One attack on one model, which is guarded by the time a chunk comes, chunk after chunk."""

    def __init__(self, model: nn.Module, options: dict[str, Any], request: Attack, progress: WorkDone) -> None:
        """Prepare to attack ``model``."""
        self.found = Found()
        self.model, self._options, self._request, self._progress = model, options, request, progress
        self._model_queries = ModelQueries(
            self.found.counts, Batches(request.batch_size), progress.advance, request.eot
        )
        self._fast: nn.Module | None = None if request.frozen else model

    def run(self, samples: Samples, place: torch.device, work: Work, started: float) -> Found:
        """Attack samples on the device ``place``, keeping what is finished in the folder of the work."""
        chunks = [self._attack_chunk(chunk, place, work, started) for chunk in _split_chunks(samples, self._request)]
        self.found.samples = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        self.found.is_frozen = self._fast is not None and self._fast is not self.model
        return self.found

    def _attack_chunk(self, samples: Samples, place: torch.device, work: Work, started: float) -> dict[str, Tensor]:
        # Copies made here are ordinary tensors, even of images that come from inference mode.
        here = replace(
            samples,
            images=to_unit_range(samples.images.to(place)).clone(),
            labels=samples.labels.to(place).clone(),
            targets=None if samples.targets is None else samples.targets.to(place).clone(),
        )
        mean_logits = self._model_queries.predict(self.model, here.images)
        _check_clean(mean_logits, here)
        single = self._predict_once(here.images, here.ids) if self._request.eot > 1 else None
        problem = AttackProblem(self._model_queries, self.model, here, mean_logits, self._request, single=single)
        problem.stages = self.found.stages
        if samples.previous_points is not None:
            problem.best.take_over(samples.previous_points.to(place), samples.previously_broken.to(place))
        if (~problem.best.is_broken).any():
            if self._fast is None:
                self._fast = accelerate(self.model, here.images)
            problem.model = self._fast
        if work.folder is not None:
            path = state_file(work.folder, self.model, samples, self._request, self._options)
            work.kept.add(path)
            problem.saved = SavedChunk(path, problem, started)
        clean_logits = mean_logits if single is None else single
        logits, doubtful = self._attack_fast_first(problem, clean_logits)
        self._progress.finish(len(samples))
        measured = _measure(problem, samples.images, clean_logits, logits)
        measured |= {"clean_logits": mean_logits, "not_transferred": doubtful}
        return {name: values.cpu() for name, values in measured.items()}

    def _attack_fast_first(self, problem: AttackProblem, clean_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the model's logits (N, K) at the points found, given those at the images, and where it disagreed (N,).

        Of what the accelerated copy takes for broken, the model itself has the last word; where it disagrees, as
        it may on the very boundary, the sample is attacked once more, on the model itself.
        """
        self._propose(problem)
        logits = self._final_logits(problem, clean_logits)
        doubtful = problem.best.is_broken & ~problem.goal.is_reached(logits)
        # Of a network that draws at random, another attempt would be a second draw.
        if problem.model is not self.model and self._request.eot == 1 and bool(doubtful.any()):
            problem.model, problem.saved = self.model, None
            problem.best.reopen(doubtful, problem.images, problem.clean_logits)
            self._propose(problem, only=doubtful)
            logits = self._final_logits(problem, clean_logits)
        return logits, doubtful

    def _propose(self, problem: AttackProblem, only: Tensor | None = None) -> None:
        for restart in range(self._request.restarts):
            problem.begin_restart(restart, only)
            # The first is run in any case: the attack then looks at its options.
            if restart > 0 and not problem.active.any():
                return
            problem.run_part("", get_attack(self._request.name), self._options)
            self.found.details.update(problem.details)
            self.found.is_random |= problem.has_drawn
            if not problem.has_drawn:
                return

    def _final_logits(self, problem: AttackProblem, clean_logits: Tensor) -> Tensor:
        """Return the model's logits (N, K) at the points kept; samples wrong to begin with still have their image."""
        logits, points = clean_logits.clone(), problem.best.points
        attacked = ~problem.goal.is_reached(logits)
        if not bool(attacked.any()):
            return logits
        if self._request.eot > 1:
            # Once, as the network is used; all of them, as only batches of the same samples draw the same.
            logits[attacked] = self._predict_once(points, problem.sample_ids)[attacked]
        else:
            logits[attacked] = self._model_queries.predict(self.model, points[attacked])
        return logits

    def _predict_once(self, images: Tensor, sample_ids: list[int]) -> Tensor:
        self.found.counts.forwards += len(images)
        return predict_once(
            self.model, images, sample_ids, seed=self._request.seed, batches=self._model_queries.batches
        )


def _measure(problem: AttackProblem, images: Tensor, clean_logits: Tensor, logits: Tensor) -> dict[str, Tensor]:
    """Measure the returned points afresh: what the attack saw on the way does not count."""
    best, goal = problem.best, problem.goal
    broken = goal.is_reached(clean_logits) | goal.is_reached(logits)
    seen = torch.where(best.first_broken < 0, problem.queries, best.first_broken)
    rise, late_rise = problem.path.rise()
    return {
        "adversarial": best.points,
        "broken": broken,
        "clean_predictions": clean_logits.argmax(dim=1),
        "adversarial_predictions": logits.argmax(dim=1),
        "labels": goal.labels,
        # Against the caller's images: an attack may have written into the problem's.
        "perturbation_norms": perturbation_sizes(best.points.cpu(), to_unit_range(images.cpu()), problem.norm),
        "broken_at_step": torch.where(broken, seen, -1),
        "queries": best.asked,
        "stage": torch.where(broken, best.stage, -1),
        "rise": rise,
        "late_rise": late_rise,
        "was_silent": (best.first_broken >= 0) & ~best.is_broken & ~broken,
    }


class WorkDone:
    """Tells ``report``, if anyone, of work done out of the most there can be: samples times queries."""

    def __init__(
        self, report: Callable[[float, float], None] | None, n: int, request: Attack, options: dict[str, Any]
    ) -> None:
        """Tell of an attack on n samples."""
        self._per_sample = request.restarts * _most_queries(options)
        self._report = report
        self._total = n * self._per_sample
        self._finished = 0
        self._tell(0)

    def advance(self, samples: int) -> None:
        """Count samples of one query."""
        self._tell(min(self._done + samples, self._total))

    def finish(self, samples: int) -> None:
        """Close a chunk: what early stopping saved is done too, and what a guess left out is not counted."""
        self._finished += samples * self._per_sample
        self._tell(max(self._done, self._finished))

    def _tell(self, done: int) -> None:
        self._done = done
        if self._report is not None:
            self._report(done, self._total)


def _most_queries(options: dict[str, Any]) -> int:
    """Return how often an attack with such options asks about a sample that it does not break, about."""
    if isinstance(parts := options.get("attacks"), str):
        given = {name: value for name, value in options.items() if value is not None}
        total = 0
        for name, first, last in map(read_part, parts.split("+")):
            own = attack_options(name) if name in ATTACKS.builtin else {}
            own |= {each: given[each] for each in own.keys() & given.keys() if isinstance(given[each], int)}
            if first or last:
                own["target_classes"] = max(min(own["target_classes"], last or own["target_classes"]) - first, 0)
            total += _most_queries(own)
        return total
    steps, targets = options.get("steps", options.get("queries")), options.get("target_classes", 1)
    # A gradient per step and a last look; for an attack without steps, a guess of two queries.
    return (steps * targets if isinstance(steps, int) and isinstance(targets, int) else 1) + 1


def neighbours(request: Attack) -> int:
    """Return how many samples have to stay together: attacks of other packages see groups of them."""
    return min(TOGETHER, request.batch_size) if ":" in request.name else 1


def _split_chunks(samples: Samples, request: Attack) -> Iterator[Samples]:
    """Yield the samples in runs of bounded memory, of whole groups or batches; the outcome does not depend on it."""
    unit = neighbours(request) if ":" in request.name else request.batch_size
    bound = min(max(CHUNK_BYTES // (4 * samples.images[0].numel()), 1), max(CHUNK_SAMPLES, unit))
    size = bound // unit * unit or bound
    for start in range(0, len(samples), size):
        yield samples.part(slice(start, start + size))


def merge(shares: Sequence[Found | None], processes: ProcessGroup, block: int) -> Found:
    """Return what all processes found, in the order of the samples; None is a share of no samples."""
    found = [share for share in shares if share is not None]
    if processes.is_single:
        return found[0]
    stages = list(dict.fromkeys(stage for share in found for stage in share.stages))
    counts = Counts()
    for share in found:
        numbers = torch.tensor([*map(stages.index, share.stages), -1])
        share.samples["stage"] = numbers[share.samples["stage"]]
        counts.add(share.counts)
    return Found(
        samples={
            name: processes.joined([None if share is None else share.samples[name] for share in shares], block)
            for name in found[0].samples
        },
        stages=stages,
        counts=counts,
        details={name: value for share in reversed(found) for name, value in share.details.items()},
        is_random=any(share.is_random for share in found),
        is_frozen=any(share.is_frozen for share in found),
    )


def _check_clean(logits: Tensor, samples: Samples) -> None:
    bad = int((~are_predictions(logits)).sum())
    if bad:
        raise AttackError(
            f"the model's logits are NaN or infinite on {bad} of {len(logits)} clean images; it has diverged "
            f"or is not the model meant"
        )
    targets = samples.targets
    for what, classes in (("labels", samples.labels), ("targets", targets)):
        if classes is not None:
            low, high = (int(bound) for bound in classes.aminmax())
            if low < 0 or high >= logits.shape[1]:
                raise AttackError(f"{what} run from {low} to {high}, the model has {logits.shape[1]} classes")
    masked = 0 if targets is None else int((logits.gather(1, targets[:, None]) == -torch.inf).sum())
    if masked:
        raise AttackError(f"{masked} targets are classes that the model masks (their logits are −∞), out of any reach")
