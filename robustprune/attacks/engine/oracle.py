"""Asking a network about many points, a batch at a time: logits, losses, gradients, and what they cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.ledger import Score, Start, Tally, are_predictions
from robustprune.errors import AttackError, ModelWarning
from robustprune.models import failure, run_model
from robustprune.runtime.randomness import derive_seed, isolated_generators

# How torch's allocators, and the C++ library below them, put it.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")


class Batches:
    """How many samples go through a network at once: as many as asked for, until that proves too much.

    Attributes:
        size: Samples per batch; only ever falls.
    """

    def __init__(self, size: int) -> None:
        """Start with ``size`` samples per batch."""
        self.size = size

    def run(self, rows: Tensor, work: Callable[[Tensor], None]) -> None:
        """Call ``work`` with consecutive parts of ``rows`` (n,); a part that runs out of memory comes again, halved.

        Args:
            rows: Indices of samples.
            work: Takes a part of them, and does nothing that counts before it is past the network.
        """
        start = 0
        while start < len(rows):
            part = rows[start : start + self.size]
            try:
                work(part)
            except Exception as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
                self.size = len(part) // 2
                warnings.warn(
                    f"memory ran out on {len(part)} samples at once; going on with {self.size}",
                    ModelWarning,
                    stacklevel=2,
                )
                continue
            start += len(part)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, says that memory ran out."""
    while error is not None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


@dataclass(frozen=True)
class Response:
    """What the model says of n samples at n points.

    Attributes:
        logits: (n, K).
        losses: (n,), which grow as the goal comes closer.
        gradients: (n, …) of the losses; zero where there is none to be had, and if they were not asked for.
    """

    logits: Tensor
    losses: Tensor
    gradients: Tensor


@dataclass(frozen=True)
class Question:
    """What is asked of a model.

    Attributes:
        rows: (n,) indices of the samples.
        points: (n, …).
        score: What the losses are.
        gradient: Whether gradients are needed.
        settle: Returns points (m, …) of some of the rows (m,) where they are asked about, not in place.
        record: Takes rows (m,), points (m, …) and logits (m, K) as they are found.
    """

    rows: Tensor
    points: Tensor
    score: Score
    gradient: bool
    settle: Callable[[Tensor, Tensor], Tensor]
    record: Callable[[Tensor, Tensor, Tensor], None]


