"""What an attack sees: a set of samples to be misclassified, and the questions it may ask about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from robustprune.attacks.ledger import Ledger, Tally
from robustprune.attacks.losses import Loss, get_loss
from robustprune.attacks.norms import contain
from robustprune.attacks.settings import Settings
from robustprune.errors import AttackError
from robustprune.randomness import derive_seed


class AttackProblem:
    """A set of samples under attack. An attack proposes points; everything else is decided here.

    Whatever points (N, …) an attack passes, they are moved into the ε-ball and the box before the model sees
    them, only the active samples among them are computed, in full batches across the set, and the best point
    of each sample is kept. An attack may so be written as if for one batch, without a thought for any of it.

    Attributes:
        images: (N, …) float32 in [0, 1], on the device of the model.
        labels: (N,) int64.
        epsilon: The budget.
        norm: Its norm, by name.
        restart: Which restart this is, from 0.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        images: Tensor,
        labels: Tensor,
        clean_logits: Tensor,
        sample_ids: list[int],
        settings: Settings,
        tally: Tally,
        on_batch: Callable[[int], None],
    ) -> None:
        """Set a problem up; called by the engine with images, labels and logits on one device."""
        self.images, self.labels = images, labels
        self.epsilon, self.norm = settings.epsilon, settings.norm.name
        self.restart = 0
        self.details: dict[str, Any] = {}
        self.has_drawn = False
        self.queries = 0
        self.ledger = Ledger(images, labels, clean_logits, settings.selection)
        self._pool = torch.zeros_like(self.ledger.is_broken)
        self._forward, self._sample_ids, self._settings = forward, sample_ids, settings
        self._tally, self._on_batch = tally, on_batch
        self._draws = 0
        self._had_gradients = False

    @property
    def active(self) -> Tensor:
        """(N,) bool: the samples still computed; those broken are not, unless early stopping is off."""
        return self._pool & ~self.ledger.is_broken if self._settings.early_stop else self._pool

    def begin_restart(self, restart: int) -> None:
        """Start over on the samples that survived so far (called by the engine)."""
        self.restart = restart
        self._draws = 0
        self.has_drawn = False
        self._pool = ~self.ledger.is_broken & (self.epsilon > 0)

    def describe(self, **details: Any) -> None:
        """Add to the options the result reports, such as a schedule that follows from them."""
        self.details.update(details)

    def draw(self, sampler: Callable[[Generator, torch.Size], Tensor]) -> Tensor:
        """Return one random tensor per active sample (N, …), zero for the others.

        The generator handed to ``sampler`` is seeded by (seed, sample id, restart, number of draws before):
        neither batch size nor order nor the choice of a subset changes what a sample gets.

        Args:
            sampler: Generator on the CPU, shape of one sample → a tensor of that shape.
        """
        generator = Generator()
        drawn = torch.zeros(self.images.shape)
        for row in self.active.nonzero().flatten().tolist():
            generator.manual_seed(derive_seed(self._settings.seed, self._sample_ids[row], self.restart, self._draws))
            drawn[row] = sampler(generator, self.images.shape[1:])
        self._draws += 1
        self.has_drawn = True
        return drawn.to(self.images.device)

    def random_start(self) -> Tensor:
        """Return points (N, …) drawn uniformly from the ε-ball around the images, moved into the box."""
        norm = self._settings.norm
        return self.project(self.images + self.draw(lambda generator, shape: norm.draw(generator, shape, self.epsilon)))

    def project(self, points: Tensor) -> Tensor:
        """Return points (N, …) moved into the ε-ball around the images, then into the box [0, 1]."""
        return contain(points, self.images, self.epsilon, self._settings.norm)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return directions (N, …) of norm 1 along which the loss rises fastest; zero for a zero gradient."""
        return self._settings.norm.steepest(gradient)

    def gradient(self, points: Tensor, loss: str | Loss = "ce") -> Tensor:
        """Return the gradient (N, …) of each sample's loss, along which it rises; zero where not active."""
        return self.loss_and_gradient(points, loss)[1]

    def loss_and_gradient(self, points: Tensor, loss: str | Loss = "ce") -> tuple[Tensor, Tensor]:
        """Return losses (N,) at the points and their gradients (N, …); zero where not active.

        Args:
            points: (N, …); contained before use, so the values are those of ``project(points)``.
            loss: A name in `robustprune.attacks.losses.LOSSES`, or logits (n, K), labels (n,) → (n,).
        """
        objective = get_loss(loss)
        losses = torch.zeros(len(self.labels), device=self.images.device)
        gradients = torch.zeros_like(self.images)
        for rows, batch in self._batches(points):
            batch.requires_grad_()
            logits = self._forward(batch)
            batch_losses = objective(logits, self.labels[rows])
            if batch_losses.shape != rows.shape:
                raise AttackError(f"a loss must return one number per sample, not shape {tuple(batch_losses.shape)}")
            gradients[rows] = self._ascent(batch_losses, batch)
            losses[rows] = batch_losses.detach().to(losses.dtype)
            self._record(rows, batch.detach(), logits.detach(), objective)
        self._had_gradients = True
        return losses, gradients

    def evaluate(self, points: Tensor, loss: str | Loss = "ce") -> Tensor:
        """Return the logits (N, K) at the points, without gradients.

        Samples that are not active keep the logits of the point kept for them.

        Args:
            points: (N, …); contained before use.
            loss: As in `loss_and_gradient`; of two points that do not break a sample, the one of higher loss
                is kept.
        """
        objective = get_loss(loss)
        answer = self.ledger.logits.clone()
        with torch.no_grad():
            for rows, batch in self._batches(points):
                logits = self._forward(batch)
                answer[rows] = logits
                self._record(rows, batch, logits, objective)
        return answer

    def _batches(self, points: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if points.shape != self.images.shape:
            raise AttackError(
                f"the attack proposed points of shape {tuple(points.shape)} for images of shape "
                f"{tuple(self.images.shape)}"
            )
        self.queries += 1
        active = self.active.nonzero().flatten()
        for rows in torch.split(active, self._settings.batch_size) if len(active) else ():
            batch = points.detach().to(self.images.device)[rows].float()
            if not batch.isfinite().all():
                raise AttackError("the attack proposed points with NaN or infinity")
            yield rows, contain(batch, self.images[rows], self.epsilon, self._settings.norm)
            self._on_batch(len(rows))

    def _record(self, rows: Tensor, points: Tensor, logits: Tensor, objective: Loss) -> None:
        self._tally.forwards += len(rows)
        self._tally.not_finite += int((~logits.isfinite()).any(dim=1).sum())
        self.ledger.record(rows, points, logits, objective, self.queries)

    def _ascent(self, losses: Tensor, batch: Tensor) -> Tensor:
        """Return the gradient, with zeros, and a note in the tally, where there is none to be had."""
        gradient = None
        if losses.requires_grad:
            (gradient,) = torch.autograd.grad(losses.sum(), batch, allow_unused=True)
        self._tally.gradients += len(batch)
        if gradient is None:
            self._tally.without_graph += len(batch)
            return torch.zeros_like(batch)
        flat = gradient.flatten(1)
        is_finite = flat.isfinite().all(dim=1)
        self._tally.not_finite += int((~is_finite).sum())
        if not self._had_gradients:
            self._tally.first_gradients += int(is_finite.sum())
            self._tally.zero_gradients += int((flat == 0).all(dim=1).sum())
        return gradient.masked_fill(~is_finite.reshape(-1, *([1] * (batch.ndim - 1))), 0)
