"""Asking a network about many points, a batch at a time: logits, losses, gradients, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.batching import Batches
from robustprune.attacks.engine.goal import Score, are_predictions
from robustprune.attacks.engine.ledger import Start, Tally
from robustprune.errors import AttackError
from robustprune.models import failure, run_model


@dataclass(frozen=True)
class Answer:
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
        look: Takes rows (m,) and points (m, …) and returns logits (m, K), where these can be had for less than by
            running the model; without gradients.
    """

    rows: Tensor
    points: Tensor
    score: Score
    gradient: bool
    settle: Callable[[Tensor, Tensor], Tensor]
    record: Callable[[Tensor, Tensor, Tensor], None]
    look: Callable[[Tensor, Tensor], Tensor] | None = None


class Oracle:
    """Answers questions in full batches, and keeps count.

    Of a network that draws at random, the answer is the mean over several draws: of logits, of losses, and of the
    gradients of the losses (expectation over transformation, Athalye et al. 2018, arXiv:1707.07397, section 3), not
    the gradient at the mean logits, which is another one where the loss is curved.

    Attributes:
        tally: What was spent so far.
        batches: How much goes through the network at once.
        draws: How many passes an answer takes.
    """

    def __init__(self, tally: Tally, batches: Batches, on_batch: Callable[[int], None], draws: int = 1) -> None:
        """Ask so many times, and tell ``on_batch`` of so many samples after each batch."""
        self.tally, self.batches = tally, batches
        self.draws, self._on_batch = draws, on_batch

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

    def answer(self, model: nn.Module, question: Question, like: Tensor, stage: str) -> Answer:
        """Return what the model says, logits as those of the images; first gradients in a stage go into the tally."""
        rows, points, place = question.rows, question.points, question.rows.device
        logits = like.new_zeros(len(rows), like.shape[1])
        losses = torch.zeros(len(rows), device=place)
        gradients = torch.zeros_like(points) if question.gradient else points.new_zeros(0)
        is_first = question.gradient and len(rows) > 0 and stage not in self.tally.starts
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
            self.tally.starts[stage] = start
        return Answer(logits, losses, gradients)

    def _draw(self, model: nn.Module, batch: Tensor, where: Tensor, question: Question) -> tuple[Tensor, ...]:
        """Return logits (n, K), losses (n,) and gradients (n, …) of one pass."""
        batch = batch.detach()
        with torch.set_grad_enabled(question.gradient):
            if question.look is not None:
                found = question.look(where, batch)
            else:
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