class Oracle:
    """Answers questions in full batches, and keeps count.

    Of a network that draws at random, the answer is the mean over several draws: of logits, of losses, and of the
    gradients of the losses (expectation over transformation, Athalye et al. 2018, arXiv:1707.07397, section 3), not
    the gradient at the mean logits, which is another one where the loss is curved.

    Attributes:
        tally: What was spent so far.
        batches: How much goes through the network at once.
        draws: How many passes an answer takes.
        looked: Stages whose first gradients are in the tally, of the samples that are asked about now.
    """

    def __init__(self, tally: Tally, batches: Batches, on_batch: Callable[[int], None], draws: int = 1) -> None:
        """Ask so many times, and tell ``on_batch`` of so many samples after each batch."""
        self.tally, self.batches = tally, batches
        self.draws, self._on_batch = draws, on_batch
        self.looked: set[str] = set()

    def mean_logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return logits (n, K) for images (n, …), differentiable and not counted."""
        draws = [run_model(model, images) for _ in range(self.draws)]
        return draws[0] if len(draws) == 1 else torch.stack(draws).mean(dim=0)

    def predict(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return logits (N, K) for images (N, …) of any number."""
        logits: list[Tensor] = []
        with torch.no_grad():
            everything = torch.arange(len(images), device=images.device)
            self.batches.run(everything, lambda part: logits.append(self.mean_logits(model, images[part])))
        self.tally.forwards += self.draws * len(images)
        return torch.cat(logits)

    def answer(self, model: nn.Module, question: Question, like: Tensor, stage: str) -> Response:
        """Return what the model says, logits as those of the images; first gradients in a stage go into the tally."""
        rows, points, place = question.rows, question.points, question.rows.device
        logits = like.new_zeros(len(rows), like.shape[1])
        losses = torch.zeros(len(rows), device=place)
        gradients = torch.zeros_like(points) if question.gradient else points.new_zeros(0)
        is_first = question.gradient and len(rows) > 0 and stage not in self.looked
        start = Start() if is_first else None

        def compute(part: Tensor) -> None:
            # Most questions are asked at once, and need no parts.
            is_all = len(part) == len(rows)
            where, batch = (rows, points) if is_all else (rows[part], points[part])
            batch = batch.detach().to(place).float()
            if not _all_finite(batch):
                raise AttackError("the attack proposed points with NaN or infinity")
            batch = question.settle(batch, where)
            without_graph = self.tally.without_graph
            draws = [self._draw(model, batch, where, question) for _ in range(self.draws)]
            found, values, slopes = draws[0] if len(draws) == 1 else map(_mean, zip(*draws, strict=True))
            found = found.to(logits.dtype)
            self.tally.forwards += self.draws * len(where)
            logits[part], losses[part] = found, values.to(losses.dtype)
            if question.gradient:
                self.tally.gradients += self.draws * len(where)
                is_whole = self.tally.without_graph == without_graph
                gradients[part] = self._usable(slopes, start if is_whole else None)
            self._on_batch(len(where))
            question.record(where, batch, found)

        self.batches.run(torch.arange(len(rows), device=place), compute)
        if start is not None:
            self.looked.add(stage)
            self.tally.add_start(stage, start)
        return Response(logits, losses, gradients)

    def _draw(self, model: nn.Module, batch: Tensor, where: Tensor, question: Question) -> tuple[Tensor, ...]:
        """Return logits (n, K), losses (n,) and gradients (n, …) of one pass."""
        batch = batch.detach()
        with torch.set_grad_enabled(question.gradient):
            found = run_model(model, batch.requires_grad_() if question.gradient else batch)
            values = question.score(found, where)
        if values.shape != where.shape:
            raise AttackError(f"a loss must return one number per sample, not shape {tuple(values.shape)}")
        slopes = self._ascent(values, batch) if question.gradient else batch.new_zeros(0)
        self.tally.not_finite += int((~are_predictions(found)).sum())
        return found.detach(), values.detach(), slopes

    def _ascent(self, losses: Tensor, batch: Tensor) -> Tensor:
        """Return the gradients, zero, with a note in the tally, where the losses have none."""
        gradient = None
        if losses.requires_grad:
            try:
                (gradient,) = torch.autograd.grad(losses.sum(), batch, allow_unused=True)
            except Exception as error:
                raise failure(f"has no gradient at images of shape {tuple(batch.shape)}", error) from error
        if gradient is None:
            self.tally.without_graph += len(batch)
            return torch.zeros_like(batch)
        return gradient

    def _usable(self, gradients: Tensor, start: Start | None) -> Tensor:
        """Return gradients (n, …) with zeros, and a note in the tally, where they are not finite."""
        if start is None and _all_finite(gradients):
            return gradients
        flat = gradients.flatten(1)
        is_finite = flat.isfinite().all(dim=1)
        self.tally.not_finite += int((~is_finite).sum())
        if start is not None:
            start.gradients += int(is_finite.sum())
            start.zeros += int((flat == 0).all(dim=1).sum())
        return gradients.masked_fill(~is_finite.reshape(-1, *([1] * (gradients.ndim - 1))), 0)


def _all_finite(values: Tensor) -> bool:
    """Return whether all are: as their sum is, or, should that overflow, one by one."""
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def _mean(draws: tuple[Tensor, ...]) -> Tensor:
    return torch.stack(draws).mean(dim=0)


def predict_once(model: nn.Module, images: Tensor, sample_ids: Sequence[int], *, seed: int, batches: Batches) -> Tensor:
    """Return logits (N, K) of one pass, without gradients.

    Draws are keyed by the seed and by the first sample of each batch, apart from those that an attack has seen: a
    network that draws from the generators of torch, NumPy or Python draws for an image and for what attacks made of
    it the same. A sample that is broken by one of several points is so no victim of being asked several times. A
    network with a generator of its own, or after memory ran out in between, draws afresh.

    Args:
        model: In evaluation mode.
        images: (N, …) in [0, 1], on the device of the model.
        sample_ids: N integers.
        seed: Of the attack.
        batches: How much goes through the network at once.
    """
    logits: list[Tensor] = []

    def compute(part: Tensor) -> None:
        with torch.no_grad(), isolated_generators(derive_seed(seed, "verdict", sample_ids[int(part[0])])):
            logits.append(run_model(model, images[part]))

    batches.run(torch.arange(len(images), device=images.device), compute)
    return torch.cat(logits)
