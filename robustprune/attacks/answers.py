"""Asking a network about many points, a batch at a time: logits, losses, gradients, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustprune.attacks.batching import Batches
from robustprune.attacks.goal import Score
from robustprune.attacks.ledger import Start, Tally
from robustprune.errors import AttackError


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
        settle: Moves points (m, …) of some of the rows (m,) to where they are asked about.
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

    Attributes:
        forward: Model, images (n, …) → logits (n, K).
        tally: What was spent so far.
        batches: How much goes through the network at once.
    """

    def __init__(
        self,
        forward: Callable[[nn.Module, Tensor], Tensor],
        tally: Tally,
        batches: Batches,
        on_batch: Callable[[int], None],
    ) -> None:
        """Ask through ``forward``, and tell ``on_batch`` of so many samples after each batch."""
        self.forward, self.tally, self.batches = forward, tally, batches
        self._on_batch = on_batch

    def answer(self, model: nn.Module, question: Question, n_classes: int, stage: str) -> Answer:
        """Return what the model says; its first gradients in a stage are entered in the tally."""
        rows, points, place = question.rows, question.points, question.rows.device
        logits = torch.zeros(len(rows), n_classes, device=place)
        losses = torch.zeros(len(rows), device=place)
        gradients = torch.zeros_like(points) if question.gradient else points.new_zeros(0)
        is_first = question.gradient and len(rows) > 0 and stage not in self.tally.starts
        start = Start() if is_first else None

        def compute(part: Tensor) -> None:
            where = rows[part]
            batch = points[part].detach().to(place).float()
            if not batch.isfinite().all():
                raise AttackError("the attack proposed points with NaN or infinity")
            batch = question.settle(batch, where)
            with torch.set_grad_enabled(question.gradient):
                found = self.forward(model, batch.requires_grad_() if question.gradient else batch)
                values = question.score(found, where)
            if values.shape != where.shape:
                raise AttackError(f"a loss must return one number per sample, not shape {tuple(values.shape)}")
            if question.gradient:
                gradients[part] = self._ascent(values, batch, start)
            logits[part], losses[part] = found.detach(), values.detach().to(losses.dtype)
            self._on_batch(len(where))
            self.tally.forwards += len(where)
            self.tally.not_finite += int((~found.isfinite()).any(dim=1).sum())
            question.record(where, batch.detach(), found.detach())

        self.batches.run(torch.arange(len(rows), device=place), compute)
        if start is not None:
            self.tally.starts[stage] = start
        return Answer(logits, losses, gradients)

    def _ascent(self, losses: Tensor, batch: Tensor, start: Start | None) -> Tensor:
        """Return the gradient, with zeros, and a note in the tally, where there is none to be had."""
        gradient = None
        if losses.requires_grad:
            (gradient,) = torch.autograd.grad(losses.sum(), batch, allow_unused=True)
        self.tally.gradients += len(batch)
        if gradient is None:
            self.tally.without_graph += len(batch)
            return torch.zeros_like(batch)
        flat = gradient.flatten(1)
        is_finite = flat.isfinite().all(dim=1)
        self.tally.not_finite += int((~is_finite).sum())
        if start is not None:
            start.gradients += int(is_finite.sum())
            start.zeros += int((flat == 0).all(dim=1).sum())
        return gradient.masked_fill(~is_finite.reshape(-1, *([1] * (batch.ndim - 1))), 0)
